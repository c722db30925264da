"""A comparison of methods as one page: verdicts, tables with intervals, the splits side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as MatplotlibFigure

from mofgap.report import plots
from mofgap.report.figure import caption_of, set_caption
from mofgap.report.page import Figure, drawn, render
from mofgap.study.methods.method import estimators, plain
from mofgap.study.report.compared import Compared, label, place
from mofgap.uncertainty import metrics
from mofgap.uncertainty.bootstrap import bootstrap
from mofgap.uncertainty.columns import Floats, Indices

SCORES = {"mae_ev": "MAE / eV", "spearman": "Spearman(std, |error|)", "ause": "AUSE"}
CALIBRATION = {
    "nll": "NLL / nats",
    "crps_ev": "CRPS / eV",
    "miscalibration_area": "miscal. area",
    "coverage_90": "coverage of 90 % / %",
    "width_90_ev": "width of 90 % / eV",
}
COSTS = {
    "n_trainable": "trained parameters",
    "train_seconds": "training / s",
    "peak_memory_mb": "peak memory / MB",
    "forward_passes": "forward passes a structure",
    "predict_ms": "prediction / ms a structure",
}
_PERCENT = ("coverage_90",)


def comparison_page(compared: Compared) -> str:
    """The page of a comparison."""
    return render(
        "comparison.html",
        folder=files("mofgap.study.report") / "assets",
        title=f"Comparison {compared.name}",
        facts=_facts(compared),
        notes=_notes(compared),
        verdicts=_verdicts(compared),
        splits=compared.splits,
        about=compared.summary["splits"],
        scores=_table(compared, SCORES, compared.splits, _intervals(compared)),
        calibration=_table(compared, CALIBRATION, compared.splits),
        costs=_table(compared, COSTS, compared.splits[:1]),
        elements=_elements(compared),
        paired=[_paired(each) for each in compared.summary["paired"]],
        ablations=_ablations(compared),
        changes=[_change(each) for each in compared.summary["ablations"]],
        rows=_figures(compared),
        definitions={_defined(name): text for name, text in compared.summary["definitions"].items()},
        source=compared.name,
    )


def _facts(compared: Compared) -> list[tuple[str, str]]:
    facts = [("methods", str(compared.best.method.nunique()))]
    for name, about in compared.summary["splits"].items():
        sizes = " / ".join(f"{about[part]:,}" for part in ("n_train", "n_val", "n_test"))
        facts.append((f"{name}: train / val / test", sizes))
    return facts


def _notes(compared: Compared) -> list[str]:
    notes = []
    for name, about in compared.summary["splits"].items():
        if shared := about.get("n_test_sharing_group"):
            notes.append(
                f"{shared:,} of {about['n_test']:,} test structures of the split “{name}” share a group with "
                "a training structure: its figures flatter every method."
            )
    if (compared.best[compared.best.kind == "trained"].n_seeds == 1).any():
        notes.append("Methods that were trained once have no standard error over trainings.")
    return notes


def _verdicts(compared: Compared) -> list[dict[str, Any]]:
    """A claim each: its headline verdict on every split, then the verdicts of other estimators."""
    claims: dict[str, dict[str, Any]] = {}
    for each in compared.summary["verdicts"]:
        claim = claims.setdefault(
            each["claim"],
            {
                "claim": each["claim"],
                "statement": each["statement"],
                "headline": [],
                "others": [],
            },
        )
        words = each | {
            "metric": _metric_words(each["metric"]),
            "estimator": label(each["estimator"]),
            "measured": _measured(each),
        }
        claim["headline" if each["headline"] else "others"].append(words)
    return [claims[name] for name in sorted(claims)]


def _metric_words(metric: str) -> str:
    """A metric as tables head it, with its unit."""
    return (SCORES | CALIBRATION).get(metric, metric)


def _defined(metric: str) -> str:
    """A metric under both of its names: the tables' and that of comparison.json."""
    words = _metric_words(metric)
    return metric if words == metric else f"{words} ({metric})"


def _measured(each: Mapping[str, Any]) -> str:
    """A value with its interval, such as ``+0.012 [-0.003, +0.027]``."""
    if each["value"] is None:
        return "not measured"
    if each["lo"] is None or each["hi"] is None:
        return f"{each['value']:+.3f}"
    return f"{each['value']:+.3f} [{each['lo']:+.3f}, {each['hi']:+.3f}]"


def _intervals(compared: Compared) -> dict[tuple[str, str, str], tuple[float, float]]:
    """Intervals of the scores that a reader compares first, by split, method and metric."""
    found = {}
    for split, method, spread in compared.best[["split", "method", "spread"]].astype(str).to_numpy().tolist():
        seeds = compared.seeds(split, method)
        if not seeds:
            continue
        names = ["gap_dft_ev", "gap_ev", "gap_std_ev"]
        values = [rows[names].to_numpy(dtype=np.float64).T for rows in seeds]
        found[split, method, "mae_ev"] = _interval(values, lambda t, p, _: metrics.mae(t, p))
        if spread == "total":
            found[split, method, "spearman"] = _interval(values, metrics.spearman)
    return found


def _interval(seeds: Sequence[Floats], metric: Callable[..., float]) -> tuple[float, float]:
    """Of a metric's mean over seeds, each (n_columns, n) of the same rows, over the choice of rows."""

    def mean(rows: Indices) -> float:
        return float(np.mean([metric(*columns[:, rows]) for columns in seeds]))

    found = bootstrap(mean, seeds[0].shape[1], n_draws=500)
    return found.lo, found.hi


def _table(
    compared: Compared,
    columns: Mapping[str, str],
    splits: Sequence[str],
    intervals: Mapping[tuple[str, str, str], tuple[float, float]] | None = None,
) -> dict[str, Any]:
    """Methods as rows, those without any value left out; under each metric a column for each split."""
    best = compared.best[compared.best.split.isin(splits)]
    known = intervals or {}
    used = {name: words for name, words in columns.items() if best[f"mean.{name}"].notna().any()}
    rows = []
    for method, group in best.groupby("method", sort=False):
        by_split = {str(row.split): row for _, row in group.iterrows()}
        cells = [
            _cell(by_split.get(split), name, known.get((split, str(method), name)))
            for name in used
            for split in splits
        ]
        if any(cell["value"] for cell in cells):
            rows.append((_method_words(group.iloc[0]), cells))
    return {"columns": list(used.values()), "splits": list(splits), "rows": rows}


def _method_words(row: pd.Series) -> str:
    if plain(row.method) == "lora-ensemble":
        return label(row.method).replace("ensemble", f"ensemble of {row.n_samples}")
    drawn_samples = f", S\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{row.n_samples}" if row.n_samples else ""
    return label(row.method) + drawn_samples


def _cell(row: pd.Series | None, name: str, interval: tuple[float, float] | None) -> dict[str, str]:
    """A mean over seeds, its standard error, and an interval."""
    if row is None or pd.isna(row[f"mean.{name}"]):
        return {"value": "", "more": ""}
    value, error = row[f"mean.{name}"], row[f"se.{name}"]
    if name in _PERCENT:
        value, error = 100 * value, 100 * error
    more = [] if pd.isna(error) or name in COSTS else [f"± {_number(error, name)}"]
    if interval is not None:
        more.append(f"[{_number(interval[0], name)}, {_number(interval[1], name)}]")
    return {"value": _number(value, name), "more": " ".join(more)}


def _number(value: float, name: str) -> str:
    if name in COSTS:
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:.1f}" if name in _PERCENT else f"{value:.3f}"


def _elements(compared: Compared) -> list[dict[str, str]]:
    """What a split without an element shows: is the unfamiliar told from the familiar?"""
    rows = []
    for row in compared.best[compared.best.split.isin(compared.element_splits)].to_dict("records"):
        about = compared.summary["splits"][row["split"]]
        if pd.isna(row.get("mean.auroc_novelty")):
            continue
        names = ("auroc_novelty", "auroc_std", "mae_ev", "mae_left_out_ev")
        cells = {name: _cell(pd.Series(row), name, None)["value"] for name in names}
        method = _method_words(pd.Series(row))
        rows.append(
            {"split": f"without {about['element']}", "n": f"{about['n_left_out']:,}", "method": method}
            | cells
        )
    return rows


def _paired(each: Mapping[str, Any]) -> dict[str, str]:
    def words(key: str) -> str:
        method, _, n_samples = str(each[key]).partition("@")
        return label(method) + (f", S = {n_samples}" if n_samples else "")

    name = _metric_words(each["metric"])
    level = f"{100 * each['level']:g} %" if each.get("level") else ""
    return {
        "split": each["split"], "metric": name, "spread": each.get("spread", ""),
        "a": words("a"), "b": words("b"), "measured": _measured(each), "level": level,
    }  # fmt: skip


def _change(each: Mapping[str, Any]) -> dict[str, str]:
    return _paired(each) | {"variant": each["variant"], "trainings": str(each["n_seeds"])}


def _ablations(compared: Compared) -> list[dict[str, Any]]:
    """The recipe itself, where a change of it was tried, and with one thing changed."""
    found = compared.variants
    changed = found[found.variant != ""]
    tried = pd.MultiIndex.from_frame(changed[["split", "method"]])
    itself = compared.best[pd.MultiIndex.from_frame(compared.best[["split", "method"]]).isin(tried)]
    rows = [itself.assign(variant="as configured").sort_index(), changed.sort_index()]
    return [
        {
            "variant": row.variant,
            "split": row.split,
            "method": _method_words(row),
            "cells": [_cell(row, name, None) for name in SCORES],
        }
        for _, row in pd.concat(rows).iterrows()
    ]


Draw = Callable[[Compared, str], MatplotlibFigure]


def _figures(compared: Compared) -> list[tuple[str, list[tuple[str, Figure]]]]:
    """Rows of figures: a title, and a figure for each split."""
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
        figures = {split: draw(compared, split) for split in compared.splits}
        _share_scales(list(figures.values()))
        named = [(split, drawn(f"f{i}-{j}", each)) for j, (split, each) in enumerate(figures.items())]
        rows.append((title, named))
    return rows


def _share_scales(figures: Sequence[MatplotlibFigure]) -> None:
    """Give figures that stand side by side the same heights; panels of one have widths of their own."""
    axes = [each for figure in figures for each in figure.axes if each.has_data()]
    for end in ["ylim"] if any(len(figure.axes) > 1 for figure in figures) else ["xlim", "ylim"]:
        found = [getattr(each, f"get_{end}")() for each in axes]
        for each in axes:
            getattr(each, f"set_{end}")(min(low for low, _ in found), max(high for _, high in found))


def _of_predictions(
    compared: Compared, split: str, *, plot: Callable[..., MatplotlibFigure], std: str, **options: Any
) -> MatplotlibFigure:
    """A figure of the test predictions of each method's first training, with most samples."""
    gaps: dict[str, Any] = {}
    spreads: dict[str, Any] = {}
    reference = pd.Series(dtype=np.float64)
    for method in _drawn_methods(compared, split):
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
    which = (
        f"Test structures of the split “{split}”, the first training of each method, most samples; {made}."
    )
    set_caption(figure, f"{caption_of(figure)} {which}")
    return figure


def _drawn_methods(compared: Compared, split: str) -> list[str]:
    """Methods trained on a split, those of every split first, so that colours are the same in each."""
    trained = compared.best[compared.best.kind == "trained"]
    methods = trained[trained.split == split].method.tolist()
    in_all = [set(trained[trained.split == name].method) for name in compared.splits]
    return sorted(methods, key=lambda method: (not all(method in known for known in in_all), place(method)))


def _against(compared: Compared, split: str, *, metric: str, x: str) -> MatplotlibFigure:
    """A metric against samples or cost, with standard errors, or with the comparison's intervals."""
    kinds = {"spearman": (["epistemic"], "Spearman(epistemic std, |error|)")}
    spreads, words = kinds.get(metric, (["total", "none"], "mean absolute error / eV"))
    entries = compared.entries
    rows = entries[(entries.split == split) & (entries.variant == "") & entries.spread.isin(spreads)]
    spread = [name for name, each in estimators().items() if each.has_spread]
    rows = rows[rows.method.map(plain).isin(spread)].sort_values(
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
    order = _drawn_methods(compared, split)
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
