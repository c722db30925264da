"""A comparison of methods as one page: verdicts, tables with intervals, the splits side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from mofgap.report.page import render
from mofgap.study.methods.method import uncorrected
from mofgap.study.report.compared import Compared, label
from mofgap.study.report.figures import figures_of
from mofgap.uncertainty import metrics
from mofgap.uncertainty.bootstrap import bootstrap
from mofgap.uncertainty.columns import Floats, Indices

SCORE_COLUMNS = {"mae_ev": "MAE / eV", "spearman": "Spearman(std, |error|)", "ause": "AUSE"}
CALIBRATION = {
    "nll": "NLL / nats",
    "crps_ev": "CRPS / eV",
    "miscalibration_area": "miscal. area",
    "coverage_90": "coverage of 90 % / %",
    "width_90_ev": "width of 90 % / eV",
}
COST_COLUMNS = {
    "n_trainable": "trained parameters",
    "forward_passes": "forward passes a structure",
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
        scores=_table(compared, SCORE_COLUMNS, compared.splits, _intervals(compared)),
        calibration=_table(compared, CALIBRATION, compared.splits),
        costs=_table(compared, COST_COLUMNS, compared.splits[:1]),
        elements=_elements(compared),
        paired=[_paired(each) for each in compared.summary["paired"]],
        ablations=_ablations(compared),
        changes=[
            _paired(each) | {"variant": each["variant"], "trainings": str(each["n_seeds"])}
            for each in compared.summary["ablations"]
        ],
        rows=figures_of(compared),
        appendix=figures_of(compared, appendix=True),
        definitions={_defined(name): text for name, text in compared.summary["definitions"].items()},
        source=compared.name,
        origin=list(compared.origin.items()),
        cards=list(compared.cards.items()),
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
        if shared := about["n_test_sharing_group"]:
            notes.append(
                f"{shared:,} of {about['n_test']:,} test structures of the split “{name}” share a group with "
                "a training structure: its figures flatter every method."
            )
    if (compared.best[compared.best.kind == "trained"].n_seeds == 1).any():
        notes.append("Methods that were trained once have no standard error over trainings.")
    return notes


def _verdicts(compared: Compared) -> list[dict[str, Any]]:
    """For each claim the headline verdict on every split, then the verdicts of other estimators."""
    claims: dict[str, dict[str, Any]] = {}
    for each in compared.summary["verdicts"]:
        about = {"claim": each["claim"], "statement": each["statement"]}
        claim = claims.setdefault(each["claim"], about | {"headline": [], "others": []})
        words = each | {
            "metric": _metric_words(each["metric"]),
            "estimator": label(each["estimator"]),
            "measured": _measured(each),
        }
        claim["headline" if each["headline"] else "others"].append(words)
    return [claims[name] for name in sorted(claims)]


def _metric_words(metric: str) -> str:
    """A metric as tables head it, with its unit."""
    return (SCORE_COLUMNS | CALIBRATION).get(metric, metric)


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
    """The interval of a metric's mean over seeds, (n_columns, n) each, over the choice of rows."""

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
    used = {name: words for name, words in columns.items() if best[f"mean.{name}"].notna().any()}
    rows = []
    for method, group in best.groupby("method", sort=False):
        by_split = {str(row.split): row for _, row in group.iterrows()}
        cells = [
            _cell(by_split.get(split), name, (intervals or {}).get((split, str(method), name)))
            for name in used
            for split in splits
        ]
        if any(cell["value"] for cell in cells):
            n_samples = [int(by_split[split].n_samples) for split in splits if split in by_split]
            rows.append((_method_words(str(method), n_samples), cells))
    return {"columns": list(used.values()), "splits": list(splits), "rows": rows}


def _method_words(method: str, n_samples: Sequence[int]) -> str:
    """A method with its number of members or draws: one number, or one for each split where they differ."""
    numbers = ", ".join(map(str, n_samples if len(set(n_samples)) > 1 else n_samples[:1]))
    if uncorrected(method) == "lora-ensemble":
        return label(method).replace("ensemble", f"ensemble of {numbers}")
    return label(method) + (f", S\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{numbers}" if any(n_samples) else "")


def _cell(row: pd.Series | None, name: str, interval: tuple[float, float] | None) -> dict[str, str]:
    """A mean over seeds, its standard error, and an interval."""
    if row is None or pd.isna(row[f"mean.{name}"]):
        return {"value": "", "more": ""}
    value, error = row[f"mean.{name}"], row[f"se.{name}"]
    if name in _PERCENT:
        value, error = 100 * value, 100 * error
    more = [] if pd.isna(error) or name in COST_COLUMNS else [f"± {_number(error, name)}"]
    if interval is not None:
        more.append(f"[{_number(interval[0], name)}, {_number(interval[1], name)}]")
    return {"value": _number(value, name), "more": " ".join(more)}


def _number(value: float, name: str) -> str:
    if name in COST_COLUMNS:
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:.1f}" if name in _PERCENT else f"{value:.3f}"


def _elements(compared: Compared) -> list[dict[str, str]]:
    """The results of a split without an element: whether the spread is larger for unfamiliar structures."""
    rows = []
    for _, row in compared.best[compared.best.split.isin(compared.element_splits)].iterrows():
        about = compared.summary["splits"][row["split"]]
        if pd.isna(row.get("mean.auroc_novelty")):
            continue
        names = ("auroc_novelty", "auroc_std", "mae_ev", "mae_left_out_ev")
        cells = {name: _cell(row, name, None)["value"] for name in names}
        method = _method_words(row["method"], [row["n_samples"]])
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
    level = f"{100 * each['level']:g} %"
    return {
        "split": each["split"], "metric": name, "spread": each.get("spread", ""),
        "a": words("a"), "b": words("b"), "measured": _measured(each), "level": level,
    }  # fmt: skip


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
            "method": _method_words(row.method, [row.n_samples]),
            "cells": [_cell(row, name, None) for name in SCORE_COLUMNS],
        }
        for _, row in pd.concat(rows).iterrows()
    ]
