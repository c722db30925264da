"""A comparison of methods: metrics against samples and against cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, NullFormatter

from mofgap.report.figure import SERIES, finished, new_axes
from mofgap.report.series import Column, complete, drawn_words, floats, texts

_MARKERS = "osD^vPXdh"


def metric_vs_samples(
    n_samples: Column,
    value: Column,
    method: Column,
    *,
    df: pd.DataFrame | None = None,
    lo: Column | None = None,
    hi: Column | None = None,
    metric: str = "metric",
    made: str = "",
) -> Figure:
    """A metric against the number of samples, a line for each method.

    Args:
        n_samples: Draws, or members of an ensemble, shape (n,); 0 for a method that needs none, which is
            drawn as a dashed line all the way across.
        value: The metric, shape (n,).
        method: Name of the method of each row, shape (n,).
        df: Where names of columns are looked up.
        lo: Lower ends of the intervals of the values, drawn as bars where both ends are there.
        hi: Their upper ends.
        metric: What is measured, with its unit; the label of the axis.
        made: How values and intervals were made, for the caption.

    Raises:
        ValueError: If the columns differ in length, or a number of samples is negative.
        KeyError: If ``df`` lacks a named column.
    """
    rows = _rows(df, x=n_samples, value=value, method=method, lo=lo, hi=hi)
    if (rows.x < 0).any():
        raise ValueError("n_samples holds negative numbers")
    sampled = rows[rows.x > 0]
    caption = (
        f"{_capital(metric)} against the number of samples (draws, or members of an ensemble), "
        f"{_count(rows)}. Dashed: methods that draw no samples. {made}"
    )
    axes = _axes(rows, caption.strip(), "samples", metric)
    for i, (name, group) in enumerate(rows.groupby("method", sort=False)):
        line = group[group.x > 0].sort_values("x")
        if line.empty and len(sampled):
            colour = SERIES[i % len(SERIES)]
            axes.axhline(group.value.iloc[0], linestyle="--", color=colour, linewidth=1.2, label=str(name))
        else:
            _line(axes, group.assign(x=1.0) if line.empty else line, i, str(name))
    return finished(axes, has_rows=len(rows) > 0)


def metric_vs_cost(
    cost: Column,
    value: Column,
    method: Column,
    *,
    df: pd.DataFrame | None = None,
    lo: Column | None = None,
    hi: Column | None = None,
    metric: str = "metric",
    made: str = "",
) -> Figure:
    """A metric against what a prediction costs; settings of one method are joined.

    A cost is in forward passes a structure. The rest is as for `metric_vs_samples`.

    Raises:
        ValueError: If the columns differ in length, or a cost is not above 0.
        KeyError: If ``df`` lacks a named column.
    """
    rows = _rows(df, x=cost, value=value, method=method, lo=lo, hi=hi)
    if (rows.x <= 0).any():
        raise ValueError("a cost must lie above 0 to have a place on a logarithmic axis")
    cost_name = "forward passes a structure"
    caption = (
        f"{_capital(metric)} against {cost_name}, {_count(rows)}; settings of one method are joined. {made}"
    )
    axes = _axes(rows, caption.strip(), cost_name, metric)
    for i, (name, group) in enumerate(rows.groupby("method", sort=False)):
        _line(axes, group.sort_values("x"), i, str(name))
    return finished(axes, has_rows=len(rows) > 0)


def _rows(
    df: pd.DataFrame | None,
    *,
    x: Column,
    value: Column,
    method: Column,
    lo: Column | None,
    hi: Column | None,
) -> pd.DataFrame:
    """The rows that have a place and a value."""
    labels = np.asarray(texts(method, df), dtype=np.object_)
    (place, places, values), n_out = complete(df, place=np.arange(len(labels)), x=x, value=value)
    kept = place.astype(int)
    rows = pd.DataFrame({"x": places, "value": values, "method": labels[kept]})
    for name, column in {"lo": lo, "hi": hi}.items():
        ends = np.full(labels.shape, np.nan) if column is None else floats(column, df)
        if ends.shape != labels.shape:
            raise ValueError(f"{name} has the shape {ends.shape}, the other columns have {labels.shape}")
        rows[name] = ends[kept]
    rows.attrs["n_left_out"] = n_out
    return rows


def _axes(rows: pd.DataFrame, caption: str, xlabel: str, ylabel: str) -> Axes:
    axes = new_axes(caption)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if len(rows) and rows.x.max() > 0:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    return axes


def _line(axes: Axes, line: pd.DataFrame, i: int, name: str) -> None:
    """The line of the i-th method, with the intervals that its values have."""
    many, colour = len(line) > 1000, SERIES[i % len(SERIES)]
    marker = "" if many else _MARKERS[i % len(_MARKERS)]
    style = {"color": colour, "linewidth": 1.4, "markersize": 5, "label": name, "rasterized": many}
    axes.plot(line.x, line.value, marker=marker, **style)  # type: ignore[arg-type]
    bars = line.dropna(subset=["lo", "hi"])
    if len(bars) and not many:
        ends = [bars.value - bars.lo, bars.hi - bars.value]
        axes.errorbar(
            bars.x, bars.value, np.maximum(0, ends), fmt="none", ecolor=colour, elinewidth=1, alpha=0.6,
            capsize=2,
        )  # fmt: skip


def _count(rows: pd.DataFrame) -> str:
    return drawn_words(len(rows), rows.attrs["n_left_out"], "setting")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
