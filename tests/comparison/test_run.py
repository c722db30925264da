from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mofgap.comparison.config import ComparisonConfig


@pytest.fixture(scope="module")
def table(finished: Path) -> pd.DataFrame:
    return pd.read_parquet(finished / "comparison.parquet")


def test_every_method_stands_on_the_first_split(table: pd.DataFrame) -> None:
    mine = table[(table.split == "split") & (table.variant == "")]
    assert set(mine.method) == {
        "mean",
        "composition",
        "scratch",
        "full",
        "lora",
        "lora-ensemble",
        "mc-dropout",
        "laplace",
        "balora-closed-form",
        "balora-weights",
        "balora-rows",
        "theirs",
    }
