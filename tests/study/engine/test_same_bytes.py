"""Two runs of one configuration give the same bytes; what they cost stands apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mofgap.shipped import COST
from mofgap.study.config import SplitConfig, Trainings
from mofgap.study.engine.comparison import report
from mofgap.study.engine.config import RunConfig
from mofgap.study.layout import COSTS, MANIFEST, Layout
from mofgap.whole_file import read_json

DoStages = Callable[[RunConfig, Path], list[str]]
OF_THE_RUN = ("stages/", "logs/")
"""Folders that tell when, where and at what cost stages were done."""


def results(run: Path) -> dict[str, bytes]:
    """The files of a run, but those of what stages cost."""
    files = {path.relative_to(run).as_posix(): path for path in run.rglob("*") if path.is_file()}
    is_cost = ("/" + COST, ".cost.json", COSTS)
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if not name.startswith(OF_THE_RUN) and not name.endswith(is_cost)
    }


@pytest.fixture(scope="module")
def twice(
    small: RunConfig, do_stages: DoStages, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunConfig, Path, Path]:
    assert small.comparison is not None
    trainings = SplitConfig(trainings=Trainings(0, 0, 1, 0, 0, 2))
    config = replace(small, comparison=replace(small.comparison, splits={"split": trainings}), report=True)
    # The page names the folder of its run.
    one, two = (tmp_path_factory.mktemp(name) / "run" for name in ("one", "two"))
    do_stages(config, one)
    do_stages(config, two)
    return config, one, two


def test_two_runs_give_the_same_bytes(twice: tuple[RunConfig, Path, Path]) -> None:
    one, two = map(results, twice[1:])
    assert {"comparison.json", "comparison.md", "comparison.parquet", "report.html"} <= set(one)
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_a_page_names_no_earlier_command(twice: tuple[RunConfig, Path, Path]) -> None:
    config, _, run = twice
    before = (run / "report.html").read_bytes()
    (run / MANIFEST).write_text('{"command": "mofgap run another.yaml", "mofgap": "0.0.1"}')
    report(config.comparison_in(run), run)
    (run / MANIFEST).unlink()
    assert (run / "report.html").read_bytes() == before


def test_costs_are_kept_apart_and_are_no_results(twice: tuple[RunConfig, Path, Path]) -> None:
    import pandas as pd

    _, one, _ = twice
    costs = pd.read_csv(one / COSTS)
    ensemble = costs[costs.method == "lora-ensemble"].sort_values("n_samples")
    assert (costs.train_cpu_seconds.dropna() >= 0).all() and (costs.peak_memory_mb.dropna() > 50).all()
    assert ensemble.predict_ms.is_monotonic_increasing and (ensemble.predict_ms > 0).all()
    for stage, file in (("train/split/lora-seed0", COST), ("predict/split/lora-seed0", ".cost.json")):
        outputs = read_json(one / f"stages/{stage}.record.json")["outputs"]
        assert outputs and not [name for name in outputs if name.endswith(file)]
    assert Layout(one).prediction_cost("split/lora-seed0").exists()
