"""The figures of a comparison: a few methods each, at a size that can be read, and the others apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as MatplotlibFigure

from mofgap.report import plots
from mofgap.report.figure import caption_of, set_caption
from mofgap.report.page import Figure, drawn
from mofgap.study.methods.method import estimators, uncorrected
from mofgap.study.report.compared import Compared, label, place

N_TOGETHER = 3
"""Methods in one figure."""

Draw = Callable[[Compared, str, Sequence[str]], MatplotlibFigure]
"""Draws some methods on a split."""


def figures_of(compared: Compared, *, appendix: bool = False) -> list[tuple[str, list[tuple[str, Figure]]]]:
    """Rows of figures: a title, and a figure for each split.

    Args:
        compared: The comparison.
        appendix: Draw the methods that have no place in the first figures, instead of the first
            `N_TOGETHER`.
    """
    of_error = partial(_of_predictions, plot=plots.error_vs_std, panels=True)
    wanted: dict[str, Draw] = {
        "Parity": partial(_of_predictions, plot=plots.parity, std="gap_std_ev", panels=True),
        "Error against the calibrated spread": partial(of_error, std="gap_std_ev"),
        "Error against the epistemic spread": partial(of_error, std="epistemic_std_ev"),
        "Calibration curve": partial(_of_predictions, plot=plots.qq_gaussian, std="gap_std_ev"),
        "Error left when the most uncertain are dropped": partial(
            _of_predictions, plot=plots.error_decay_with_uncert, std="gap_std_ev"
        ),
        "Ranking of errors against the number of samples": partial(
            _against, metric="spearman", x="n_samples"
        ),
        "Error against the number of samples": partial(_against, metric="mae_ev", x="n_samples"),
        "Ranking of errors against cost": partial(_against, metric="spearman", x="mean.forward_passes"),
        "Error against cost": partial(_against, metric="mae_ev", x="mean.forward_passes"),
    }
    rows = []
    for i, (title, draw) in enumerate(wanted.items()):
        for part in range(1, _n_parts(compared)) if appendix else [0]:
            figures = {
                split: draw(compared, split, chosen)
                for split in compared.splits
                if (chosen := _part(compared, split, part))
            }
            _share_scales(list(figures.values()))
            named = [(s, drawn(f"f{i}-{part}-{j}", each)) for j, (s, each) in enumerate(figures.items())]
            rows.append((title, named))
    return rows


def _part(compared: Compared, split: str, part: int) -> list[str]:
    """The methods of a figure, the first of tables first."""
    methods = _drawn_methods(compared, split)
    if part == 0 and not methods:
        return [""]  # of no method: a figure that says that it is empty
    return methods[N_TOGETHER * part : N_TOGETHER * (part + 1)]


def _n_parts(compared: Compared) -> int:
    most = max((len(_drawn_methods(compared, split)) for split in compared.splits), default=0)
    return -(-most // N_TOGETHER)


def _share_scales(figures: Sequence[MatplotlibFigure]) -> None:
    """Give figures next to each other the same scales; panels of one figure keep their own widths."""
    axes = [each for figure in figures for each in figure.axes if each.has_data()]
    square = all(each.get_box_aspect() == 1 for each in axes)
    alone = square or not any(len(figure.axes) > 1 for figure in figures)
    for end in ["xlim", "ylim"] if alone else ["ylim"]:
        found = [getattr(each, f"get_{end}")() for each in axes]
        for each in axes:
            getattr(each, f"set_{end}")(min(low for low, _ in found), max(high for _, high in found))


def _of_predictions(
    compared: Compared,
    split: str,
    methods: Sequence[str],
    *,
    plot: Callable[..., MatplotlibFigure],
    std: str,
    **options: Any,
) -> MatplotlibFigure:
    """A figure of the test predictions of each method's first training, with the samples of the tables."""
    gaps: dict[str, Any] = {}
    spreads: dict[str, Any] = {}
    reference = pd.Series(dtype=np.float64)
    for method in methods:
        seeds = compared.seeds(split, method)
        if not seeds or seeds[0][std].isna().all():
            continue
        rows = seeds[0].set_index("id")
        reference = rows.gap_dft_ev if reference.empty else reference
        rows = rows.reindex(reference.index)
        gaps[label(method)], spreads[label(method)] = rows.gap_ev.to_numpy(), rows[std].to_numpy()
    figure = plot(reference.to_numpy(), gaps, spreads, **options)
    made = (
        "spreads calibrated on val" if std == "gap_std_ev" else "the epistemic spread alone, not calibrated"
    )
    which = f"Split “{split}”, the first training of each method, samples as in the tables; {made}."
    set_caption(figure, f"{caption_of(figure)} {which}")
    return figure


def _drawn_methods(compared: Compared, split: str) -> list[str]:
    """Methods trained on a split that have a spread, those of every split first, for the same colours."""
    best = compared.best
    trained = best[(best.kind == "trained") & (best.spread != "none")]
    methods = sorted(trained[trained.split == split].method.tolist(), key=place)
    in_all = [set(trained[trained.split == name].method) for name in compared.splits]
    # One of each family comes first: BaLoRA and an ensemble, not three ways to sample one model.
    families = [method.split("-")[0] for method in methods]
    nth = {method: families[:i].count(families[i]) for i, method in enumerate(methods)}
    return sorted(methods, key=lambda method: (not all(method in known for known in in_all), nth[method]))


def _against(
    compared: Compared, split: str, methods: Sequence[str], *, metric: str, x: str
) -> MatplotlibFigure:
    """A metric against samples or cost, with standard errors, or with the comparison's intervals."""
    if metric == "spearman":
        spreads, words = ["epistemic"], "Spearman(epistemic std, |error|)"
    else:
        spreads, words = ["total", "none"], "mean absolute error / eV"
    entries = compared.entries
    rows = entries[(entries.split == split) & (entries.variant == "") & entries.spread.isin(spreads)]
    spread = [name for name, each in estimators().items() if each.has_spread]
    rows = rows[rows.method.map(uncorrected).isin(spread)].sort_values(
        "calibration", kind="stable", ascending=False
    )
    rows = rows.drop_duplicates(["method", "n_samples"])
    # A curve is of the same trainings all along.
    rows = rows[rows.n_seeds == rows.groupby("method").n_seeds.transform("max")]
    value, error = rows[f"mean.{metric}"], rows[f"se.{metric}"]
    judged = _trend_intervals(compared, split, metric, spreads[0])
    settings = zip(rows.method.tolist(), rows.n_samples.tolist(), strict=True)
    ends = [judged.get(setting, (np.nan, np.nan)) for setting in settings]
    lo, hi = np.array(ends, dtype=np.float64).reshape(-1, 2).T
    rows = rows.assign(
        value=value, lo=(value - error).fillna(pd.Series(lo, rows.index)),
        hi=(value + error).fillna(pd.Series(hi, rows.index)), label=rows.method.map(label),
    )  # fmt: skip
    order = list(methods)
    rows = rows[rows.method.isin(order)]
    rows = rows.sort_values("method", key=lambda names: names.map(order.index), kind="stable")
    draw = plots.metric_vs_samples if x == "n_samples" else plots.metric_vs_cost
    made = (
        f"Split “{split}”, test structures; means over trainings. Bars are one standard error over "
        "trainings, or a bootstrap interval over test structures where there was one training."
    )
    return draw(x, "value", "label", df=rows, lo="lo", hi="hi", metric=words, made=made)


def _trend_intervals(
    compared: Compared, split: str, metric: str, spread: str
) -> dict[tuple[str, int], tuple[float, float]]:
    """Intervals of the comparison by method and number of samples."""
    found = {}
    for trend in compared.summary["trends"]:
        if (trend["split"], trend["metric"], trend["spread"]) == (split, metric, spread):
            for n_samples, lo, hi in zip(trend["samples"], trend["lo"], trend["hi"], strict=True):
                found[trend["method"], n_samples] = (lo, hi)
    return found
