from __future__ import annotations

from pathlib import Path

from openpyxl import Workbook

from mofgap.datasets.label_table import read_label_table

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
