"""Labels by identifier: never by row."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from numbers import Real
from pathlib import Path
from statistics import median
from typing import IO, Any
from zipfile import BadZipFile

from mofgap.crystals.formats import base_of, without_ending
from mofgap.crystals.identifier import id_column
from mofgap.datasets.record import DatasetError
from mofgap.nearest import hint
from mofgap.whole_file import why_missing

MAX_GAP_EV = 25.0
"""No solid has a larger gap (neon: 21.5 eV): a label above is in another unit, or stands for none."""

_UNITS_EV = {"meV": 1e-3, "kJ/mol": 1 / 96.485, "cm-1": 1 / 8065.54}
"""Units in which a table may hold its gaps, in eV, the likeliest first."""

_LIKELY_EV = (0.3, 8.0)
"""The median of gaps that are not zero lies here."""

_PREDICTED = ("gap_ev", "pbe_gap_ev")
"""Gaps that a table of ``mofgap screen`` predicts; it names the ``model``, and has ``gap_std_ev`` too."""

_MISSING_TEXTS = {"", "na", "n/a", "nan", "none", "null", "-"}

_CIF_ENDING = re.compile(r"\.cif(\.(gz|bz2|xz))?$", re.IGNORECASE)

# The apostrophe that tables of mofgap put before what a spreadsheet would take for a formula.
_MARK = re.compile("(^|;)'(?=[=+@＝＋－＠-])")


@dataclass(frozen=True, eq=False)
class LabelTable:
    """The labels of many structures, by identifier.

    Attributes:
        source: The file.
        rows: Values by identifier and name; without those of columns that may be absent and are.
        conflicting: Identifiers that stand there with different values: none of them can be trusted.
        repeated: Identifiers that stand there more than once with the same values.
        unnamed: Lines of rows without identifier in the file, the line of names being 1.
        cifs: Identifiers that were written as names of CIFs.
    """

    source: str
    rows: Mapping[str, Mapping[str, Any]]
    conflicting: frozenset[str]
    repeated: frozenset[str]
    unnamed: tuple[int, ...] = ()
    cifs: frozenset[str] = frozenset()

    def find(self, structure_id: str) -> str:
        """The identifier under which a structure stands here; its own where there is none.

        A name that is the same comes first. Then endings of files are left out, of either side, and folders
        of paths.
        """
        own = structure_id.strip()
        names = own, _CIF_ENDING.sub("", own), self._shorter.get(own, own), without_ending(own)
        return next((name for name in names if name in self.rows), own)

    @cached_property
    def _shorter(self) -> dict[str, str]:
        """Identifiers by their last part without the ending of a file, where that is of one alone."""
        short = [(_short(name, name in self.cifs), name) for name in self.rows]
        n = Counter(each for each, _ in short)
        return {each: name for each, name in short if n[each] == 1}


def read_label_table(path: Path, id_name: str | None, columns: Mapping[str, str]) -> LabelTable:
    """Read a CSV, or by its name a TSV or the first sheet of an Excel file.

    Args:
        path: The file, with a line of names; text is in UTF-8.
        id_name: Column of the identifiers; the first of `IDENTIFIERS` if None.
        columns: Names of columns to read, and what to call them; one that begins with ``?`` may be absent.

    Raises:
        DatasetError: If the file ``path`` cannot be read, or lacks a column that is needed.
    """
    if why := why_missing(path) or ("is a folder; name a table in it" if path.is_dir() else ""):
        raise DatasetError(f"{path}: {why}")
    try:
        if path.suffix.lower() == ".xlsx":
            return _labels_of_sheet(path, id_name, columns)
        with path.open("rb") as file:
            return labels_of_csv(file, str(path), id_name, columns)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from error


def _labels_of_sheet(path: Path, id_name: str | None, columns: Mapping[str, str]) -> LabelTable:
    from openpyxl import load_workbook

    try:
        lines = load_workbook(path, read_only=True, data_only=True).worksheets[0].iter_rows(values_only=True)
        header = [None if name is None else str(name) for name in next(lines, ())]
        names = [name for name in header if name is not None]
        full = [(n, line) for n, line in enumerate(lines, 2) if any(v is not None for v in line)]
        rows, places = (dict(zip(header, line, strict=False)) for _, line in full), (n for n, _ in full)
        return labels_of_rows(rows, str(path), id_name or id_column(names), columns, names, places)
    except (BadZipFile, LookupError, SyntaxError) as error:  # the last for its XML
        raise DatasetError(f"{path}: no Excel file, or a damaged one; save it again, or as .csv") from error
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error


def labels_of_csv(
    file: IO[bytes], source: str, id_name: str | None, columns: Mapping[str, str]
) -> LabelTable:
    """The labels of an open CSV, see `read_label_table`."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    rows = csv.DictReader(text, delimiter="\t" if source.lower().endswith(".tsv") else ",", strict=True)
    try:
        names = rows.fieldnames or []
        if len(names) == 1 and (mark := re.search("[;\t]", names[0])):
            what = "semicolons" if mark[0] == ";" else "tabs"
            raise DatasetError(f"{source}: separated by {what}; save it with commas, and with decimal points")
        if not names:
            raise DatasetError(f"{source}: it is empty; give a table of names and gaps")
        places = (rows.line_num for _ in count())
        known = id_name or id_column(names)
        return labels_of_rows(_whole(rows, source), source, known, columns, names, places)
    except DatasetError:
        raise
    except UnicodeDecodeError as error:
        raise DatasetError(f"{source}: no text in UTF-8; save it as such") from error
    except ValueError as error:
        raise DatasetError(f"{source}: {error}") from error
    except csv.Error as error:
        raise DatasetError(f"{source}, line {rows.reader.line_num}: {error}; correct it") from error


def labels_of_rows(
    rows: Iterable[Mapping[Any, Any]],
    source: str,
    id_name: str,
    columns: Mapping[str, str],
    names: Sequence[str] = (),
    places: Iterable[int] | None = None,
) -> LabelTable:
    """Labels of rows, by identifier.

    Args:
        rows: Values by name.
        source: The file, to show.
        id_name: Name of the identifier.
        columns: As for `read_label_table`.
        names: All names there are, where they are known beforehand.
        places: Where each row stands in the file; 2, 3, 4 and so on by default.

    Raises:
        DatasetError: If ``id_name`` or a needed name of ``columns`` occurs in no row, a name of them occurs
            more than once in ``names``, or holds gaps that mofgap predicted.
    """
    wanted = {id_name, *(old.lstrip("?") for old in columns)}
    if repeated_names := [name for name in names if names.count(name) > 1 and name in wanted]:
        raise DatasetError(f"{source}: column {repeated_names[0]!r} is there more than once; rename one")
    table: dict[str, dict[str, Any]] = {}
    conflicting, repeated, unnamed, cifs = set[str](), set[str](), list[int](), set[str]()
    seen, model = dict.fromkeys(names), ""
    for row, place in zip(rows, places or count(2), strict=False):
        if not names:
            seen |= dict.fromkeys(row)
        model = model or str(row.get("model") or "")
        name = normalised(row.get(id_name))
        if name is None:
            unnamed.append(place)
            continue
        if _CIF_ENDING.search(str(row[id_name]).strip()):
            cifs.add(name)
        values = {new: row[known] for old, new in columns.items() if (known := old.lstrip("?")) in row}
        if name in table:
            (repeated if _same_values(table[name], values) else conflicting).add(name)
        else:
            table[name] = values
    for old in (id_name, *(old for old in columns if not old.startswith("?"))):
        if old not in seen:
            raise DatasetError(f"{source}: {no_column(old, seen)}")
    if model and "gap_std_ev" in seen and (predicted := [old for old in _PREDICTED if old in columns]):
        by = model if predicted[0] == "gap_ev" else "mofgap"
        what = f"{predicted[0]} holds gaps predicted by {by}, as in a table of mofgap screen"
        cure = "name the column of your computed gaps with --target, or write them to a table of their own"
        raise DatasetError(f"{source}: {what}; {cure}")
    for short, (first, *others) in _alike(table, cifs).items():
        if not all(_same_values(table[first], table[other]) for other in others):
            conflicting.add(short)
    repeated -= conflicting
    return LabelTable(
        source, table, frozenset(conflicting), frozenset(repeated), tuple(unnamed), frozenset(cifs)
    )


def _short(name: str, is_cif: bool) -> str:
    """An identifier without folders and without the ending of its file, which one of a CIF has lost."""
    base = base_of(name)
    return base if is_cif else without_ending(base)


def _alike(names: Iterable[str], cifs: Collection[str]) -> dict[str, list[str]]:
    """Identifiers of several files that give a structure the same name, by that name."""
    found: dict[str, list[str]] = {}
    for name in names:
        short = _short(name, name in cifs)
        if name in cifs or short != name:
            found.setdefault(short, []).append(name)
    return {short: alike for short, alike in found.items() if len(alike) > 1}


def _same_values(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether values are the same; numbers are compared as numbers."""
    return one.keys() == other.keys() and all(_plain(one[name]) == _plain(other[name]) for name in one)


def _plain(value: Any) -> Any:
    if is_missing(value):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def other_unit(values: Sequence[float]) -> str:
    """A guess of the unit if most gaps are larger than those of any solid; else empty.

    Args:
        values: Numbers above zero; a metal has 0 eV in any unit.
    """
    if not values or sum(value > MAX_GAP_EV for value in values) * 2 <= len(values):
        return ""
    middle = median(values)
    fits = [unit for unit, ev in _UNITS_EV.items() if _LIKELY_EV[0] <= middle * ev <= _LIKELY_EV[1]]
    guess = f"are they in {fits[0]}? Convert them to eV" if fits else "convert them to eV"
    return f"half of them are above {middle:g}, and no solid has a gap above {MAX_GAP_EV:g} eV: {guess}"


def is_missing(value: Any) -> bool:
    """Whether a value is missing: None, NaN, or a word for it."""
    if isinstance(value, str):
        return value.strip().lower() in _MISSING_TEXTS
    return value is None or (isinstance(value, Real) and bool(value != value))


def normalised(value: Any) -> str | None:
    """An identifier as `LabelTable` keeps it: without .cif, and without the marks of a spreadsheet."""
    text = "" if value is None else _MARK.sub(r"\1", str(value).strip())
    return _CIF_ENDING.sub("", text).strip() or None


def no_column(name: str, known: Iterable[str]) -> str:
    """Words for a name that is not there, with the nearest that is."""
    return f"no column {name!r}; {hint(name, known)}"


def _whole(rows: csv.DictReader[str], source: str) -> Iterator[Mapping[str, Any]]:
    """Rows without further values after their last column, as an unquoted decimal comma would give."""
    for row in rows:
        if any(cell.strip() for cell in row.get(None, ())):
            what = "more values than columns; put values with a comma in quotes"
            raise DatasetError(f"{source}, line {rows.line_num}: {what}")
        yield row
