from __future__ import annotations

from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from openpyxl import Workbook

from mofgap.datasets.label_table import labels_of_csv, labels_of_rows, read_label_table
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


@pytest.mark.parametrize("part", ["xl/workbook.xml", "xl/worksheets/sheet1.xml"])
def test_a_sheet_that_is_cut_off_inside_its_archive_is_told(part: str, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.xlsx", tmp_path / "cut.xlsx"
    sheet = Workbook()
    sheet.worksheets[0].append(["name", "gap_ev"])
    sheet.save(whole)
    with ZipFile(whole) as archive, ZipFile(cut, "w") as damaged:
        for name in archive.namelist():
            content = archive.read(name)
            damaged.writestr(name, content[: len(content) // 2] if name == part else content)
    with pytest.raises(DatasetError, match=r"cut\.xlsx: no Excel file, or a damaged one"):
        read_label_table(cut, None, GAPS)


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


def test_a_name_that_several_files_give_is_conflicting() -> None:
    text = "file,gap_ev\na.vasp,1\na.xyz,2\nb.cif,1\nb.vasp,2\nc.cif,3\nc.vasp,3\n"
    table = labels_of_csv(BytesIO(text.encode()), "labels.csv", None, GAPS)
    assert table.conflicting == {"a", "b"}
    assert found(text, "a", "a.vasp", "b.vasp", "c") == [None, "1", "2", "3"]


@pytest.mark.parametrize("missing", [None, "", "NaN", float("nan")])
def test_labels_that_are_missing_twice_do_not_differ(missing: object) -> None:
    rows = [{"name": "a", "gap_ev": missing}] * 2
    table = labels_of_rows(rows, "labels.json", "name", GAPS)
    assert table.repeated == {"a"} and not table.conflicting


def test_paths_are_whole_identifiers_first() -> None:
    text = "file,gap_ev\nx/a.cif,1\ny/b.cif,2\nz/b.cif,3\n"
    assert found(text, "x/a", "x/a.cif", "a", "b", "z/b") == ["1", "1", "1", None, "3"]


@pytest.mark.parametrize("text", ["a.cif,1,\n", "a.cif,1\n,,,\n"])
def test_empty_cells_after_the_last_column_mean_nothing(text: str) -> None:
    assert found(f"file,gap_ev\n{text}", "a") == ["1"]


@pytest.mark.parametrize(("name", "model"), [("gap_ev", "mine"), ("pbe_gap_ev", "mofgap")])
def test_gaps_that_a_screening_predicted_are_no_labels(name: str, model: str) -> None:
    text = b"file,gap_ev,gap_std_ev,model,pbe_gap_ev,dft_ev\nb.cif,,,,,\na.cif,1,0.1,mine,2,3\n"
    with pytest.raises(DatasetError, match=f"{name} holds gaps predicted by {model}, .* with --target"):
        labels_of_csv(BytesIO(text), "labels.csv", None, {name: name})
    assert labels_of_csv(BytesIO(text), "labels.csv", None, {"dft_ev": "x"}).rows["a"] == {"x": "3"}
