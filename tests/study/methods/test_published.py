from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mofgap.crystals.dataset import TableError
from mofgap.study.config import DataConfig
from mofgap.study.methods.published import published_gaps

IDS = ["001", "002", "003"]


def gaps_of(folder: Path, text: str) -> dict[str, np.ndarray]:
    path = folder / "published.csv"
    path.write_text(text)
    return published_gaps(DataConfig(table=folder / "table.parquet", published=path), IDS)


def test_gaps_are_joined_by_name_and_missing_where_there_are_none(tmp_path: Path) -> None:
    found = gaps_of(tmp_path, "id,theirs_ev,gap_ev\n003,1.5,2\n001,,2\nother,9,2\n")
    assert list(found) == ["theirs_ev"]
    np.testing.assert_array_equal(found["theirs_ev"], [np.nan, np.nan, 1.5])
    by_file = gaps_of(tmp_path, "file,theirs_ev\n003.cif,1.5\n001.cif,\n")
    np.testing.assert_array_equal(by_file["theirs_ev"], found["theirs_ev"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,theirs_ev\n001,1\n001,2\n", "001 is there more than once"),
        ("id,theirs_ev\n001,n/a?\n", "a gap is no number"),
        ("id,theirs_ev\n001,inf\n", "a gap is no number: one is infinite"),
        ("id,lora_ev\n001,1\n", "lora_ev has the name of a method"),
        ("id,mean_ev\n001,1\n", "mean_ev has the name of a method"),
        ("id,theirs_ev\n1,1\n2,2\n", "none of its structures is in .*table.parquet"),
        ("name,theirs\n001,1\n", "no column of gaps"),
        ("who,theirs_ev\n001,1\n", "no identifier column"),
    ],
)
def test_a_table_of_no_use_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TableError, match=f"published.csv: {message}"):
        gaps_of(tmp_path, text)
