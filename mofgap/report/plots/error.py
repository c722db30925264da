"""Errors, and how well the spread ranks them."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mofgap.report.figure import (
    INK,
    MAX_VECTOR_POINTS,
    SERIES,
    figure_of,
    finished,
    label_outer,
    line_style,
    new_axes,
    new_panels,
    say_nothing_to_show,
)
from mofgap.report.series import Column, Columns, Series, drawn_words, series
from mofgap.uncertainty import metrics
from mofgap.uncertainty.columns import Floats
from mofgap.uncertainty.ranks import dense_ranks, in_order

MAX_BARS = 300
"""Error bars drawn of one method; more would hide the points."""

_TITLE_CHARACTERS = 25
_MAX_SIMULATED = 2_000_000
_LINE_POINTS = 400


def parity(
    y_true: Column,
    y_pred: Columns,
    y_std: Columns,
    *,
    df: pd.DataFrame | None = None,
    panels: bool = False,
) -> Figure:
    """Predictions against references, with error bars of one standard deviation.

    Args:
        y_true: Reference values, shape (n,), eV.
        y_pred: Predictions, shape (n,), eV.
        y_std: Standard deviations, shape (n,), eV.
        df: Where names are looked up.
        panels: Give each method axes of its own, all on the same scales.

    Raises:
        ValueError: If the columns differ in length, a standard deviation is negative, or a method has no
            prediction.
        KeyError: If ``df`` lacks a named column.
    """
    found = series(y_true, y_pred, y_std, df)
    caption = (
        f"Prediction against reference, {_counts(found)}; bars are one standard deviation"
        f"{_bars_note(found)}. Dashed: equality. MAE is the mean absolute error, R² the coefficient of "
        "determination."
    )
    everything = np.concatenate([np.empty(0), *(part for each in found for part in (each.true, each.pred))])
    ends = [everything.min(), everything.max()] if len(everything) else []
    margin = 0.06 * (ends[1] - ends[0]) + 0.01 if ends else 0.0
    every = _axes_of(found, caption, panels)
    for each, colour, axes in zip(found, _colours(found), every, strict=False):
        axes.set(xlabel="reference / eV", ylabel="prediction / eV")
        axes.plot(ends, ends, "--", color=INK, linewidth=1)
        axes.set_box_aspect(1)
        if ends:  # a bar far longer than the others would squeeze the points into a line
            axes.set(xlim=(ends[0] - margin, ends[1] + margin), ylim=(ends[0] - margin, ends[1] + margin))
        if not len(each.true):
            continue
        score = f"MAE {metrics.mae(each.true, each.pred):.3f} eV, R² {metrics.r2(each.true, each.pred):.2f}"
        _points(axes, each.true, each.pred, colour, each.label + score, _is_many(found))
        bars = np.argsort(each.true, kind="stable")[:: max(1, -(-len(each.true) // MAX_BARS))]
        axes.errorbar(
            each.true[bars], each.pred[bars], each.std[bars], fmt="none", ecolor=colour, elinewidth=0.7,
            alpha=0.5, rasterized=_is_many(found),
        )  # fmt: skip
    return _finished(every[0], found, panels)


def error_vs_std(
    y_true: Column,
    y_pred: Columns,
    y_std: Columns,
    *,
    df: pd.DataFrame | None = None,
    panels: bool = False,
) -> Figure:
    """|error| against standard deviation, with Spearman's correlation and what is the most to expect.

    Args and errors are those of `parity`.
    """
    found = series(y_true, y_pred, y_std, df)
    caption = (
        f"Absolute error against predicted standard deviation, {_counts(found)}. ρ is Spearman's rank "
        "correlation; in brackets the value these spreads would have if every error came from "
        "N(0, std²), the mean of simulated sets of errors. Dashed: |error| = std."
    )
    every = _axes_of(found, caption, panels, share_x=False)
    for each, colour, axes in zip(found, _colours(found), every, strict=False):
        axes.set(xlabel="std / eV" if panels else "standard deviation / eV")
        axes.set(ylabel="|error| / eV")
        axes.axline((0, 0), slope=1, linestyle="--", color=INK, linewidth=1)
        if not len(each.true):
            continue
        n_draws = max(5, min(200, _MAX_SIMULATED // len(each.std)))
        rho = metrics.spearman(each.true, each.pred, each.std)
        ideal = metrics.expected_spearman(each.std, n_draws)
        words = f"ρ {rho:.2f} [{ideal:.2f}]" if np.isfinite(rho) else "ρ undefined"
        _points(axes, each.std, each.error, colour, each.label + words, _is_many(found))
    return _finished(every[0], found, panels)


def error_decay_with_uncert(
    y_true: Column, y_pred: Columns, y_std: Columns, *, df: pd.DataFrame | None = None
) -> Figure:
    """The mean absolute error that is left when the most uncertain are dropped, with the oracle's line.

    Args and errors are those of `parity`.
    """
    found = series(y_true, y_pred, y_std, df)
    caption = (
        f"Mean absolute error of the structures left when those of largest standard deviation are dropped, "
        f"{_counts(found)}. Dotted: the oracle of each method, which drops those of largest error; dropped "
        "at random, the error would stay where the line begins. AUSE is the area between a line and its "
        "oracle in units of the error of all."
    )
    axes = new_axes(caption)
    axes.set(xlabel="dropped / %", ylabel="mean absolute error of the rest / eV", xlim=(0, 100))
    for i, each in enumerate(found):
        if not len(each.true):
            continue
        area, colour = metrics.ause(each.true, each.pred, each.std), line_style(i)["color"]
        axes.plot(*_decay(each.error, each.std), label=f"{each.label}AUSE {area:.2f}", **line_style(i))
        oracle = None if axes.lines[1:] else "oracle"
        axes.plot(*_decay(each.error, each.error), ":", color=colour, label=oracle)
    axes.set_ylim(bottom=0)
    return _finished(axes, found)


def _decay(error: Floats, key: Floats) -> tuple[Floats, Floats]:
    """Percent dropped, and the mean error of what is left, at so many places that a line looks smooth.

    Rows of equal key are dropped in random order, on average, as in `metrics.ause`.
    """
    n = len(error)
    kept = np.cumsum(in_order(error, dense_ranks(key))) / np.arange(1, n + 1)
    places = np.unique(np.linspace(0, n - 1, min(n, _LINE_POINTS)).astype(int))
    return 100 * (1 - (places + 1) / n), kept[places]


def _points(axes: Axes, x: Floats, y: Floats, colour: str, label: str, many: bool) -> None:
    size, alpha = (3.0, 0.25) if len(x) > MAX_VECTOR_POINTS else (14.0, 0.7)
    axes.scatter(x, y, s=size, color=colour, alpha=alpha, linewidths=0, label=label, rasterized=many)


def _is_many(found: list[Series]) -> bool:
    """Whether a figure has more points than are kept as vectors."""
    return sum(len(each.true) for each in found) > MAX_VECTOR_POINTS


def _colours(found: list[Series]) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(len(found))]


def _axes_of(found: list[Series], caption: str, panels: bool, share_x: bool = True) -> list[Axes]:
    """Axes for each method: its own, or one for all."""
    if panels and len(found) > 1:
        n_columns = 2 if len(found) <= 4 else 3
        # Square axes fill their panels at this height.
        height_inch = 2.9 if n_columns == 2 else 2.2
        return new_panels(caption, len(found), height_inch=height_inch, n_columns=n_columns, share_x=share_x)
    return [new_axes(caption)] * max(1, len(found))


def _counts(found: list[Series]) -> str:
    if not found:
        return "no method"
    counts = {drawn_words(len(each.true), each.n_left_out) for each in found}
    if len(counts) == 1:
        return counts.pop()
    return "; ".join(f"{each.name}: {drawn_words(len(each.true), each.n_left_out)}" for each in found)


def _bars_note(found: list[Series]) -> str:
    return f" (drawn for about {MAX_BARS})" if any(len(each.true) > MAX_BARS for each in found) else ""


def _finished(axes: Axes, found: list[Series], panels: bool = False) -> Figure:
    """Say of each method what its colour is and how it scores: above its panel, or in a legend."""
    if not panels or len(found) <= 1:
        return finished(axes, has_rows=any(len(each.true) for each in found))
    figure = figure_of(axes)
    label_outer(figure.axes)
    for each, panel in zip(found, figure.axes, strict=True):
        labels = panel.get_legend_handles_labels()[1] or [each.name]
        name, _, score = labels[0].partition(": ")
        panel.set_title(f"{textwrap.fill(name, _TITLE_CHARACTERS)}\n{score}".rstrip(), fontsize=7.5)
        if not len(each.true):
            say_nothing_to_show(panel)
    return figure
