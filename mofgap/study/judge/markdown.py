"""A comparison as Markdown: what ``comparison.md.jinja`` shows in its tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from mofgap.study.layout import COSTS
from mofgap.study.methods.method import way
from mofgap.training.calibration import MIN_ROWS, MIN_SCALING_ROWS

Summary = dict[str, Any]

ERROR_COLUMNS = {"mae_ev": "MAE, eV", "rmse_ev": "RMSE, eV", "r2": "R²"}
SPREAD_COLUMNS = {
    "spearman": "Spearman",
    "spearman_expected": "expected",
    "pearson": "Pearson",
    "ause": "AUSE",
    "crps_ev": "CRPS, eV",
    "nll": "NLL",
    "ence": "ENCE",
    "miscalibration_area": "miscal. area",
    "coverage_50": "cov. 50",
    "coverage_80": "cov. 80",
    "coverage_90": "cov. 90",
    "coverage_95": "cov. 95",
    "width_90_ev": "width 90, eV",
}
LEFT_OUT_COLUMNS = {
    "auroc_novelty": "AUROC of novelty",
    "auroc_distance": "AUROC of distance",
    "auroc_std": "AUROC of std",
    "mae_ev": "MAE, eV",
    "mae_left_out_ev": "MAE of left out, eV",
}
COST_COLUMNS = {
    "n_trainable": "trained parameters",
    "n_train": "training structures",
    "epochs": "epochs",
    "forward_passes": "passes",
}


def markdown(summary: Summary) -> str:
    """The summary of a comparison as Markdown."""
    elements = [name for name, about in summary["splits"].items() if about["kind"] == "without"]
    ordinary = [name for name in summary["splits"] if name not in elements]
    verdicts = sorted(summary["verdicts"], key=lambda verdict: verdict["claim"])
    shown = [("epistemic", "raw"), ("total", "raw"), ("total", "calibrated")]
    return _template().render(
        **{name: summary[name] for name in ("splits", "trends", "paired", "definitions", "bootstrap")},
        headline=[v for v in verdicts if v["headline"]],
        others=[v for v in verdicts if not v["headline"]],
        error_titles=[f"{title} ({split})" for title in ERROR_COLUMNS.values() for split in ordinary],
        errors=_errors(summary, ordinary),
        spread_columns=SPREAD_COLUMNS,
        spreads=[(*of, [m for split in ordinary for m in _last(summary, split, *of)]) for of in shown],
        elements=elements,
        left_out_columns=LEFT_OUT_COLUMNS,
        left_out=[
            m
            for split in elements
            for spread in ("epistemic", "total")
            for m in _last(summary, split, spread, "calibrated")
        ],
        has_ablations=any(m["variant"] for m in summary["methods"]),
        ablations=_ablations(summary),
        changes=summary["ablations"],
        cost_columns=COST_COLUMNS,
        costs_file=COSTS,
        costs=[m for s in ordinary for m in _last(summary, s, None, "raw") if m["kind"] != "published"],
        min_rows=MIN_ROWS,
        min_scaling_rows=MIN_SCALING_ROWS,
    )


def _template() -> Template:
    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: "" if value is None else value,
    )
    environment.filters |= {"cell": _cell, "interval": _interval, "number": _number}
    environment.filters["label"] = lambda m: way(m["method"], m["n_samples"])
    source = files("mofgap.study.judge") / "comparison.md.jinja"
    return environment.from_string(source.read_text(encoding="utf-8"))


def _last(
    summary: Summary, split: str, spread: str | None, calibration: str, variant: str = ""
) -> list[Summary]:
    """Each method's entry of the most seeds, and among these of the most draws."""
    best: dict[str, Summary] = {}
    for m in summary["methods"]:
        if (m["split"], m["variant"], m["calibration"]) != (split, variant, calibration):
            continue
        if spread is not None and m["spread"] != spread:
            continue
        held = best.get(m["method"])
        if held is None or (m["n_seeds"], m["n_samples"]) > (held["n_seeds"], held["n_samples"]):
            best[m["method"]] = m
    return list(best.values())


def _errors(summary: Summary, splits: Sequence[str]) -> Iterator[list[Any]]:
    """Method, a cell for each error and split, and the number of seeds, of each split where they differ."""
    found = {split: {m["method"]: m for m in _last(summary, split, None, "raw")} for split in splits}
    for name in dict.fromkeys(name for each in found.values() for name in each):
        cells = [_cell(found[split].get(name), column) for column in ERROR_COLUMNS for split in splits]
        seeds = [str(found[split][name]["n_seeds"]) for split in splits if name in found[split]]
        yield [name, *cells, ", ".join(seeds if len(set(seeds)) > 1 else seeds[:1])]


def _ablations(summary: Summary) -> Iterator[tuple[Summary | None, Summary]]:
    """The entries of the raw epistemic and the calibrated total spread, of ablations and what they change."""
    changed = {m["method"] for m in summary["methods"] if m["variant"]}
    for variant in dict.fromkeys(m["variant"] for m in summary["methods"]):
        for split in summary["splits"]:
            epistemic = {m["method"]: m for m in _last(summary, split, "epistemic", "raw", variant)}
            for m in _last(summary, split, "total", "calibrated", variant):
                if m["method"] in changed:
                    yield epistemic.get(m["method"]), m


def _cell(m: Summary | None, column: str) -> str:
    """A mean over seeds with its standard error, nothing where there is none."""
    if m is None or m["mean"].get(column) is None:
        return ""
    error = m["standard_error"].get(column)
    return _number(m["mean"][column]) + (f" ± {_number(error, is_error=True)}" if error else "")


def _number(value: float | None, *, is_error: bool = False) -> str:
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if is_error else f"{value:.4f}" if abs(value) < 1 else f"{value:.3f}"


def _interval(found: Summary) -> str:
    if None in (found["value"], found["lo"], found["hi"]):
        return ""
    return f"{found['value']:+.4f} ({found['lo']:+.4f} to {found['hi']:+.4f})"
