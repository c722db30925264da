"""A screening in a notebook: a DataFrame that shows as a rich table and draws itself."""

from __future__ import annotations

import html
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pandas.plotting import PlotAccessor

from mofgap.choices import N_CARDS
from mofgap.report.formula import with_subscripts
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.levels import functional, ranking_words
from mofgap.screening.origin import N_COPIES, N_NOVEL, N_ROWS, origin_of
from mofgap.screening.row import shortened, warnings_of
from mofgap.screening.table import Window, coverage_of, lacking, read_table, window_of, window_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_SHOWN = 15
SHOWN = ("rank", "structure_id", "status", "formula", "gap_ev", "gap_std_ev", "warnings")

# Colours with an alpha lie well on a light and on a dark notebook.
_BAR = "position:absolute;top:.45em;height:.25em;background:#4a8fd0"
_DOT = (
    "position:absolute;top:.27em;width:.6em;height:.6em;margin-left:-.3em;border-radius:50%;"
    "background:#4a8fd0"
)
_INSIDE = "position:absolute;top:0;bottom:0;background:rgba(240,199,94,.45)"
_AXIS = "position:relative;display:block;width:11em;height:1.15em;background:rgba(128,128,128,.14)"


class ScreeningPlot(PlotAccessor):
    """``table.plot()`` draws the screening; ``table.plot.hist(...)`` and the others are those of pandas."""

    def __init__(self, table: pd.DataFrame) -> None:
        super().__init__(table)
        self._table = table

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Draw gaps and intervals of the best rows, the window shaded.

        Args:
            args: Any makes it pandas' own plot.
            kwargs: ``n_top``, the number of rows; any other makes it pandas' own plot.

        Returns:
            A matplotlib Figure.
        """
        table = self._table
        if args or set(kwargs) - {"n_top"} or lacking(table, SHOWN) or not coverage_of(table):
            return super().__call__(*args, **kwargs)
        return _intervals(table, kwargs.get("n_top", N_SHOWN))


class Screening(pd.DataFrame):
    """What `mofgap.screen` returns: a DataFrame with the columns of `mofgap.screening.row.Row`."""

    @classmethod
    def read(cls, path: Path | str) -> Screening:
        """Read a table that ``mofgap screen`` wrote: ``.csv``, ``.parquet``, ``.json`` or ``.xlsx``.

        Raises:
            ScreeningTableError: If the file ``path`` does not exist, or is not a table of ``mofgap screen``.
            OSError: If the file ``path`` cannot be read.
        """
        frame = read_table(Path(path))
        found = cls(frame)
        found.attrs = frame.attrs  # a new frame has none
        return found

    @property
    def plot(self) -> ScreeningPlot:
        """Called, it draws the screening; its attributes are pandas' plots."""
        return ScreeningPlot(self)

    @property
    def _constructor(self) -> Callable[..., Screening]:
        return Screening

    @property
    def window(self) -> Window:
        """Ends of the window that was screened for, eV; an open end is infinite. None if there is none."""
        return window_of(self)

    def report(
        self, path: Path | str = "report.html", *, window: Window = None, cards: int = N_CARDS
    ) -> Path:
        """Write the page of ``mofgap report``; structures are read again from where the table says they are.

        Args:
            path: The page; a file that is there is overwritten.
            window: Shaded in the figures, eV; by default the table's own.
            cards: Candidates that get a card of their own.

        Returns:
            The path.

        Raises:
            ScreeningTableError: If the table lacks a column of a screening, or has no rows.
            ValueError: If ``path`` does not end in .html or .htm, or ``window`` or ``cards`` is not valid.
            OSError: If the file ``path`` cannot be written.
        """
        from mofgap.report.file import write_report

        if window is not None:
            window = ScreeningConfig(window=window).window
        frame = pd.DataFrame(self)
        frame.attrs = self.attrs  # a new frame has none
        write_report(Path(path), frame, command="table.report()", window=window, cards=cards)
        return Path(path)

    def __repr__(self) -> str:
        if lacking(self, SHOWN):
            return repr(pd.DataFrame(self))
        return table_text(self)

    def _repr_html_(self) -> str:
        if lacking(self, SHOWN):  # as in a selection of columns
            return pd.DataFrame(self).to_html(max_rows=N_SHOWN)
        return table_html(self)


def table_text(frame: pd.DataFrame) -> str:
    """The best rows as lines of text, then how many there are of each kind."""
    ranked = frame[frame.status != "failed"]
    shown = ranked.head(N_SHOWN)
    window = window_of(frame)
    columns = {
        "#": ["" if pd.isna(rank) else str(rank) for rank in shown["rank"]],
        "structure": [shortened(str(name)) for name in shown.structure_id],
        **_gaps(shown),
    }
    if coverage := coverage_of(shown):
        ends = zip(shown[f"gap_lo{coverage}_ev"], shown[f"gap_hi{coverage}_ev"], strict=True)
        columns[f"{coverage} % interval"] = [
            "" if pd.isna(low) or pd.isna(high) else f"{low:.2f} to {high:.2f}" for low, high in ends
        ]
    if window is not None:
        columns["in window"] = ["" if pd.isna(p) else f"{p:.0%}" for p in shown.p_in_window]
    table = pd.DataFrame(columns).to_string(index=False) + "\n" if len(shown) else ""
    return table + _counts(frame, len(shown))


def _gaps(shown: pd.DataFrame) -> dict[Hashable, list[str]]:
    """Gaps with their spreads, in a column for each level."""

    def gaps(level: str) -> list[str]:
        pairs = zip(shown[f"{level}gap_ev"], shown[f"{level}gap_std_ev"], strict=True)
        return ["" if pd.isna(gap) or pd.isna(std) else f"{gap:.2f} ± {std:.2f}" for gap, std in pairs]

    if not _of_two(shown):
        return {"gap / eV": gaps("")}
    level = functional(str(shown.level_of_theory.iloc[0]))
    return {f"{level} / eV": gaps(""), "PBE / eV": gaps("pbe_")}


def _counts(frame: pd.DataFrame, n_shown: int) -> str:
    """How many rows there are of each kind, the window, and what ranks go by."""
    status = frame.status.value_counts()
    kinds = {"ok": "ok", "warning": "with warnings", "failed": "failed"}
    counts = ", ".join(f"{status.get(kind, 0):,} {words}" for kind, words in kinds.items())
    counts = "no rows" if frame.empty else counts
    ranked = frame[frame.status != "failed"]
    window = window_of(frame)
    if window is not None:
        counts += f"; window {window_words(window)}"
    if len(ranked) > n_shown:
        counts += f"; the first {n_shown} of {len(ranked):,} shown"
    if _of_two(ranked):
        counts += f"; {ranking_words(str(ranked.level_of_theory.iloc[0]))}"
    return counts + _left_out(frame)


def _left_out(frame: pd.DataFrame) -> str:
    """How many novel structures and duplicates a screening left out, where its record says so."""
    found = origin_of(frame)
    if found.get(N_ROWS) != len(frame):  # as in a part of the table
        return ""
    n_novel = found.get(N_NOVEL, 0) if found.get("novelty") == "drop" else 0
    n_copies = found.get(N_COPIES, 0) if found.get("duplicates") == "first" else 0
    counts = {"novel structures": n_novel, "duplicates": n_copies}
    return "".join(f"; {what} left out: {n:,}" for what, n in counts.items() if n)


def table_html(frame: pd.DataFrame) -> str:
    """The best rows as an HTML table with a bar for each interval, all on one axis; texts are escaped."""
    shown = frame[frame.status != "failed"].head(N_SHOWN)
    window = window_of(frame)
    counts = html.escape(_counts(frame, len(shown)))
    columns = _columns(shown, window)
    head = "".join(f'<th style="text-align:left">{html.escape(str(name))}</th>' for name in columns)
    cells = zip(*columns.values(), strict=True)
    body = "".join("<tr>" + "".join(map(_data, row)) + "</tr>" for row in cells)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{counts}</p>"


def _columns(shown: pd.DataFrame, window: Window) -> dict[Hashable, list[str]]:
    """HTML of the cells of each column."""

    def texts(name: str) -> list[str]:
        return [html.escape(str(value)) for value in shown[name]]

    columns: dict[Hashable, list[str]] = {
        "#": ["" if pd.isna(rank) else str(rank) for rank in shown["rank"]],
        "structure": texts("structure_id"),
        "formula": [str(with_subscripts(str(text))) for text in shown.formula],
    }
    columns |= _gaps(shown)
    if coverage := coverage_of(shown):
        ends = [f"gap_lo{coverage}_ev", f"gap_hi{coverage}_ev"]
        axis_end = max(1.0, shown[ends[1]].max())
        columns[f"{coverage} % interval, 0 to {axis_end:.1f} eV"] = [
            _bar(low, gap, high, window, axis_end)
            for low, gap, high in zip(shown[ends[0]], shown.gap_ev, shown[ends[1]], strict=True)
        ]
    if window is not None:
        columns["in window"] = ["" if pd.isna(p) else f"{p:.0%}" for p in shown.p_in_window]
    columns["warnings"] = [_warnings(text) for text in shown.warnings]
    return columns


def _of_two(shown: pd.DataFrame) -> bool:
    """Whether rows have the gap of a second level."""
    return len(shown) > 0 and {"pbe_gap_ev", "pbe_gap_std_ev", "level_of_theory"} <= set(shown.columns)


def _bar(low: float, gap: float, high: float, window: Window, axis_end: float) -> str:
    def place(value: float) -> float:
        return 100 * min(axis_end, max(0.0, value)) / axis_end

    def span(style: str, start: float, end: float) -> str:
        return (
            f'<span style="{style};left:{place(start):.1f}%;width:{place(end) - place(start):.1f}%"></span>'
        )

    if pd.isna(low) or pd.isna(high):
        return ""
    inside = "" if window is None else span(_INSIDE, *window)
    dot = f'<span style="{_DOT};left:{place(gap):.1f}%"></span>'
    title = f"{low:.2f} to {high:.2f} eV"
    return f'<span style="{_AXIS}" title="{title}">{inside}{span(_BAR, low, high)}{dot}</span>'


def _warnings(text: Any) -> str:
    """The names of warnings; their explanations appear under the pointer."""
    return ", ".join(
        f'<span title="{html.escape(words)}">{html.escape(name)}</span>' for name, words in warnings_of(text)
    )


def _data(content: str) -> str:
    return f'<td style="text-align:left">{content}</td>'


def _intervals(table: pd.DataFrame, n_top: int) -> Figure:
    # The plots know nothing of this class; they are needed only when something is drawn.
    from mofgap.report import plots

    coverage = coverage_of(table)
    names = set(map(functional, table[table.gap_ev.notna()].get("level_of_theory", [])))
    return plots.top_intervals(
        "structure_id", "gap_ev", f"gap_lo{coverage}_ev", f"gap_hi{coverage}_ev",
        df=table[table.status != "failed"], window=window_of(table), n_top=n_top, coverage=f"{coverage} %",
        rank="rank", functional=names.pop() if len(names) == 1 else "",
    )  # fmt: skip
