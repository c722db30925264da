from __future__ import annotations

from pathlib import Path

import pytest

from mofgap.study.config import ComparisonConfig, DataConfig, SplitConfig, Trainings
from mofgap.study.engine.config import RunConfig


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Two LoRA and one BaLoRA training on a table that is there, and empty."""
    table = tmp_path_factory.mktemp("table") / "table.parquet"
    table.touch()
    trainings = Trainings(full=0, scratch=0, lora=1, balora=1, dropout=0, ensemble=2)
    splits = {"split": SplitConfig(trainings=trainings)}
    return RunConfig("x", comparison=ComparisonConfig(data=DataConfig(table), splits=splits))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"
