from __future__ import annotations

from collections.abc import Callable
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mofgap.__main__ import app
from mofgap.study.config import (
    ComparisonConfig,
    DataConfig,
    JudgementConfig,
    PredictionConfig,
    SplitConfig,
    Trainings,
)
from mofgap.study.engine.config import RunConfig


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Two LoRA and one BaLoRA training on a table that is there, and empty."""
    table = tmp_path_factory.mktemp("table") / "table.parquet"
    table.touch()
    trainings = Trainings(full=0, scratch=0, lora=1, balora=1, dropout=0, ensemble=2)
    splits = {"split": SplitConfig(trainings=trainings)}
    return RunConfig("x", comparison=ComparisonConfig(data=DataConfig(table), splits=splits))


@pytest.fixture(scope="session")
def small(tiny_config: ComparisonConfig) -> RunConfig:
    """A comparison of one training, which takes seconds."""
    comparison = replace(
        tiny_config,
        data=DataConfig(tiny_config.data.table),
        splits={"split": SplitConfig(trainings=Trainings(0, 0, 1, 0, 0, 0))},
        ablations={},
        prediction=PredictionConfig((1,), n_val=None),
        judgement=JudgementConfig(n_draws=10),
    )
    return RunConfig("small", comparison=comparison, report=False)


@pytest.fixture(scope="session")
def here() -> Callable[..., Result]:
    """Calls mofgap in this process, in some working directory, where its process is not what is tested."""

    def call(*arguments: object, at: Path) -> Result:
        with chdir(at):
            return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)

    return call


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"
