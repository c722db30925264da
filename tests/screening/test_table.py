from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from mofgap.screening import table
from mofgap.screening.row import COLUMNS, INTEGERS, TEXTS, Row, cells, column_names, printable, rounded
from mofgap.screening.table import (
    FORMATS,
    ScreeningTableError,
    format_of,
    inert,
    read_table,
    tab_separated,
    to_frame,
    window_of,
    write_table,
)

GOOD = Row(
    rank=1,
    file="a/=1+1.cif",
    structure_id="=1+1",
    status="warning",
    formula="CHO2Zn",
    n_atoms=5,
    gap_ev=2.5,
    gap_std_ev=0.25,
    aleatoric_std_ev=0.2,
    gap_lo90_ev=2.1,
    gap_hi90_ev=2.9,
    novelty=1.0,
    warnings='novel: far; nearest are x, y | -odd: Å, "quoted"',
    level_of_theory="PBE",
    model="tiny",
)
BAD = Row(rank=None, file="<b>&.cif", structure_id="@b", status="failed", reason="=cmd: <script>, µ")
TABLE = [GOOD, BAD]
INSIDE = replace(GOOD, p_in_window=0.7, window_lo_ev=1.8, window_hi_ev=3.0)


def test_columns_are_those_promised() -> None:
    assert ",".join(COLUMNS) == (
        "rank,file,structure_id,status,reason,formula,n_atoms,gap_ev,gap_std_ev,epistemic_std_ev,"
        "aleatoric_std_ev,gap_lo90_ev,gap_hi90_ev,p_in_window,novelty,warnings,level_of_theory,model,"
        "nearest,window_lo_ev,window_hi_ev"
    )


@pytest.mark.parametrize("extension", [".csv", ".parquet", ".json"])
def test_formats_read_back_equal(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{extension}"
    write_table(path, TABLE)
    expected = to_frame(TABLE)
    if extension == ".parquet":
        found = pd.read_parquet(path)
    elif extension == ".json":
        found = to_frame([Row(**row) for row in json.loads(path.read_text("utf-8"))])
    else:
        types = dict.fromkeys(TEXTS, "str") | dict.fromkeys(INTEGERS, "Int64")
        found = pd.read_csv(
            path, dtype=types, na_values={c: [""] for c in COLUMNS if c not in TEXTS}, keep_default_na=False
        )
        # What a spreadsheet would compute is marked as text.
        assert found["structure_id"].tolist() == ["'=1+1", "'@b"]
        assert found["reason"].tolist() == ["", "'=cmd: <script>, µ"]
        texts = list(TEXTS)
        found[texts] = found[texts].apply(lambda column: column.str.removeprefix("'"))
    pd.testing.assert_frame_equal(found, expected, check_dtype=extension != ".csv")
    assert list(tmp_path.iterdir()) == [path]


def test_intervals_are_named_by_their_coverage(tmp_path: Path) -> None:
    assert column_names() == column_names(0.9) == list(COLUMNS)
    assert [n for n in column_names(0.55) if n not in COLUMNS] == ["gap_lo55_ev", "gap_hi55_ev"]
    assert [n for n in column_names(0.975) if n not in COLUMNS] == ["gap_lo97.5_ev", "gap_hi97.5_ev"]
    for extension in FORMATS:
        path = tmp_path / f"out{extension}"
        write_table(path, TABLE, column_names(0.95))
        if extension == ".csv":
            assert pd.read_csv(path).gap_hi95_ev[0] == 2.9
        elif extension == ".parquet":
            assert pd.read_parquet(path).gap_hi95_ev[0] == 2.9
        elif extension == ".json":
            assert json.loads(path.read_text("utf-8"))[0]["gap_hi95_ev"] == 2.9
        elif extension == ".xlsx":
            header = next(openpyxl.load_workbook(path).active.iter_rows(values_only=True))
            assert list(header) == column_names(0.95)
        else:
            assert "<th>gap_hi95_ev</th>" in path.read_text("utf-8")


def test_xlsx_is_read_as_it_was_written_and_as_a_spreadsheet_saves_it(tmp_path: Path) -> None:
    path = tmp_path / "out.xlsx"
    salt = replace(GOOD, formula="NaN", structure_id="007")
    write_table(path, [salt, BAD])
    pd.testing.assert_frame_equal(read_table(path), to_frame([salt, BAD]))
    book = openpyxl.load_workbook(path)
    book.active.append([None] * len(COLUMNS))
    book.active.cell(2, COLUMNS.index("gap_ev") + 1).value = "2,5"
    book.save(path)
    with pytest.raises(ScreeningTableError, match=r"row 1 has '2,5' in column gap_ev; write a number"):
        read_table(path)
    path.write_bytes(b"no archive")
    with pytest.raises(ScreeningTableError, match="not a table that mofgap screen wrote"):
        read_table(path)


@pytest.mark.parametrize("names", [["001", "002"], ["1e5"], ["1000041", "1.50"], ["true"]])
def test_names_that_look_like_numbers_stay_as_they_are_in_xlsx(names: list[str], tmp_path: Path) -> None:
    write_table(tmp_path / "out.xlsx", [replace(GOOD, structure_id=name) for name in names])
    assert read_table(tmp_path / "out.xlsx").structure_id.tolist() == names


def test_xlsx_reads_back_equal_and_holds_no_formula(tmp_path: Path) -> None:
    path = tmp_path / "out.xlsx"
    write_table(path, TABLE)
    header, *lines = openpyxl.load_workbook(path).active.iter_rows()
    assert [cell.value for cell in header] == list(COLUMNS)
    assert [[cell.value for cell in line] for line in lines] == [
        [None if value == "" else value for value in cells(row)] for row in TABLE
    ]
    assert not any(cell.data_type == "f" for line in lines for cell in line)


def test_a_page_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mofgap report"):
        write_table(tmp_path / "out.html", TABLE)


def test_tab_separated_row_has_every_column() -> None:
    line = tab_separated(GOOD)
    assert next(csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE))[:4] == [
        "1",
        "a/=1+1.cif",
        "'=1+1",
        "warning",
    ]
    assert len(line.split("\t")) == len(COLUMNS)


def test_a_quote_in_a_name_shifts_no_cell_of_a_tab_separated_row() -> None:
    row = replace(BAD, file='"=cmd.cif')
    (found,) = csv.reader([tab_separated(row)], delimiter="\t")
    assert len(found) == len(COLUMNS) and found[1] == '"=cmd.cif'


@pytest.mark.parametrize("text", ["=1+1", "＝cmd|' /C calc'!A0", ";=cmd", "a;-2", "@x", "＠x", ";＋1"])
def test_what_spreadsheets_take_for_a_formula_is_neutral_and_reads_back(text: str, tmp_path: Path) -> None:
    row = replace(BAD, file=text)
    assert f"{inert(text)}" != text and "'" in tab_separated(row).split("\t")[1]
    write_table(tmp_path / "x.csv", [row])
    assert read_table(tmp_path / "x.csv").file[0] == text
    assert inert("no-atoms: none; export it") == "no-atoms: none; export it"


@pytest.mark.parametrize("rows", [[], [BAD], TABLE])
def test_types_do_not_depend_on_the_rows(rows: list[Row]) -> None:
    frame = to_frame(rows)
    assert frame.dtypes.equals(to_frame([GOOD]).dtypes)
    assert frame["gap_ev"].dtype == "float64" and frame["rank"].dtype == "Int64"


@pytest.mark.parametrize("text", ["3", '[[{"a": []}]]', '{"gap_ev": [[1], {}]}'])
def test_other_json_is_no_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ScreeningTableError, match=r"x\.json"):
        read_table(tmp_path / "x.json")


def test_columns_and_lines_that_somebody_added_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write_table(path, TABLE)
    head, *lines = path.read_text().splitlines()
    empty = "," * (head.count(",") + 2)
    path.write_text(
        "\n".join([f"{head},measured_ev,mine", f"{lines[0]},2.1 (film),1.5", f"{lines[1]},,", empty])
    )
    frame = read_table(path)
    assert frame.measured_ev.tolist() == ["2.1 (film)", ""] and frame.mine.iloc[0] == 1.5
    pd.testing.assert_frame_equal(frame[to_frame(TABLE).columns], to_frame(TABLE))


def test_a_csv_is_read_in_parts_as_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    write_table(path, [GOOD, BAD, INSIDE, GOOD, BAD])
    lines = path.read_text(encoding="utf-8").splitlines()
    added = ["mine", "1", "", "2", "a word", "3"]  # a text in the second part makes all of it texts
    path.write_text("\n".join(f"{line},{more}" for line, more in zip(lines, added, strict=True)) + "\n\n")
    whole = read_table(path)
    monkeypatch.setattr(table, "GROUP_ROWS", 2)
    pd.testing.assert_frame_equal(read_table(path), whole)
    assert whole.mine.tolist() == added[1:]


@pytest.mark.parametrize(
    ("number", "column"), [("2.5,", "gap_ev"), ("2.9,", "gap_hi95_ev"), ("1.7", "pbe_gap_lo95_ev")]
)
def test_a_number_that_is_none_names_its_column(number: str, column: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write_table(path, [replace(GOOD, pbe_gap_lo90_ev=1.7)], column_names(0.95, two_levels=True))
    path.write_text(path.read_text().replace(number, f"eV {number}", 1))
    with pytest.raises(ScreeningTableError, match=rf"row 1 has '.*eV.*' in column {column}"):
        read_table(path)


@pytest.mark.parametrize(
    ("column", "value"), [("gap_ev", "inf"), ("gap_ev", "2,5"), ("gap_std_ev", "-0.1"), ("rank", "1.5")]
)
def test_what_no_screening_writes_is_refused_with_its_place(column: str, value: str, tmp_path: Path) -> None:
    frame = to_frame([GOOD, GOOD]).astype(object)
    frame.loc[1, column] = value
    frame.to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(ScreeningTableError, match=f"row 2 has '{value}' in column {column}"):
        read_table(tmp_path / "x.csv")


def test_a_number_that_another_program_calls_nan_is_none(tmp_path: Path) -> None:
    to_frame(TABLE).to_csv(tmp_path / "x.csv", index=False, na_rep="NaN")
    assert read_table(tmp_path / "x.csv").gap_ev.equals(to_frame(TABLE).gap_ev)


def test_what_is_not_there_is_not_asked_for_its_extension(tmp_path: Path) -> None:
    with pytest.raises(ScreeningTableError, match="no such file"):
        read_table(tmp_path / "nofolder")


@pytest.mark.parametrize("point", [".", ","])
def test_semicolons_of_a_spreadsheet_are_called_so(tmp_path: Path, point: str) -> None:
    path = tmp_path / "x.csv"
    to_frame(TABLE).to_csv(path, sep=";", decimal=point, index=False)
    with pytest.raises(ScreeningTableError, match=r"x\.csv: .*semicolons"):
        read_table(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        ("rank,file\n1,a\n".encode("utf-16"), "UTF-8"),
        (b"rank\tfile\n1\ta\n", "tabs"),
        (b"rank,file\n1,a\n2,b,c\n", r"x\.csv: .*: Expected 2 fields in line 3"),
    ],
)
def test_other_text_is_called_what_it_is(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(ScreeningTableError, match=words):
        read_table(tmp_path / "x.csv")


def test_a_file_of_json_that_holds_no_rows_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    with pytest.raises(ScreeningTableError, match="it holds no list of rows"):
        read_table(tmp_path / "x.json")


def test_extension_decides_the_format() -> None:
    assert format_of(Path("a/B.CSV")) == ".csv"
    for name in ("out.txt", "out"):
        with pytest.raises(ValueError, match=r"\.parquet"):
            format_of(Path(name))
    assert set(FORMATS) == {".csv", ".parquet", ".json", ".xlsx"} and format_of(Path("p.html")) == ".html"


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")

    def rows() -> Iterator[Row]:
        yield TABLE[0]
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_table(path, rows())
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"] and path.read_text() == "old"


def test_text_is_made_printable_and_numbers_rounded() -> None:
    assert printable("a\tb\n\x1b[31m\udcff\u202eé Å.cif") == "a�b��[31m��é Å.cif"
    assert rounded(float("nan")) is None
    assert rounded(1.23456789) == 1.2346
    assert str(rounded(-1e-9)) == "0.0"


@pytest.mark.parametrize("kind", FORMATS)
def test_the_window_is_read_back(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{kind}"
    write_table(path, [INSIDE, BAD])
    assert window_of(read_table(path)) == (1.8, 3.0)
    write_table(path, [replace(INSIDE, window_hi_ev=None)])
    assert window_of(read_table(path)) == (1.8, float("inf"))


def test_no_window_is_guessed() -> None:
    assert window_of(to_frame([INSIDE, replace(INSIDE, window_lo_ev=1.0)])) is None
    assert window_of(to_frame([replace(INSIDE, window_lo_ev=None, window_hi_ev=None)])) is None
    assert window_of(to_frame([replace(INSIDE, p_in_window=None)])) is None
    assert window_of(to_frame([INSIDE]).drop(columns=["window_lo_ev"])) is None
