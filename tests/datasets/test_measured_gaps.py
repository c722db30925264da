from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

DATA = Path(__file__).parents[2] / "data"
ROWS = list(csv.DictReader((DATA / "measured_gaps.csv").read_text(encoding="utf-8").splitlines()))
NAMES = [row["name"] for row in ROWS]


def test_no_row_comes_twice() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert len({row["formula"] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_gap_is_plausible_and_says_where_it_was_read(row: dict[str, str]) -> None:
    assert None not in row
    assert 0 < float(row["gap_ev"]) < 8
    assert row["method"]
    assert row["source_note"]


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_row_names_its_paper(row: dict[str, str]) -> None:
    assert row["reference"]
    if row["doi"]:
        assert re.fullmatch(r"10\.\d{4,}/\S+", row["doi"])
    else:  # then the text that was read must be said to give none
        assert "no DOI" in row["source_note"]


@pytest.mark.parametrize("row", [row for row in ROWS if row["structure"]], ids=lambda row: row["name"])
def test_a_structure_is_found(row: dict[str, str]) -> None:
    name = row["structure"]
    assert re.fullmatch(r"[A-Z]{6}", row["refcode"])
    if name.endswith(".cif"):
        assert row["refcode"] in name
        assert (DATA / "examples" / name).exists()
        return
    assert re.fullmatch(r"qmof-[0-9a-f]{7}", name)
    beside = DATA.parents[1] / "shared" / "data" / "qmof.parquet"
    path = Path(os.environ.get("MOFGAP_TABLE", beside))
    if not path.exists():
        pytest.skip("the QMOF table is not here; MOFGAP_TABLE names it")
    (found,) = pq.read_table(path, columns=["qmof_id", "name"], filters=[("qmof_id", "=", name)]).to_pylist()
    assert found["name"].startswith(row["refcode"])
