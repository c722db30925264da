"""The table as a DataFrame and as a file."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence, Sized
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from zipfile import BadZipFile

from mofgap.screening.origin import ATTRIBUTE, FOLDER, read_origin
from mofgap.screening.row import (
    COLUMNS,
    INTEGERS,
    PBE_COLUMNS,
    TEXTS,
    Cell,
    Row,
    cells,
    named_cells,
)
from mofgap.whole_file import whole_file, whole_folder, why_missing

if TYPE_CHECKING:
    import pandas as pd

Window = tuple[float, float] | None
_UNKNOWN = (-math.inf, math.inf)

MAX_XLSX_ROWS = 1_048_575
GROUP_ROWS = 50_000
"""Rows of a parquet or CSV file that are held in memory at a time."""

FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_START = f"[{re.escape(''.join(FORMULA_STARTS))}]"
# Where a spreadsheet would begin a formula; many split lines at semicolons.
_FORMULA = re.compile(f"(^|;)(?={_START})")
# The mark of a text that is none.
_MARK = f"(?:^|(?<=;))'(?={_START})"
_INTERVAL = re.compile(r"(pbe_)?gap_(lo|hi)[0-9.]+_ev").fullmatch
PAGE = ".html"
"""Extension of the report, which stands above this module."""

WriteTable = Callable[[Path, Iterable[Row], Sequence[str]], None]
"""Writes rows to a file as they come: path, rows, and `column_names`."""


def rows_path(page: Path) -> Path:
    """The table of all rows, which stands next to a page that is too short for them."""
    return page.with_name(f"{page.stem}.rows.csv")


class ScreeningTableError(ValueError):
    """A file that is no table of a screening, and why."""


def to_frame(rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """The rows as a DataFrame with the same types whatever the rows: a missing number is NaN or NA.

    Args:
        rows: In order.
        columns: See `column_names`.
    """
    import pandas as pd

    frame = pd.DataFrame([cells(row, len(columns)) for row in rows], columns=list(columns))
    floats = [name for name in columns if name not in INTEGERS + TEXTS]
    types = dict.fromkeys(INTEGERS, "Int64") | dict.fromkeys(floats, "float64") | dict.fromkeys(TEXTS, "str")
    return frame.astype(types)


def write_table(path: Path, rows: Iterable[Row], columns: Sequence[str] = COLUMNS) -> None:
    """Write a table in the format of its extension, row by row; it appears whole or not at all.

    Args:
        path: With an extension of `FORMATS`.
        rows: In order.
        columns: See `column_names`.

    Raises:
        ValueError: If the extension of ``path`` is unknown, or its format cannot hold so many rows.
        OSError: If the file ``path`` cannot be written.
    """
    if path.suffix.lower() == PAGE:
        raise ValueError(f"{path.name}: a page is written by mofgap report")
    write = FORMATS[format_of(path)]
    with whole_file(path) as partial, partial.open("wb") as file:
        write(rows, columns, file)


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a table that was read as CSV; it appears whole or not at all.

    Raises:
        OSError: If the file ``path`` cannot be written.
    """
    texts = [name for name in TEXTS if name in frame.columns]
    with whole_file(path) as partial:
        safe = frame.assign(**{name: frame[name].map(inert, na_action="ignore") for name in texts})
        safe.to_csv(partial, index=False, lineterminator="\n")


def write_parts(folder: Path, rows: Iterable[Row], columns: Sequence[str], *, part_rows: int) -> None:
    """Write a table as a folder of parquet files, see `write_table`; readers of parquet take it for one.

    Args:
        folder: Its name, with the extension ``.parquet``.
        rows: In order.
        columns: See `column_names`.
        part_rows: Rows of each file but the last.

    Raises:
        ValueError: If the extension of ``folder`` is not ``.parquet``.
        OSError: If the folder cannot be written.
    """
    if folder.suffix != ".parquet":
        raise ValueError(f"{folder.name}: a table in parts is a folder NAME.parquet")
    rest = iter(rows)
    with whole_folder(folder) as partial:
        for part, first in enumerate(rest):
            of = chain([first], islice(rest, part_rows - 1))
            write_table(partial / f"part-{part:05}.parquet", of, columns)


def table_bytes(extension: str, rows: Iterable[Row], columns: Sequence[str]) -> bytes:
    """The content of the file that `write_table` writes."""
    buffer = io.BytesIO()
    FORMATS[extension](rows, columns, buffer)
    return buffer.getvalue()


def window_words(window: tuple[float, float]) -> str:
    """A window in words, such as ``1.8 to 3 eV``."""
    low, high = window
    if math.isfinite(low):
        return f"{low:g} to {high:g} eV" if math.isfinite(high) else f"from {low:g} eV up"
    return f"up to {high:g} eV" if math.isfinite(high) else "all of them"


def read_table(path: Path) -> pd.DataFrame:
    """Read what `write_table` wrote, numbers to the last digit, and the record next to it.

    Args:
        path: With an extension of `FORMATS`; or a folder of `write_parts`.

    Returns:
        The table, with its record and its folder where `mofgap.screening.origin` finds them.

    Raises:
        ScreeningTableError: If the file ``path`` does not exist, or is not a table of ``mofgap screen``.
        OSError: If the file ``path`` cannot be read.
    """
    parts = sorted(path.glob("part-*.parquet")) if path.suffix.lower() == ".parquet" else []
    if not path.is_file() and not parts:
        raise ScreeningTableError(f"{path}: {why_missing(path) or 'is a folder; name the table in it'}")
    if path.suffix.lower() not in FORMATS:
        raise ScreeningTableError(f"{path}: expected a {', '.join(FORMATS)} table of mofgap screen")
    if not parts and not path.stat().st_size:
        raise ScreeningTableError(f"{path}: the file is empty; screen again")
    frame = _read(parts or [path])
    frame.attrs[FOLDER] = str(path.parent)
    if found := read_origin(path):
        frame.attrs[ATTRIBUTE] = found
    return frame


def _read(parts: Sequence[Path]) -> pd.DataFrame:
    """A table in one file, or in several of parquet."""
    import pandas as pd

    path = parts[0]
    try:
        if path.suffix.lower() == ".parquet":
            return pd.concat(map(pd.read_parquet, parts), ignore_index=True)
        if path.suffix.lower() == ".json":  # exact, where pandas' own reader keeps ten digits
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, list):
                raise ValueError("it holds no list of rows")
            frame = pd.DataFrame(content)
            return _with_types(frame, frame.columns)
        if path.suffix.lower() == ".xlsx":
            kinds = dict.fromkeys(TEXTS, "str")  # else 001 becomes 1
            frame = pd.read_excel(path, dtype=kinds, keep_default_na=False, na_values=[""]).dropna(how="all")
            return _with_types(frame.reset_index(drop=True), frame.columns)
        start = _first_line(path).partition(",")[0]
        if marks := [word for mark, word in ((";", "semicolons"), ("\t", "tabs")) if mark in start]:
            raise ValueError(f"separated by {marks[0]}; save it with commas, and with decimal points")
        # In parts, since the text of all numbers at once would take several times the memory of the table.
        with pd.read_csv(
            path, dtype="str", na_values=[], keep_default_na=False, chunksize=GROUP_ROWS
        ) as texts:
            frame = pd.concat(map(_part_of_csv, texts), ignore_index=True)
        return _with_types(frame, [name for name in frame.columns if not _is_known(name)])
    except pd.errors.EmptyDataError as error:
        raise ScreeningTableError(f"{path}: the file is empty; screen again") from error
    except UnicodeDecodeError as error:
        raise ScreeningTableError(f"{path}: no text in UTF-8; save it as such, or screen again") from error
    except (TypeError, ValueError, KeyError, BadZipFile) as error:  # of pandas and what it reads with
        first_line = (str(error).splitlines() or ["unreadable"])[0].rpartition("C error: ")[2]
        raise ScreeningTableError(f"{path}: not a table that mofgap screen wrote: {first_line}") from error


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8-sig") as lines:
        return lines.readline()


def _part_of_csv(frame: pd.DataFrame) -> pd.DataFrame:
    """Some rows of a CSV. Columns of ``mofgap screen`` get their types; further columns stay text."""
    frame = frame[(frame != "").any(axis=1)]  # spreadsheets leave empty lines
    texts = [name for name in TEXTS if name in frame.columns]
    frame = frame.assign(**{name: frame[name].str.replace(_MARK, "", regex=True) for name in texts})
    return _with_types(frame, [name for name in frame.columns if _is_known(name)])


def _is_known(name: str) -> bool:
    """Whether a column is one that ``mofgap screen`` writes."""
    return name in (*COLUMNS, *PBE_COLUMNS) or _INTERVAL(name) is not None


def _with_types(frame: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Turn these columns into numbers or texts; a further column with any text stays text.

    Raises:
        ValueError: If a column of ``mofgap screen`` holds a text where a number belongs, an infinity, or a
            negative standard deviation.
    """
    import numpy as np
    import pandas as pd

    for name in names:
        if name in TEXTS:
            frame[name] = frame[name].fillna("").astype("str")
            continue
        if not isinstance(name, str):
            raise ValueError("its columns have no names")
        values = frame[name].replace(["", "nan", "NaN"], None)
        numbers = pd.to_numeric(values, errors="coerce").astype("float64")
        wrong = np.isinf(numbers) | (numbers.isna() & values.notna())
        if name in INTEGERS:
            wrong |= numbers % 1 > 0
        if name.endswith("_std_ev"):
            wrong |= numbers < 0
        if not wrong.any():
            frame[name] = numbers.astype("Int64" if name in INTEGERS else "float64")
        elif _is_known(name):
            row = frame.index[wrong][0]
            least = " of at least 0" if name.endswith("_std_ev") else ""
            cure = f"write a number{least} with a decimal point, or leave the cell empty"
            raise ValueError(f"row {row + 1} has {str(frame[name][row])!r} in column {name}; {cure}")
    return frame


def lacking(frame: pd.DataFrame, needed: Iterable[str]) -> str:
    """Names a missing column in words; empty if all needed columns are there."""
    missing = [name for name in needed if name not in frame.columns]
    return f"no column {missing[0]}; give a table that mofgap screen wrote" if missing else ""


def with_names(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with its files and structure ids as texts, also where pandas took them for numbers."""
    names = ("file", "structure_id")
    return frame.assign(**{name: frame[name].astype("object").fillna("").astype("str") for name in names})


def coverage_of(frame: pd.DataFrame) -> str:
    """Coverage of the intervals in percent, as their columns are named; empty where there are none."""
    found = (re.fullmatch("gap_lo(.+)_ev", str(name)) for name in frame.columns)
    return next((match[1] for match in found if match and f"gap_hi{match[1]}_ev" in frame.columns), "")


def window_of(frame: pd.DataFrame) -> Window:
    """The window that a table was screened for, eV.

    Returns:
        Its ends, an open one infinite; None where there is none, the table does not say, or says several.
    """
    found = windows_of(frame)
    return found[0] if len(found) == 1 and found[0] != _UNKNOWN else None


def windows_of(frame: pd.DataFrame) -> list[tuple[float, float]]:
    """The different windows that rows were screened for, eV. An open or unnamed end is infinite."""
    if not {"p_in_window", "window_lo_ev", "window_hi_ev"} <= set(frame.columns):
        return []
    inside = frame[frame.p_in_window.notna()]
    low, high = inside.window_lo_ev.fillna(_UNKNOWN[0]), inside.window_hi_ev.fillna(_UNKNOWN[1])
    return list(dict.fromkeys(zip(map(float, low), map(float, high), strict=True)))


def format_of(path: Path) -> str:
    """The extension of an output, in lower case.

    Raises:
        ValueError: If the extension of ``path`` is neither one of `FORMATS` nor `PAGE`.
    """
    extension = path.suffix.lower()
    if extension not in (*FORMATS, PAGE):
        raise ValueError(f"{path.name}: the extension must be one of {', '.join((*FORMATS, PAGE))}")
    return extension


def tab_separated(row: Row, n_columns: int = len(COLUMNS)) -> str:
    """A row as one line without its end, quoted where a text holds a quote; its texts start no formula."""
    line = io.StringIO()
    csv.writer(line, delimiter="\t", lineterminator="").writerow(
        [inert(cell) for cell in cells(row, n_columns)]
    )
    return line.getvalue()


def _csv(rows: Iterable[Row], columns: Sequence[str], file: BinaryIO) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([inert(cell) for cell in cells(row, len(columns))] for row in rows)
    text.detach()  # flushes, and leaves the file open


def inert(cell: Cell) -> Cell:
    """A text that a spreadsheet would take for a formula gets the apostrophe that marks text."""
    if isinstance(cell, str) and (cell.startswith(FORMULA_STARTS) or ";" in cell):
        return _FORMULA.sub(r"\1'", cell)
    return cell


def _json(rows: Iterable[Row], columns: Sequence[str], file: BinaryIO) -> None:
    before = "[\n "
    for row in rows:
        content = named_cells(row, columns)
        text = json.dumps(content, indent=1, ensure_ascii=False).replace("\n", "\n ")
        file.write(f"{before}{text}".encode())
        before = ",\n "
    file.write(b"[]\n" if before.startswith("[") else b"\n]\n")


def _parquet(rows: Iterable[Row], columns: Sequence[str], file: BinaryIO) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    # pandas before 3 would not know that a column without rows holds texts.
    types = dict.fromkeys(INTEGERS, pa.int64()) | dict.fromkeys(TEXTS, pa.large_string())
    schema = pa.schema([(name, types.get(name, pa.float64())) for name in columns])

    def group(of: Sequence[Row]) -> pa.Table:
        return pa.Table.from_pandas(to_frame(of, columns), schema, preserve_index=False)

    with ParquetWriter(file, group(()).schema) as writer:
        rest = iter(rows)
        while of := list(islice(rest, GROUP_ROWS)):
            writer.write_table(group(of))


def _xlsx(rows: Iterable[Row], columns: Sequence[str], file: BinaryIO) -> None:
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    too_many = f"a sheet holds {MAX_XLSX_ROWS:,} rows, and there are more; choose .csv or .parquet"
    if isinstance(rows, Sized) and len(rows) > MAX_XLSX_ROWS:
        raise ValueError(too_many)
    book = Workbook(write_only=True)
    sheet = book.create_sheet("mofgap")
    sheet.freeze_panes = "A2"
    sheet.append(list(columns))
    for n, row in enumerate(rows):
        if n == MAX_XLSX_ROWS:
            raise ValueError(too_many)
        line = []
        for value in cells(row, len(columns)):
            cell = WriteOnlyCell(sheet, value)
            if isinstance(value, str):
                cell.data_type = "s"  # never a formula
            line.append(cell)
        sheet.append(line)
    book.save(file)


FORMATS: dict[str, Callable[[Iterable[Row], Sequence[str], BinaryIO], None]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".json": _json,
    ".xlsx": _xlsx,
}
"""By extension, the function that writes rows one by one under the names of their columns."""
