"""Calibration of error bars and of probabilities, as plots."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import ndtri

from mofgap.report.figure import (
    INK,
    SERIES,
    add_legend,
    figure_of,
    finished,
    line_style,
    new_axes,
    say_nothing_to_show,
)
from mofgap.report.series import Column, Columns, complete, drawn_words, series
from mofgap.uncertainty import metrics
from mofgap.uncertainty.columns import Floats


def qq_gaussian(y_true: Column, y_pred: Columns, y_std: Columns, *, df: pd.DataFrame | None = None) -> Figure:
    """Calibration curve: observed against nominal coverage of central Gaussian intervals, with its area.

    Args:
        y_true: Reference values, shape (n,).
        y_pred: Predictions, shape (n,).
        y_std: Standard deviations, shape (n,).
        df: Where names are looked up.

    Raises:
        ValueError: If the columns differ in length, a standard deviation is negative, or a method has no
            prediction.
        KeyError: If ``df`` lacks a named column.
    """
    found = series(y_true, y_pred, y_std, df)
    counts = "; ".join(dict.fromkeys(drawn_words(len(each.true), each.n_left_out) for each in found))
    caption = (
        f"Fraction of references inside central Gaussian intervals against their nominal coverage, "
        f"{counts}. The area is between the curve and the diagonal, 0 to 0.5; a curve below the diagonal "
        "means error bars too short."
    )
    axes = new_axes(caption)
    axes.set(xlabel="nominal coverage / %", ylabel="observed coverage / %", xlim=(0, 100), ylim=(0, 100))
    axes.set_aspect("equal")
    axes.plot([0, 100], [0, 100], "--", color=INK, linewidth=1)
    for i, each in enumerate(found):
        if not len(each.true):
            continue
        nominal = 100 * metrics.NOMINAL
        observed = 100 * metrics.observed_coverage(each.true, each.pred, each.std)
        area = metrics.miscalibration_area(each.true, each.pred, each.std)
        style = line_style(i)
        axes.plot(nominal, observed, label=f"{each.label}area {area:.3f}", **style)
        if len(found) <= 2:  # more areas would mix into mud
            axes.fill_between(nominal, nominal, observed, color=style["color"], alpha=0.15, linewidth=0)
    return finished(axes, has_rows=any(len(each.true) for each in found))


def p_in_window_reliability(
    y_true: Column,
    p_in_window: Columns,
    window: tuple[float, float],
    *,
    df: pd.DataFrame | None = None,
    n_bins: int = 10,
) -> Figure:
    """How often structures of a stated probability did lie in the window.

    Args:
        y_true: Reference values, shape (n,), eV.
        p_in_window: Stated probabilities, shape (n,), or one column for each method.
        window: Its ends, eV.
        df: Where names are looked up.
        n_bins: Bins of equal width; those of no structure are left out.

    Raises:
        ValueError: If the columns differ in length, or a probability lies outside 0 to 1.
        KeyError: If ``df`` lacks a named column.
    """
    methods = p_in_window if isinstance(p_in_window, Mapping) else {"": p_in_window}
    tables = {name: complete(df, y_true=y_true, p_in_window=column) for name, column in methods.items()}
    counts = "; ".join(dict.fromkeys(drawn_words(len(table[0]), n_out) for table, n_out in tables.values()))
    caption = (
        f"Fraction of structures whose reference lies in {window[0]:g} to {window[1]:g} eV against the "
        f"mean stated probability, in {n_bins} bins of equal width, {counts}. Bars are 90 % Wilson "
        "intervals; numbers count the structures of a bin."
    )
    axes = new_axes(caption)
    axes.set(xlabel="stated probability", ylabel="fraction in the window", xlim=(0, 1), ylim=(0, 1.02))
    axes.plot([0, 1], [0, 1], "--", color=INK, linewidth=1)
    for i, (name, ((true, stated), _)) in enumerate(tables.items()):
        if not len(true):
            continue
        mean, hits, n = _binned(true, stated, window, n_bins)
        low, high = _wilson(hits, n)
        share, colour = hits / n, SERIES[i % len(SERIES)]
        ends = np.maximum(0, [share - low, high - share])
        axes.errorbar(
            mean, share, ends, fmt="o-", color=colour, markersize=4, linewidth=1, label=name or None
        )
        for x, y, count in zip(mean, share, n, strict=True):
            axes.annotate(
                f"{count:,.0f}", (x, y), (4, -10), textcoords="offset points", fontsize=7, color=colour
            )
    if not any(len(table[0]) for table, _ in tables.values()):
        say_nothing_to_show(axes)
    elif any(methods):
        add_legend(axes, "upper left")
    return figure_of(axes)


def _binned(
    true: Floats, stated: Floats, window: tuple[float, float], n_bins: int
) -> tuple[Floats, Floats, Floats]:
    """Mean stated probability, structures in the window, and structures, of each bin that has any."""
    if ((stated < 0) | (stated > 1)).any():
        raise ValueError("p_in_window must lie between 0 and 1")
    bins = np.minimum((stated * n_bins).astype(int), n_bins - 1)
    inside = (window[0] <= true) & (true <= window[1])
    columns = (stated, inside.astype(np.float64), np.ones_like(stated))
    sums, hits, n = (np.bincount(bins, column, n_bins).astype(np.float64) for column in columns)
    used = n > 0
    return sums[used] / n[used], hits[used], n[used]


def _wilson(hits: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Ends of the 90 % score interval of a proportion; Wilson, J. Am. Stat. Assoc. 22, 209 (1927)."""
    z = float(ndtri(0.95))
    centre = (hits + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(hits * (n - hits) / n + z**2 / 4)
    return centre - half, centre + half
