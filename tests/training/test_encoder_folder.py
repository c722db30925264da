from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from mofgap.encoders.crystal_transformer import CrystalTransformerConfig
from mofgap.gap.folder import ModelError
from mofgap.training import encoder_folder
from mofgap.training.encoder_folder import find_encoder, save_encoder, seal_encoder


@pytest.fixture
def folder(tmp_path: Path, encoder_file: Path, tiny_encoder: CrystalTransformerConfig) -> Path:
    path = tmp_path / "mine"
    path.mkdir()
    save_encoder(path, load_file(encoder_file), {"encoder": asdict(tiny_encoder)})
    return path


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_was_saved_is_found(folder: Path, tiny_encoder: CrystalTransformerConfig) -> None:
    assert find_encoder(str(folder)).config == tiny_encoder


def test_a_setting_that_was_edited_is_refused(folder: Path, tiny_encoder: CrystalTransformerConfig) -> None:
    edit(folder, encoder=asdict(tiny_encoder) | {"cutoff_angstrom": 4.0})
    with pytest.raises(ModelError, match=r"encoder\.json was changed"):
        find_encoder(str(folder))
    seal_encoder(folder)
    assert find_encoder(str(folder)).config.cutoff_angstrom == 4.0


def test_an_encoder_of_an_older_version_has_no_digest(folder: Path) -> None:
    described = json.loads((folder / "encoder.json").read_text())
    del described["digest"]
    (folder / "encoder.json").write_text(json.dumps(described))
    assert find_encoder(str(folder)).weights.is_file()


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[1]", '{"digest": 1}'])
def test_a_damaged_description_is_named(folder: Path, text: str) -> None:
    (folder / "encoder.json").write_text(text)
    with pytest.raises(ModelError, match=r"encoder\.json"):
        find_encoder(str(folder))


def test_weights_that_were_changed_are_named(folder: Path) -> None:
    content = bytearray((folder / "encoder.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "encoder.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"encoder\.safetensors"):
        find_encoder(str(folder))


def test_another_encoder_in_the_place_of_a_shipped_one_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = {"mine": json.loads((folder / "encoder.json").read_text())["digest"]}
    monkeypatch.setattr(encoder_folder, "shipped_digests", lambda: shipped)
    monkeypatch.setattr(encoder_folder, "shipped_folder", lambda kind: folder.parent)
    find_encoder(str(folder))
    edit(folder, pretraining={"seed": 1})
    seal_encoder(folder)
    with pytest.raises(ModelError, match="not the encoder that this mofgap ships"):
        find_encoder(str(folder))
    find_encoder(str(folder.rename(folder.with_name("other"))))
