"""A screening: which gaps, how sure, and how near the window."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mofgap.report.figure import (
    INK,
    MAX_VECTOR_POINTS,
    SERIES,
    WINDOW,
    figure_of,
    new_axes,
    say_nothing_to_show,
)
from mofgap.report.series import Column, complete, drawn_words, floats, texts
from mofgap.screening.row import shortened
from mofgap.screening.table import Window, window_words
from mofgap.uncertainty.columns import Floats

_MAX_BINS = 60
_MAX_NAMED = 5
_FEWEST_FOR_OUTLIERS = 8
"""Fewer points than this have no outliers worth the word."""

_WIDTH_INCH = 4.7
"""Narrow, so that text stays readable where a page shrinks it to a phone's width."""


def top_intervals(
    names: Column,
    gap: Column,
    lo: Column,
    hi: Column,
    *,
    df: pd.DataFrame | None = None,
    window: Window = None,
    n_top: int = 20,
    coverage: str = "90 %",
    rank: Column | None = None,
    functional: str = "",
) -> Figure:
    """Gaps of the first rows with their intervals, the first on top, the window shaded.

    Args:
        names: Labels, shape (n,).
        gap: Predicted gaps, shape (n,), eV, in order of rank.
        lo: Lower ends of the intervals, shape (n,), eV.
        hi: Upper ends, shape (n,), eV.
        df: Where names of columns are looked up.
        window: Its ends, eV.
        n_top: At most so many rows.
        coverage: Coverage of the intervals, for the caption.
        rank: Numbers of the rows, shape (n,); their places from 1 by default.
        functional: Functional of the gaps, for the axis.

    Raises:
        ValueError: If the columns differ in length, a column is not one-dimensional, or ``n_top`` is below 1.
        KeyError: If ``df`` lacks a named column.
    """
    if n_top < 1:
        raise ValueError(f"n_top must be 1 or more, not {n_top}")
    labels = texts(names, df)
    place = np.arange(len(labels))
    (rows, ranks, gaps, low, high), n_out = complete(
        df, row=place, rank=place + 1 if rank is None else rank, gap=gap, lo=lo, hi=hi
    )
    shown = slice(n_top)
    caption = (
        f"The first {len(rows[shown])} of {drawn_words(len(rows), n_out)} in order of rank: predicted gap "
        f"(dot) and its {coverage.replace(' ', chr(160))} interval (line){_window_note(window)}."
    )
    axes = new_axes(caption, _WIDTH_INCH, 1.5 + 0.26 * max(4, len(rows[shown])))
    axes.set(xlabel=_gap_label(functional))
    _shade(axes, window, high[shown])
    if not len(rows):
        say_nothing_to_show(axes)
        return figure_of(axes)
    places = np.arange(len(rows[shown]))
    axes.hlines(places, low[shown], high[shown], color=SERIES[0], linewidth=2, alpha=0.6)
    axes.plot(gaps[shown], places, "o", color=SERIES[0], markersize=5)
    named = zip(ranks[shown], rows[shown], strict=True)
    axes.set_yticks(places, [f"{int(i)}  {shortened(labels[int(row)])}" for i, row in named])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)  # a dollar sign in a file name is a dollar sign
        label.set_fontsize(8.5)
    axes.grid(False, axis="y")
    axes.set(ylim=(len(places) - 0.4, -0.6), xlim=(min(0.0, float(low[shown].min())), None))
    return figure_of(axes)


def gap_vs_std(
    gap: Column,
    std: Column,
    *,
    df: pd.DataFrame | None = None,
    window: Window = None,
    functional: str = "",
    names: Column | None = None,
) -> Figure:
    """Predicted gap against its standard deviation, the window shaded, outliers named.

    Args:
        gap: Predicted gaps, shape (n,), eV.
        std: Their standard deviations, shape (n,), eV.
        df: Where names are looked up.
        window: Its ends, eV.
        functional: Functional of the gaps, for the axis.
        names: Labels, shape (n,), of which those of outliers are shown; none by default.

    Raises:
        ValueError: If the columns differ in length, or a column is not one-dimensional.
        KeyError: If ``df`` lacks a named column.
    """
    (gaps, spreads, place), n_out = complete(df, gap=gap, std=std, place=np.arange(np.size(floats(gap, df))))
    labels = [] if names is None else texts(names, df)
    outliers = _outliers(gaps, spreads) if labels else []
    caption = (
        f"Standard deviation against predicted gap, {drawn_words(len(gaps), n_out)}"
        f"{_window_note(window)}{'; outliers are named' if outliers else ''}."
    )
    axes = new_axes(caption, _WIDTH_INCH, 3.4)
    axes.set(xlabel=_gap_label(functional), ylabel="standard deviation / eV")
    _shade(axes, window, gaps)
    if len(gaps):
        many = len(gaps) > MAX_VECTOR_POINTS
        size, alpha = (3.0, 0.3) if many else (18.0, 0.75)
        axes.scatter(gaps, spreads, s=size, alpha=alpha, color=SERIES[0], linewidths=0, rasterized=many)
        axes.set_xlim(left=min(0.0, float(gaps.min())))
        axes.set_ylim(bottom=0)
        for i in outliers:
            _name_point(axes, gaps, spreads, i, labels[int(place[i])])
    else:
        say_nothing_to_show(axes)
    return figure_of(axes)


def gap_histogram(
    gap: Column, *, df: pd.DataFrame | None = None, window: Window = None, functional: str = ""
) -> Figure:
    """Distribution of predicted gaps, the window shaded.

    Args:
        gap: Predicted gaps, shape (n,), eV.
        df: Where names are looked up.
        window: Its ends, eV.
        functional: Functional of the gaps, for the axis.

    Raises:
        ValueError: If the column ``gap`` is not one-dimensional.
        KeyError: If ``df`` lacks a named column.
    """
    (gaps,), n_out = complete(df, gap=gap)
    inside = ""
    if window is not None and len(gaps):
        n_inside = int(((window[0] <= gaps) & (gaps <= window[1])).sum())
        inside = f"; {n_inside:,} predictions ({100 * n_inside / len(gaps):.0f} %) lie in it"
    caption = f"Predicted gaps of {drawn_words(len(gaps), n_out)}{_window_note(window)}{inside}."
    axes = new_axes(caption, _WIDTH_INCH, 3.0)
    axes.set(xlabel=_gap_label(functional), ylabel="structures")
    _shade(axes, window, gaps)
    if len(gaps):
        axes.hist(gaps, bins=histogram_edges(gaps, window), color=SERIES[0], alpha=0.85, rwidth=0.96)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(left=min(0.0, float(gaps.min())))
    else:
        say_nothing_to_show(axes)
    return figure_of(axes)


def histogram_edges(values: Floats, window: Window) -> list[float]:
    """Edges of bins that hold all values, such that no bin lies across an end of the window.

    Bins are as wide as a whole number of them makes the window, unless that were too many beside it. Inside
    it there are at most twice `_MAX_BINS`.

    Args:
        values: At least one, eV.
        window: Its ends, eV.
    """
    least, most = float(values.min()), float(values.max())
    n_bins = int(np.clip(2 * len(values) ** (1 / 3), 5, _MAX_BINS))
    width = (most - least) / n_bins if most > least else 0.1
    ends = [end for end in window or () if math.isfinite(end)]
    if not ends or ends[-1] < least or ends[0] > max(most, least + width):
        return [float(edge) for edge in np.linspace(least, max(most, least + width), n_bins + 1)]
    inside = [ends[0]]
    if ends[-1] > ends[0]:
        n_inside = min(max(1, round((ends[-1] - ends[0]) / width)), 2 * _MAX_BINS)
        inside = [float(edge) for edge in np.linspace(ends[0], ends[-1], n_inside + 1)]
        fitted = (ends[-1] - ends[0]) / n_inside
        width = fitted if (most - least) / fitted <= 2 * _MAX_BINS else width
    below = max(0, math.ceil((inside[0] - least) / width))
    above = max(0, math.ceil((most - inside[-1]) / width))
    if below + above + len(inside) < 2:
        above = 1
    lower = [max(inside[0] - k * width, min(0.0, least)) for k in range(below, 0, -1)]
    edges = [*lower, *inside, *(inside[-1] + k * width for k in range(1, above + 1))]
    return [min(edges[0], least), *edges[1:-1], max(edges[-1], most)]


def _outliers(gaps: Floats, spreads: Floats) -> list[int]:
    """Points outside the fences of a box plot (Tukey), the farthest first.

    They are few, and far enough from each other for their names to be read.
    """
    if len(gaps) < _FEWEST_FOR_OUTLIERS:
        return []
    beyond = np.zeros(len(gaps))
    for values in (gaps, spreads):
        low, high = np.quantile(values, [0.25, 0.75])
        reach = max(1.5 * (high - low), 1e-9)
        beyond = np.maximum(beyond, np.maximum(low - values, values - high) / reach)
    room = 0.5 * np.ptp(gaps), 0.05 * np.ptp(spreads)
    order = np.argsort(-beyond, kind="stable")
    left, named = order[beyond[order] > 1], list[int]()
    while len(left) and len(named) < _MAX_NAMED:
        named.append(int(left[0]))
        apart = (
            np.abs(gaps[left] - gaps[left[0]]) > room[0],
            np.abs(spreads[left] - spreads[left[0]]) > room[1],
        )
        left = left[apart[0] | apart[1]]
    return named


def _name_point(axes: Axes, x: Floats, y: Floats, i: int, name: str) -> None:
    """A name next to a point, on the side that has room."""
    to_left = x[i] > (x.min() + x.max()) / 2
    axes.annotate(
        shortened(name), (x[i], y[i]), xytext=(-5 if to_left else 5, 2), textcoords="offset points",
        ha="right" if to_left else "left", fontsize=7, color=INK, parse_math=False,
    )  # fmt: skip


def _gap_label(functional: str) -> str:
    return f"{functional} gap / eV".strip()


def _shade(axes: Axes, window: Window, values: Floats) -> None:
    """Shade the window; an open end reaches to zero, or to the largest of the values."""
    if window is None:
        return
    low = window[0] if math.isfinite(window[0]) else 0.0
    high = window[1] if math.isfinite(window[1]) else max(low, *values.tolist(), low + 1)
    axes.axvspan(low, high, color=WINDOW, alpha=0.3, linewidth=0, zorder=0)
    for end in window:
        if math.isfinite(end):
            axes.axvline(end, color=INK, linewidth=0.7, linestyle=":")


def _window_note(window: Window) -> str:
    return "" if window is None else f"; the window, {window_words(window)}, is shaded"
