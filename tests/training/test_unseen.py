from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig
from mofgap.gap.folder import read_model
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.training import unseen
from mofgap.training.compute import Compute
from mofgap.training.config import PretrainConfig
from mofgap.training.encoder_folder import find_encoder, save_encoder
from mofgap.training.pretrain import pretrain
from mofgap.training.unseen import (
    LEAST_SEEN,
    element_counts,
    named_substitutes,
    substitute,
    substitute_in,
    substitute_unseen,
    substitutes_of,
)

COUNTS = np.zeros(119, dtype=int)
COUNTS[[6, 8, 13, 22, 30, 40]] = [50, 50, 20, LEAST_SEEN - 1, 30, LEAST_SEEN]


def test_unseen_elements_are_read_as_those_that_are_seen_often() -> None:
    found = substitutes_of(COUNTS)
    assert next(iter(found["Hf"])) == "Zr"
    assert next(iter(found["Ga"])) == "Al"
    assert "Ti" not in found, "it was seen"
    assert all("Ti" not in shares for shares in found.values()), (
        "but in too few structures to stand for others"
    )
    assert substitutes_of(np.zeros(119)) == {}


def test_named_elements_stand_for_one_that_was_never_seen() -> None:
    found = named_substitutes(COUNTS, {"Ta": ["Ti", "Zr"]})
    assert found["Ta"] == {"Ti": 0.5, "Zr": 0.5}, "though one has few structures"
    assert found["Hf"] == substitutes_of(COUNTS)["Hf"]
    with pytest.raises(ValueError, match="Zn is in 30 training structures, so nothing else can stand"):
        named_substitutes(COUNTS, {"Zn": ["Al"]})
    with pytest.raises(ValueError, match="Nb is in no training structure, so it cannot stand for Ta"):
        named_substitutes(COUNTS, {"Ta": ["Zr", "Nb"]})


@pytest.mark.parametrize(
    ("named", "words"), [("Ru", "'' is no symbol"), ("Xx=Fe", "'Xx' is no symbol"), ("Zn=Cd", "Zn is in")]
)
def test_a_wrong_reading_ends_with_a_message(
    named: str,
    words: str,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["unseen", str(model_folder), "--read-as", named])
    with pytest.raises(SystemExit):
        unseen.main()
    assert words in capsys.readouterr().err


def test_a_row_becomes_the_mean_of_others() -> None:
    table = torch.arange(101.0)[:, None].repeat(1, 3)
    substitute([table], {"Hf": {"Zr": 0.75, "Zn": 0.25}})
    torch.testing.assert_close(table[72], torch.full((3,), 37.5))
    assert torch.equal(table[73], torch.full((3,), 73.0))


def test_structures_are_counted_not_atoms() -> None:
    counts = element_counts([np.array([6, 6, 8]), torch.tensor([6], dtype=torch.uint8)])
    assert counts[6] == 2
    assert counts[8] == 1
    assert len(counts) == 101


def test_a_training_learns_some_and_leaves_the_others(tiny_encoder: CrystalTransformerConfig) -> None:
    shares = {"Hf": {"Zr": 1.0}, "Ga": {"Al": 1.0}}
    model = GapModel(GapModelConfig(encoder_settings=vars(tiny_encoder), rank=2, substitutes=shares))
    (table, *_) = model.encoder.element_tables
    own = table.weight[31].clone()
    substitute_unseen(model, [np.array([31, 8])])
    assert dict(model.config.substitutes) == {"Hf": {"Zr": 1.0}}
    assert torch.equal(table.weight[72], table.weight[40])
    assert torch.equal(table.weight[31], own)


def test_a_model_on_disk_changes_in_rows_of_unseen_elements_alone(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in model_folder.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(model_folder)).parent.mkdir(exist_ok=True)
            (folder / path.relative_to(model_folder)).write_bytes(path.read_bytes())
    before, found = load_file(folder / "model.safetensors"), substitute_in(folder, COUNTS)
    model = read_model(folder)[0]
    assert model.config.substitutes == found
    after = load_file(folder / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"encoder.{name}.weight" for name in ("element", "bonds.centre", "bonds.other")}
    rows = (before["encoder.element.weight"] != after["encoder.element.weight"]).any(1)
    assert not rows[[0, 6, 8, 13, 22, 30, 40]].any()
    assert rows[[31, 72]].all()
    assert substitute_in(folder, COUNTS) == found, "and again"
    assert torch.equal(
        load_file(folder / "model.safetensors")["encoder.element.weight"], after["encoder.element.weight"]
    )


def test_an_encoder_says_what_it_reads_as_what(
    tmp_path: Path, tiny_encoder: CrystalTransformerConfig
) -> None:
    described = {"architecture": "crystal-transformer", "encoder": vars(tiny_encoder)}
    save_encoder(tmp_path, CrystalTransformer(tiny_encoder).state_dict(), described)
    assert find_encoder(str(tmp_path)).substitutes == {}
    found = substitute_in(tmp_path, COUNTS)
    assert find_encoder(str(tmp_path)).substitutes == found
    weight = load_file(tmp_path / "encoder.safetensors")["element.weight"]
    assert not torch.equal(weight[72], weight[73])


@pytest.fixture
def common(tiny_frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([tiny_frame.assign(structure_id=tiny_frame.structure_id + f"-{i}") for i in range(2)])


def test_pretraining_ends_with_it(
    common: pd.DataFrame, tmp_path: Path, tiny_encoder: CrystalTransformerConfig
) -> None:
    config = PretrainConfig(epochs=1, batch_atoms=60)
    path = pretrain(
        common,
        tmp_path,
        "crystal-transformer",
        vars(tiny_encoder),
        config,
        compute=Compute("cpu", progress=False),
    )
    substitutes = json.loads((tmp_path / "encoder.json").read_text())["substitutes"]
    assert substitutes["Hf"] == {"Zn": 1.0}, "the only metal of the table"
    weight = load_file(path)["element.weight"]
    torch.testing.assert_close(weight[72], weight[30])
    assert not torch.equal(weight[40], weight[8])
