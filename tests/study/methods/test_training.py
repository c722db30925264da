"""What is judged is what ships: a member of a comparison is a model of ``mofgap train``."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mofgap.gap.folder import About, read_model
from mofgap.study.config import ComparisonConfig
from mofgap.study.dataset import read
from mofgap.study.layout import SIZE, Layout
from mofgap.study.members import member, members
from mofgap.study.methods.training import describe, training_config
from mofgap.training.compute import Compute
from mofgap.training.encoder_folder import find_encoder
from mofgap.training.labels import Labels
from mofgap.training.network import network
from mofgap.training.recipe import train
from mofgap.uncertainty.novelty import NoveltyIndex
from mofgap.whole_file import read_json

CONTENT = ("model.safetensors", "calibration.json")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_member_is_what_the_same_settings_train_outside_a_comparison(
    method: str, finished: Path, tiny_config: ComparisonConfig, tmp_path: Path
) -> None:
    wanted = member(tiny_config, f"split/{method}-seed0")
    config, found = training_config(wanted), find_encoder(tiny_config.encoder)
    labels, _ = read(finished).labels(wanted.split, wanted.recipe.n_train)
    atoms = pd.read_parquet(tiny_config.data.table).set_index("structure_id")
    frame = labels.frame.join(atoms[["cell_angstrom", "frac_coords"]], on="structure_id")
    outcome = train(
        Labels(frame, "gap_ev", ()),
        tmp_path / "model",
        network(config, found),
        config.finetuning,
        found.weights,
        About("outside"),
        compute=Compute("cpu", progress=False),
    )
    inside = Layout(finished).member(wanted.name)
    files = [*CONTENT, *(["adapter/adapter_model.safetensors"] if method == "lora" else [])]
    for name in files:
        assert (inside / name).read_bytes() == (tmp_path / "model" / name).read_bytes(), name
    assert read_json(inside / SIZE)["n_trainable"] == outcome.n_trainable > 0


def test_a_member_has_no_neighbour_correction_of_its_own(finished: Path) -> None:
    assert read_model(Layout(finished).member("split/balora-seed0"))[0].correction is None


def test_describing_a_member_anew_keeps_what_it_says(
    finished: Path, tiny_config: ComparisonConfig, tmp_path: Path
) -> None:
    finished = shutil.copytree(finished, tmp_path / "run")
    folder = Layout(finished).member("split/balora-seed0")
    before = {name: (folder / name).read_bytes() for name in CONTENT}
    describe(tiny_config, finished, "split/balora-seed0")
    assert {name: (folder / name).read_bytes() for name in CONTENT} == before
    fewer = replace(tiny_config, prediction=replace(tiny_config.prediction, n_val=25))
    describe(fewer, finished, "split/balora-seed0")
    assert len(read_model(folder)[2].residuals[0].values) == 25


def test_a_kill_while_it_is_described_anew_leaves_the_member(
    finished: Path, tiny_config: ComparisonConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = shutil.copytree(finished, tmp_path / "run")
    folder = Layout(finished).member("split/balora-seed0")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NoveltyIndex, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        describe(tiny_config, finished, "split/balora-seed0")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_dropout_is_that_of_its_own_method_alone(tiny_config: ComparisonConfig) -> None:
    rates = {m.method: training_config(m).dropout for m in members(tiny_config) if not m.variant}
    assert rates.pop("dropout") == tiny_config.recipe.dropout > 0
    assert set(rates.values()) == {0.0}
