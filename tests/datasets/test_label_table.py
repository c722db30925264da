from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from openpyxl import Workbook

from mofgap.datasets.label_table import labels_of_csv, read_label_table
from mofgap.datasets.record import DatasetError

GAPS = {"gap_ev": "gap_ev"}


def test_a_row_without_name_is_told_by_its_line_in_the_file(tmp_path: Path) -> None:
    """Blank lines count, as an editor or a spreadsheet counts them."""
    text, book = tmp_path / "labels.csv", tmp_path / "labels.xlsx"
    text.write_text("name,gap_ev\nA,1.0\n\n\n,2.0\n")
    sheet = Workbook()
    for line in (["name", "gap_ev"], ["A", 1.0], [None, None], [None, None], ["", 2.0]):
        sheet.worksheets[0].append(line)
    sheet.save(book)
    assert [read_label_table(path, None, GAPS).unnamed for path in (text, book)] == [(5,), (5,)]


def found(text: str, *structures: str) -> list[str | None]:
    """The label that each structure gets."""
    table = labels_of_csv(BytesIO(text.encode()), "labels.csv", None, GAPS)
    return [table.rows.get(table.find(name), {"gap_ev": None})["gap_ev"] for name in structures]


def test_a_label_belongs_to_the_structure_of_its_whole_name_first() -> None:
    """``A.vasp`` is the identifier of the file ``A.vasp.cif``."""
    assert found("structure_id,gap_ev\nA.vasp,2\nA,1\n", "A", "A.vasp") == ["1", "2"]
    assert found("structure_id,gap_ev\nA.vasp.cif,2\nA.cif,1\n", "A", "A.vasp") == ["1", "2"]
    assert found("structure_id,gap_ev\nA.vasp.cif,2\n", "A", "A.vasp") == [None, "2"]
    assert found("structure_id,gap_ev\nA.vasp,2\n", "A.vasp") == ["2"]


def test_endings_of_files_are_left_out_of_either_side() -> None:
    assert found("structure_id,gap_ev\nA.vasp,2\n", "A") == ["2"]
    assert found("structure_id,gap_ev\nA.CIF.gz,2\n", "A", "A.cif", "A.xyz") == ["2", "2", "2"]
    assert found("structure_id,gap_ev\nA,2\n", "A.cif") == ["2"]


def test_names_of_mofgaps_own_tables_are_found() -> None:
    text = "structure_id,gap_ev\n'-dash,1\n'=a;'=b,2\n x,3\n"
    assert found(text, "-dash", "=a;=b", " x") == ["1", "2", "3"]
    assert found("file,gap_ev\nfolder/c.cif,1\n", "c") == ["1"]
    assert found("Name,gap_ev\nc,1\n", "c") == ["1"]


def test_an_unquoted_decimal_comma_before_an_empty_cell_is_refused() -> None:
    with pytest.raises(DatasetError, match="line 2: more values than columns"):
        found("structure_id,gap_ev,comment\nc,1,8,\n", "c")
