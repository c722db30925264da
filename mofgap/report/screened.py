"""A table that ``mofgap screen`` wrote, read back for a report."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import gemmi
import pandas as pd

from mofgap.screening.table import ScreeningTableError, Window, coverage_of, lacking, window_of, with_names

NEEDED = ("rank", "file", "structure_id", "status", "reason", "formula", "gap_ev", "gap_std_ev", "warnings")

_SYMBOL = re.compile(r"[A-Z][a-z]?")


@dataclass(frozen=True, eq=False)
class Screened:
    """A screening.

    Attributes:
        frame: The whole table, as it was written.
        ranked: Its rows with a gap and a spread, best first.
        failed: The others.
        coverage: Coverage of the intervals, in percent, as their columns are named; empty where there are
            none.
    """

    frame: pd.DataFrame
    ranked: pd.DataFrame
    failed: pd.DataFrame
    coverage: str

    @property
    def ends(self) -> tuple[str, str]:
        """Names of the columns of the interval's ends."""
        return f"gap_lo{self.coverage}_ev", f"gap_hi{self.coverage}_ev"

    @property
    def window(self) -> Window:
        """The window that was screened for, eV, an open end infinite; None where the table does not say."""
        return window_of(self.ranked)

    def head(self, n: int) -> Screened:
        """The first n rows: the best, then failures; the screening itself where it has no more."""
        if len(self.frame) <= n:
            return self
        n_ranked = min(n, len(self.ranked))
        frame = pd.concat([self.ranked.head(n_ranked), self.failed.head(n - n_ranked)], ignore_index=True)
        return Screened(frame, frame.head(n_ranked), frame.iloc[n_ranked:], self.coverage)

    def values_of(self, column: str) -> list[str]:
        """The different texts of a column of the predicted rows, sorted."""
        if column not in self.ranked:
            return []
        return sorted({str(text) for text in self.ranked[column].dropna().unique() if str(text)})


def screened(frame: pd.DataFrame, name: str = "table") -> Screened:
    """A screening from its DataFrame, such as `mofgap.screen` returns.

    Raises:
        ScreeningTableError: If ``frame`` lacks a column of a screening, or has no rows.
    """
    if lacks := lacking(frame, NEEDED):
        raise ScreeningTableError(f"{name}: {lacks}")
    if frame.empty:
        raise ScreeningTableError(f"{name}: the table has no rows; screen again, without --novelty drop")
    if doubled := frame.columns[frame.columns.duplicated()].tolist():
        raise ScreeningTableError(f"{name}: the column {doubled[0]} occurs twice; keep one of them")
    frame = with_names(frame.reset_index(drop=True))
    has_gap = (frame.status != "failed") & frame.gap_ev.notna() & frame.gap_std_ev.notna()
    ranked = frame[has_gap].sort_values("rank", kind="stable")
    return Screened(frame, ranked, frame[~has_gap], coverage_of(frame))


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
