"""The table on a terminal: a bar for each interval, on one axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mofgap.counts import counted
from mofgap.gap.novelty_warnings import KNOWN, NOTES
from mofgap.screening.levels import functional
from mofgap.screening.row import Row, shortened, warnings_of
from mofgap.screening.table import Window

MAX_ROWS = 50
"""Rows shown without ``--top``, with which all are."""

_WIDEST_BAR, _NARROWEST_BAR = 40, 16
_GAP, _FORMULA, _INSIDE, _WARNINGS = 13, 20, 11, 16
"""Characters of the columns without names and bars, with the space between them."""
_NARROWEST_NAME = 12

_Column = tuple[str | Text, dict[str, Any], Callable[[Row], Text]]
_RIGHT = {"justify": "right", "no_wrap": True}


def render(console: Console, rows: Sequence[Row], window: Window, n_shown: int = MAX_ROWS) -> None:
    """Print the best rows; failures are left to the summary.

    Args:
        console: Where to.
        rows: Ranked.
        window: Marked on the axis, eV.
        n_shown: At most so many rows.
    """
    ranked = [row for row in rows if row.rank is not None]
    shown = ranked[:n_shown]
    if not shown:
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = _columns(shown, window, console.width)
    for heading, how, _ in columns:
        table.add_column(heading, **how)
    for row in shown:
        table.add_row(*(cell(row) for _, _, cell in columns))
    console.print(table)
    if len(ranked) > len(shown):
        console.print(Text(f"... {len(ranked) - len(shown)} more: -o FILE keeps them all, --top N shows N"))
    if any(row.warnings for row in shown):
        console.print(Text("The column warnings of -o FILE has the texts of warnings and notes."))


def _columns(shown: Sequence[Row], window: Window, total: int) -> list[_Column]:
    """Heading, layout and cells of each column, for a terminal of so many characters.

    Where there is no room, first the formula is left out, then the bars. Then long names are
    folded, so that no name of a warning is.
    """
    top_ev, two_levels = axis_end(shown), shown[0].pbe_gap_ev is not None
    longest = max(9, *(len(shortened(row.structure_id)) for row in shown))
    rest = 6 + _GAP * (1 + two_levels) + _INSIDE * (window is not None)
    words = " ".join(["warnings", *(named_warnings(row, brief=True).plain for row in shown)]).split()
    word = max(map(len, words))
    taken = rest + longest + 2 + max(_WARNINGS, word)
    with_formula = total >= taken + _FORMULA + _NARROWEST_BAR + 4
    left = total - taken - (_FORMULA if with_formula else 0)
    width = min(_WIDEST_BAR, left) if left >= _NARROWEST_BAR else 0
    brief = left < _NARROWEST_BAR
    room = max(_NARROWEST_NAME, min(longest, total - rest - word))
    name = {"overflow": "fold", "width": room} if room < longest else {"no_wrap": True}
    own = functional(shown[0].level_of_theory) if two_levels else "gap"
    columns: list[_Column] = [
        ("#", _RIGHT, lambda row: Text(str(row.rank))),
        ("structure", name, lambda row: Text(shortened(row.structure_id))),
    ]
    if with_formula:
        how = {"overflow": "ellipsis", "no_wrap": True, "max_width": 18}
        columns.append(("formula", how, lambda row: Text(row.formula)))
    whole = {**_RIGHT, "min_width": max(len(gap_words(row.gap_ev, row.gap_std_ev)) for row in shown)}
    columns.append((f"{own} / eV", whole, lambda row: Text(gap_words(row.gap_ev, row.gap_std_ev))))
    if two_levels:
        columns.append(("PBE / eV", whole, lambda row: Text(gap_words(row.pbe_gap_ev, row.pbe_gap_std_ev))))
    if width:
        columns.append((axis(top_ev, width), {"no_wrap": True}, lambda row: bar(row, window, top_ev, width)))
    if window is not None:
        columns.append(("in window", _RIGHT, lambda row: Text(f"{row.p_in_window or 0:.0%}")))
    folded = {"overflow": "fold", "min_width": word}
    columns.append(("warnings", folded, lambda row: named_warnings(row, brief=brief)))
    return columns


def gap_words(gap_ev: float | None, std_ev: float | None) -> str:
    """A gap and its spread, such as ``2.00 ± 0.50``."""
    return f"{gap_ev or 0:.2f} ± {std_ev or 0:.2f}"


def axis_end(rows: Sequence[Row]) -> float:
    """A whole number of eV that no interval exceeds, at least 1."""
    return float(max(1, math.ceil(max(row.gap_hi90_ev or 0 for row in rows))))


def axis(top_ev: float, width: int) -> Text:
    """The header of the bars: the axis from 0 to its end."""
    end = f"{top_ev:g} eV"
    return Text("0" + end.rjust(width - 1))


def bar(row: Row, window: Window, top_ev: float, width: int) -> Text:
    """An interval as a line with its gap as a dot, over the window in grey.

    Args:
        row: A predicted row.
        window: Ends in eV; shaded with ``░`` too, for terminals without colour.
        top_ev: Right end of the axis, which starts at 0.
        width: Number of characters.
    """

    def place(value: float | None) -> int:
        return min(width - 1, max(0, int((value or 0) / top_ev * width)))

    low, gap, high = place(row.gap_lo90_ev), place(row.gap_ev), place(row.gap_hi90_ev)
    text = Text()
    for i in range(width):
        inside = (
            window is not None and window[0] < (i + 1) * top_ev / width and i * top_ev / width < window[1]
        )
        mark = "●" if i == gap else "━" if low <= i <= high else "░" if inside else " "
        style = ("cyan" if low <= i <= high else "bright_black") + (" on grey23" if inside else "")
        text.append(mark, style)
    return text


def named_warnings(row: Row, brief: bool = False) -> Text:
    """The names of a row's warnings, without their explanations; several notes as their number, in grey.

    Notes that the gap may be known are named: such a structure need not be computed.

    Args:
        row: A predicted row.
        brief: Count even a single note, which states a fact, instead of naming it.
    """
    names = [name for name, _ in warnings_of(row.warnings)]
    n_notes = sum(name in NOTES - KNOWN for name in names)
    number = []
    if n_notes > (0 if brief else 1):  # many rows have the same ones
        names = [name for name in names if name not in NOTES - KNOWN]
        number = [Text(counted(n_notes, "note"), "bright_black")]
    styled = [Text(name, "bright_black" if name in NOTES else "yellow") for name in names]
    return Text(", ").join(styled + number)
