from __future__ import annotations

from math import nan
from pathlib import Path

import pandas as pd
import pytest

from mofgap.shipped import COST
from mofgap.study.judge.costs import costs
from mofgap.study.layout import Layout, write_parquet
from mofgap.study.planned import Prediction
from mofgap.whole_file import write_json


@pytest.mark.parametrize(
    ("files", "total", "largest"),
    [(("5", ""), nan, nan), (("", "5"), nan, nan), (("5", "7"), 12.0, 7.0)],
)
def test_one_unknown_value_makes_sum_and_largest_unknown_in_any_order(
    tmp_path: Path, files: tuple[str, str], total: float, largest: float
) -> None:
    layout, wanted = Layout(tmp_path), Prediction("split", "lora-ensemble", members=("split/a", "split/b"))
    write_parquet(layout.prediction(wanted.name), pd.DataFrame({"method": ["lora-ensemble"], "n_samples": 2}))
    for name, value in zip(wanted.members, files, strict=True):
        known = dict.fromkeys(("train_seconds", "peak_memory_mb"), float(value)) if value else {}
        write_json(layout.member(name) / COST, known)
    (found,) = costs(layout, [wanted]).to_dict("records")
    assert found["train_seconds"] == pytest.approx(total, nan_ok=True)
    assert found["peak_memory_mb"] == pytest.approx(largest, nan_ok=True)
