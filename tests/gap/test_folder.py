from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file

from mofgap.choices import ADAPTATIONS, Adaptation
from mofgap.configuration import digest
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import crystal_graph
from mofgap.encoders.registry import build_encoder
from mofgap.gap import folder as folders
from mofgap.gap.folder import About, ModelError, find_model, read_config, read_model, save_model, seal
from mofgap.gap.model import GapModel
from mofgap.gap.posterior import posterior
from mofgap.gap.predictor import GapPredictor, load_model
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.novelty import NoveltyIndex


def change_config(folder: Path, **changes: Any) -> None:
    """Edit ``config.json`` with the digest that fits, if its version has one."""
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    content.pop("digest", None)
    has_none = content["version"] in range(-1, folders.FIRST_WITH_DIGEST)
    path.write_text(json.dumps(content if has_none else content | {"digest": digest(content)}))


@pytest.mark.parametrize("method", ADAPTATIONS)
def test_a_model_comes_back_as_it_was_saved(
    tmp_path: Path,
    method: Adaptation,
    make_model: Callable[..., GapModel],
    make_novelty: Callable[[GapModel], NoveltyIndex],
    make_crystal: Callable[..., Crystal],
) -> None:
    model = make_model(method).requires_grad_(False)
    about = About("mine", level_of_theory="PBE", citation="somebody")
    save_model(tmp_path / "mine", model, about, Calibration.raw(), make_novelty(model))
    loaded, about_read, calibration, novelty = read_model(tmp_path / "mine")
    assert about_read == about
    assert calibration == Calibration.raw()
    assert loaded.config == model.config
    assert not loaded.training
    graph = crystal_graph(make_crystal(1), model.graph_config)
    before, after = posterior(model, graph), posterior(loaded, graph)
    for name in ("gap_ev", "epistemic_std_ev", "aleatoric_std_ev", "features"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    np.testing.assert_array_equal(novelty.points, make_novelty(model).points)


def test_adapters_load_in_peft_with_the_same_mean(
    folder: Path, predictor: GapPredictor, make_crystal: Callable[..., Crystal]
) -> None:
    config = predictor.model.config
    encoder = build_encoder(config.encoder, config.encoder_settings).eval()
    weights = load_file(folder / "model.safetensors")
    encoder.load_state_dict(
        {k.removeprefix("encoder."): v for k, v in weights.items() if k.startswith("encoder.")}
    )
    graph = crystal_graph(make_crystal(2), predictor.model.graph_config)
    plain = encoder(graph)
    theirs = peft.PeftModel.from_pretrained(encoder, str(folder / "adapter")).eval()
    adapted = [n for n, m in theirs.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    assert len(adapted) == len(predictor.model.layers) == 12
    torch.testing.assert_close(theirs(graph), predictor.model.encoder(graph), atol=1e-5, rtol=1e-5)
    assert (theirs(graph) - plain).abs().max() > 0.1


@pytest.mark.parametrize(
    "name", ["model.safetensors", "adapter/adapter_model.safetensors", "calibration.json"]
)
def test_a_damaged_or_missing_file_is_named(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-5] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=name):
        read_model(folder)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        read_model(folder)


@pytest.mark.parametrize(
    ("old", "new"), [('"n_neighbours": 8', '"n_neighbours": 4'), ('"tiny"', '"qmof-pbe"')]
)
def test_a_config_that_was_edited_is_refused(folder: Path, old: str, new: str) -> None:
    path = folder / "config.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ModelError, match=r"config\.json was changed"):
        read_config(folder)


@pytest.mark.parametrize("version", [4, folders.VERSION])
def test_every_file_that_is_read_must_have_a_hash(folder: Path, version: int) -> None:
    sums = read_config(folder)["sha256"]
    assert len(sums) == 7
    change_config(folder, version=version)
    read_model(folder)
    for name in sums:
        change_config(folder, sha256={k: v for k, v in sums.items() if k != name})
        with pytest.raises(ModelError, match=rf"config\.json has no sha256 of {name}"):
            read_model(folder)


def test_a_folder_of_version_4_has_no_digest(folder: Path) -> None:
    path = folder / "config.json"
    old = json.loads(path.read_text()) | {"version": 4}
    del old["digest"]
    path.write_text(json.dumps(old))
    assert read_model(folder)[1].name == "tiny"
    path.write_text(json.dumps(old | {"version": 5}))
    with pytest.raises(ModelError, match=r"config\.json was changed"):
        read_model(folder)


def test_a_digest_in_a_version_that_has_none_says_nothing(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 4}))
    assert "digest" not in folders.read_config(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "novelty.safetensors", "calibration.json"])
@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"[" * 100_000, b'{"a": 1}'])
def test_a_file_that_was_damaged_before_it_was_hashed_is_told(
    folder: Path, name: str, content: bytes
) -> None:
    (folder / name).write_bytes(content)
    seal(folder)
    with pytest.raises(ModelError, match="tiny"):
        read_model(folder)


def test_a_shipped_model_that_was_changed_says_so(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = {"tiny": seal(folder), "other": "0"}
    monkeypatch.setattr(folders, "shipped_digests", lambda: shipped)
    monkeypatch.setattr(folders, "shipped_folder", lambda kind: tmp_path)
    assert load_model(folder).about.name == "tiny"
    change_config(folder, model={**read_config(folder)["model"], "prior_rate": 0.2})
    assert load_model(folder).about.name == "tiny (changed)"
    change_config(folder, about={"name": "mine"})  # in the place of a shipped one, whatever it says
    assert load_model(folder).about.name == "mine (changed)"
    assert load_model(folder.rename(tmp_path / "mine")).about.name == "mine"
    change_config(tmp_path / "mine", version=4, about={"name": "tiny"})
    assert load_model(tmp_path / "mine").about.name == "tiny (changed)"


@pytest.mark.parametrize("text", ["{", "[1, 2]", "", '{"version": 1}', "null", "[" * 100_000])
def test_a_damaged_config_is_named(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json|has version 0"):
        read_model(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"version": "3"},
        {"sha256": []},
        {"about": {}},
        {"about": {"name": 3}},
        {"model": {"noise_hidden": 7}},
        {"model": {"method": "guess"}},
        {"model": {"rank": 99}},
        {"model": {"target_modules": ["nothing"]}},
    ],
)
def test_a_config_that_was_edited_is_named(folder: Path, change: dict[str, Any]) -> None:
    if "model" in change:
        change = {"model": read_config(folder)["model"] | change["model"]}
    change_config(folder, **change)
    with pytest.raises(ModelError, match=r"config\.json"):
        read_model(folder)


def test_an_unknown_key_names_the_nearest(folder: Path) -> None:
    model = read_config(folder)["model"]
    change_config(folder, model=model | {"head_hiden": 3})
    with pytest.raises(ModelError, match=r"config\.json.*'head_hiden'; did you mean 'head_hidden'"):
        read_model(folder)


def test_a_version_from_the_future_is_refused(folder: Path) -> None:
    change_config(folder, version=folders.VERSION + 1)
    with pytest.raises(ModelError, match="upgrade mofgap") as error:
        read_model(folder)
    assert str(folder) in str(error.value)


def test_an_older_version_is_upgraded_step_by_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = read_config(folder)
    about = {"title" if key == "name" else key: value for key, value in described["about"].items()}
    change_config(folder, version=-1, about=about)
    with pytest.raises(ModelError, match="version -1"):
        read_model(folder)

    def renamed(old: dict[str, Any]) -> dict[str, Any]:
        kept = {k: v for k, v in old["about"].items() if k != "title"}
        return old | {"version": 0, "about": kept | {"name": old["about"]["title"]}}

    monkeypatch.setitem(folders.UPGRADES, -1, renamed)
    monkeypatch.setitem(folders.UPGRADES, 0, lambda old: old | {"version": 1})
    assert read_config(folder)["about"] == described["about"]
    assert read_model(folder)[1] == About(**described["about"])


def test_a_killed_save_leaves_nothing_that_loads(
    tmp_path: Path, folder: Path, predictor: GapPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folders, "save_adapters", killed)
    with pytest.raises(KeyboardInterrupt):
        save_model(folder, predictor.model, predictor.about, predictor.calibration, predictor.novelty)
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        read_model(folder)


def test_models_are_found_by_folder_or_by_shipped_name(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_model(folder) == folder
    monkeypatch.setattr("mofgap.shipped.shipped_folder", lambda kind: folder.parent)
    assert find_model("tiny") == folder
    other = shutil.copytree(folder, tmp_path / "here" / "tiny")
    monkeypatch.chdir(other.parent)
    assert find_model("tiny") == folder, "a folder here does not take the place of the shipped model"
    assert find_model("./tiny").resolve() == find_model(Path("tiny")).resolve() == other
    with pytest.raises(ModelError, match=r"tinny: .*did you mean 'tiny'"):
        find_model("tinny")
    with pytest.raises(ModelError, match="did you mean 'tiny'"):
        find_model("TINY")
    with pytest.raises(ModelError, match="known: tiny"):
        load_model("zzzz")
