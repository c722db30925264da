"""A table that ``mofgap screen`` wrote, read back for a report."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd

from mofgap.screening.row import INTEGERS, TEXTS, WARNING_SEPARATOR
from mofgap.screening.table import FORMULA_STARTS

NEEDED = ("rank", "file", "structure_id", "status", "reason", "formula", "gap_ev", "gap_std_ev", "warnings")
_FORMATS = (".csv", ".parquet", ".json")
_LOWER_END = re.compile(r"gap_lo([0-9.]+)_ev")
_SYMBOL = re.compile(r"[A-Z][a-z]?")


class TableError(ValueError):
    """A file that is no table of a screening, and why."""


@dataclass(frozen=True, eq=False)
class Screened:
    """A screening.

    Attributes:
        frame: The whole table, as it was written.
        ranked: Its predicted rows, best first.
        failed: Its failures.
        coverage: Of the intervals, in percent, as their columns are named; empty where there are none.
    """

    frame: pd.DataFrame
    ranked: pd.DataFrame
    failed: pd.DataFrame
    coverage: str

    @property
    def ends(self) -> tuple[str, str]:
        """Names of the columns of the interval's ends."""
        return f"gap_lo{self.coverage}_ev", f"gap_hi{self.coverage}_ev"

    def values_of(self, column: str) -> list[str]:
        """The different texts of a column of the predicted rows, sorted."""
        if column not in self.ranked:
            return []
        return sorted({str(text) for text in self.ranked[column].dropna() if str(text)})


def read_screened(path: Path) -> Screened:
    """Read a table of ``mofgap screen``.

    Args:
        path: ``.csv``, ``.parquet`` or ``.json``.

    Raises:
        TableError: It is no such table, or has no rows.
        OSError: It cannot be read.
    """
    if path.suffix.lower() not in _FORMATS:
        raise TableError(f"{path}: expected a .csv, .parquet or .json table of mofgap screen")
    if not path.is_file():
        raise TableError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    try:
        frame = _read(path)
    except (ValueError, UnicodeDecodeError) as error:  # pandas' and pyarrow's errors are ValueErrors
        first_line = (str(error).splitlines() or ["unreadable"])[0]
        raise TableError(f"{path}: not a table that mofgap screen wrote: {first_line}") from error
    return screened(frame, str(path))


def screened(frame: pd.DataFrame, name: str = "table") -> Screened:
    """A screening from its DataFrame, such as `mofgap.screen` returns.

    Raises:
        TableError: It is no such table, or has no rows.
    """
    missing = [column for column in NEEDED if column not in frame.columns]
    if missing:
        raise TableError(f"{name}: no column {missing[0]}; give a table that mofgap screen wrote")
    if frame.empty:
        raise TableError(f"{name}: the table has no rows")
    frame = frame.reset_index(drop=True)
    found = [match[1] for match in map(_LOWER_END.fullmatch, frame.columns) if match]
    has_gap = (frame.status != "failed") & frame.gap_ev.notna()
    ranked = frame[has_gap].sort_values("rank", kind="stable")
    return Screened(frame, ranked, frame[~has_gap], found[0] if found else "")


def symbols_of(formula: str) -> list[str]:
    """The elements of a formula, each once."""
    return list(dict.fromkeys(s for s in _SYMBOL.findall(formula) if gemmi.Element(s).atomic_number))


def element_counts(formulas: pd.Series) -> Counter[str]:
    """In how many formulas each element occurs."""
    counts: Counter[str] = Counter()
    for formula, n in formulas.fillna("").astype(str).value_counts().items():
        for symbol in symbols_of(str(formula)):
            counts[symbol] += int(n)
    return counts


def warnings_of(text: object) -> list[tuple[str, str]]:
    """The (name, explanation) of each warning of a row."""
    if not isinstance(text, str):
        return []
    parts = (part.partition(":") for part in text.split(WARNING_SEPARATOR) if part)
    return [(name.strip(), rest.strip()) for name, _, rest in parts]


def _read(path: Path) -> pd.DataFrame:
    if path.suffix.lower() == ".parquet":
        return pd.read_parquet(path)
    if path.suffix.lower() == ".json":
        # Exact, where pandas' own reader keeps ten digits.
        return _with_types(pd.DataFrame(json.loads(path.read_text(encoding="utf-8"))))
    frame = pd.read_csv(path, dtype="str", na_values=[], keep_default_na=False)
    texts = [name for name in TEXTS if name in frame.columns]
    # The mark of a text that a spreadsheet would take for a formula.
    marked = f"^'(?=[{re.escape(''.join(FORMULA_STARTS))}])"
    frame[texts] = frame[texts].apply(lambda column: column.str.replace(marked, "", regex=True))
    return _with_types(frame)


def _with_types(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as numbers; whatever is no text column is one."""
    for name in frame.columns:
        if name in TEXTS:
            frame[name] = frame[name].fillna("").astype("str")
        else:
            numbers = pd.to_numeric(frame[name].replace("", np.nan))
            frame[name] = numbers.astype("Int64" if name in INTEGERS else "float64")
    return frame
