"""A method is one class and one line: here both are made by a test, and a comparison takes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mofgap.gap.model import GapModel
from mofgap.study.config import (
    ComparisonConfig,
    DataConfig,
    JudgementConfig,
    PredictionConfig,
    SplitConfig,
    Trainings,
)
from mofgap.study.engine.config import RunConfig
from mofgap.study.methods import training
from mofgap.study.methods.method import Estimated, Estimates, Estimator, Method, PredictionTask
from mofgap.study.methods.network import ADAPTERS, TrainedMethod
from mofgap.study.methods.registry import METHODS
from mofgap.study.planned import Prediction
from mofgap.study.report.compared import read_compared
from mofgap.study.report.page import comparison_page


class Median(Method):
    """A baseline: the median of the training gaps."""

    estimators = (Estimator("median", "median of training", has_spread=False),)
    kind = "baseline"

    def predictions(self, config: ComparisonConfig, split: str) -> Iterator[Prediction]:
        yield Prediction(split, self.name)

    def predict(self, task: PredictionTask) -> Estimated:
        n = len(task.rows.all)
        gap = np.full(n, np.median(task.dataset.gap_ev[task.rows.train]))
        return {("median", 0): Estimates(gap, np.full(n, np.nan), np.full(n, 1.0), 0.0)}


class Halved(TrainedMethod):
    """A network: adapters, whose epistemic spread is said to be half the aleatoric one."""

    estimators = (Estimator("halved", "LoRA, halved"),)
    adaptation = "lora"
    training = __name__
    n_trainings = 2
    reads = ADAPTERS

    def estimate(self, task: PredictionTask, model: GapModel) -> Estimated:
        found = super().estimate(task, model)
        own = found["halved", 0]
        return {("halved", 0): replace(own, epistemic_std_ev=own.aleatoric_std_ev / 2)}

    def cost(self, estimator: str, n_samples: int) -> float:
        return 7.0


trained: list[str] = []


def train(config: ComparisonConfig, run: Path, name: str) -> None:
    """A training of its own, which here does what the others do."""
    trained.append(name)
    training.train(config, run, name)


def test_a_new_method_goes_through_a_comparison(
    tiny_config: ComparisonConfig,
    do_stages: Callable[[RunConfig, Path], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("Median", "Halved"):
        monkeypatch.setitem(METHODS, name.lower(), f"{__name__}:{name}")
    comparison = replace(
        tiny_config,
        data=DataConfig(tiny_config.data.table),
        splits={"split": SplitConfig(trainings=Trainings(0, 0, 1, 0, 0, 0, others={"halved": 1}))},
        ablations={},
        prediction=PredictionConfig((1,), n_val=None),
        judgement=JudgementConfig(n_draws=10),
    )
    done = do_stages(RunConfig("new", comparison=comparison, report=False), tmp_path)
    new = {"train/split/halved-seed0", "predict/split/halved-seed0", "predict/split/median-seed0"}
    assert new <= set(done) and trained == ["split/halved-seed0"]
    found = pd.read_parquet(tmp_path / "predictions.parquet")
    halved, median = (found[found.method == name] for name in ("halved", "median"))
    np.testing.assert_allclose(halved.epistemic_std_ev, halved.aleatoric_std_ev / 2)
    assert median.gap_ev.nunique() == 1
    entries = json.loads((tmp_path / "comparison.json").read_text())["methods"]
    about = {entry["method"]: (entry["kind"], entry["mean"]["forward_passes"]) for entry in entries}
    assert about["halved"] == ("trained", 7.0) and about["median"] == ("baseline", None)
    text = (tmp_path / "comparison.md").read_text()
    assert "| halved |" in text and "| median |" in text
    page = comparison_page(read_compared(tmp_path))
    assert "LoRA, halved" in page and "median of training" in page
