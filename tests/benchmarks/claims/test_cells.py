from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.claims import __main__ as command
from benchmarks.claims.arms import collected
from benchmarks.claims.cells import Cells
from benchmarks.claims.config import ClaimsConfig, JudgementConfig, LanguageConfig, TrainingConfig
from benchmarks.claims.methods import METHODS, fit
from benchmarks.claims.verdicts import CLAIMS
from mofgap.configuration import ConfigurationError, from_dict, load

CONFIG = ClaimsConfig(
    name="quick",
    modality="language",
    language=LanguageConfig(),
    training=TrainingConfig(epochs=1, batch=20, tries=1, ranks=(2,), tuning_samples=2),
    trainings=2,
    members=2,
    groups=2,
    samples=(1, 2, 4, 8),
    shifted_samples=2,
    judgement=JudgementConfig(n_draws=10),
)


@pytest.fixture
def cells(tmp_path) -> Cells:
    found = Cells(tmp_path / "run", CONFIG)
    found.check()
    return found


def test_a_run_goes_on_and_is_judged(cells, task, backbone, monkeypatch) -> None:
    paths = list(cells.train(task, backbone))
    assert len(paths) == len(set(paths)) == 4 + 5 * 2
    before = {path: path.read_bytes() for path in paths}
    monkeypatch.setattr("benchmarks.claims.cells.fit", None)  # nothing is trained twice
    assert list(cells.train(task, backbone)) == paths
    assert {path: path.read_bytes() for path in paths} == before

    command.judge(cells)
    tables = {path.stem: list(csv.DictReader(path.open())) for path in (cells.folder / "tables").iterdir()}
    assert {row["claim"] for row in tables["verdicts"]} == set(CLAIMS)
    assert {row["method"] for row in tables["cost"]} == set(CONFIG.methods)
    assert sum(row["taken"] == "True" for row in tables["tries"]) == len(CONFIG.methods)
    far = [row for row in tables["scores"] if row["split"] == "unlabelled"]
    assert {row["score"] for row in far} == {"auroc_shifted", "auroc_shifted_epistemic"}


def test_tries_may_learn_from_fewer_inputs(cells, task, backbone, monkeypatch) -> None:
    trained: list[int] = []

    def fitted(method, own, *others):
        trained.append(len(own.train))
        return fit(method, own, *others)

    monkeypatch.setattr("benchmarks.claims.cells.fit", fitted)
    training = replace(CONFIG.training, tried_on=20)
    one = replace(CONFIG, training=training, methods=("full",), trainings=1)
    list(Cells(cells.folder, one).train(task, backbone))
    assert trained == [20, 60]


def test_constants_are_tried_with_the_best_rank_and_rate(cells, task, backbone) -> None:
    training = replace(
        CONFIG.training, tries=2, rates=(1e-2, 1e-3), betas=(0.01, 1.0, 0.1), every_constant=True
    )
    both = Cells(cells.folder, replace(CONFIG, training=training))
    found = both.tried(task, backbone, METHODS["balora"])
    best = min(found[:2], key=lambda each: each["val_nll"])
    assert sorted(each["constant"] for each in found[2:]) == sorted({0.01, 0.1, 1.0} - {best["constant"]})
    assert {(each["rate"], each["rank"]) for each in found[2:]} == {(best["rate"], best["rank"])}
    assert len(both.tried(task, backbone, METHODS["lora"])) == 2


def test_members_of_ensembles_are_disjoint(cells, task, backbone) -> None:
    lora = replace(CONFIG, methods=("lora",))
    paths = list(Cells(cells.folder, lora).train(task, backbone))
    arms = collected(paths[0].parent, members=2)
    single, ensemble = arms.arm("lora", 1), arms.arm("ensemble", 2)
    np.testing.assert_allclose(ensemble.predicted[1], single.predicted[2:4].mean(0))
    assert ensemble.n_seeds == 2
    assert arms.arm("laplace", 0).n_seeds == CONFIG.trainings


def test_numbers_of_samples_are_those_of_the_settings(cells, task, backbone) -> None:
    balora = Cells(cells.folder, replace(CONFIG, methods=("balora",)))
    list(balora.train(task, backbone))
    arms = collected(cells.folder / "cells" / task.name, members=2)
    assert [n for way, n in arms.ways if way == "balora"] == [1, 2, 4, 8]
    assert arms.arm("balora", 8).n_seeds == 2
    assert ("balora", 4, "far") not in arms.estimates


def test_results_of_other_settings_are_refused(cells) -> None:
    other = replace(CONFIG, samples=(1, 2))
    with pytest.raises(ConfigurationError, match=str(cells.folder)):
        Cells(cells.folder, other).check()
    Cells(cells.folder, replace(CONFIG, judgement=JudgementConfig(level=0.9))).check()


@pytest.mark.parametrize(
    "path", sorted(Path(command.__file__).parent.glob("*.yaml")), ids=lambda path: path.stem
)
def test_settings_of_the_repository_are_read(path) -> None:
    assert load(ClaimsConfig, path).name == f"claims-{path.stem.replace('_', '-')}"


def test_an_unknown_key_and_a_missing_section_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="langage"):
        from_dict(ClaimsConfig, {"name": "a", "modality": "language", "langage": {}})
    with pytest.raises(ConfigurationError, match="vision"):
        ClaimsConfig(name="a", modality="vision")
