"""A comparison as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mofgap.training.recipe import MIN_ROWS, MIN_SCALING_ROWS

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
FAR_COLUMNS = {
    "auroc_novelty": "AUROC of novelty",
    "auroc_distance": "AUROC of distance",
    "auroc_std": "AUROC of std",
    "mae_ev": "MAE, eV",
    "mae_left_out_ev": "MAE of left out, eV",
}
COST_COLUMNS = {
    "n_trainable": "trained parameters",
    "train_seconds": "training, s",
    "peak_memory_mb": "peak memory, MB",
    "forward_passes": "passes",
    "predict_ms": "ms a structure",
}


def markdown(summary: Summary) -> str:
    """The summary of a comparison as Markdown."""
    splits = list(summary["splits"])
    ordinary = [name for name in splits if summary["splits"][name]["kind"] != "without"]
    far = [name for name in splits if name not in ordinary]
    parts = [
        "# Comparison",
        *_about(summary),
        "## Verdicts",
        _verdicts(summary, headline=True),
        "Chosen before anything was trained; the same claims for the other ways of predicting:",
        _verdicts(summary, headline=False),
        "## Errors",
        "Mean over seeds ± standard error; each method at its most draws or members.",
        _side_by_side(summary, ordinary),
        *_spreads(summary, ordinary, "epistemic", "raw"),
        *_spreads(summary, ordinary, "total", "raw"),
        *_spreads(summary, ordinary, "total", "calibrated"),
        "## Draws and members",
        _curves(summary),
    ]
    if far:
        parts += ["## Elements left out of training", _left_out(summary, far)]
    if any(m["variant"] for m in summary["methods"]):
        parts += ["## Ablations", _ablations(summary), _changes(summary)]
    parts += ["## Cost", _costs(summary, ordinary)]
    parts += ["## Against each other", _paired(summary), *_definitions(summary)]
    return "\n\n".join(parts) + "\n"


def _about(summary: Summary) -> Iterable[str]:
    header = [
        "split",
        "kind",
        "train",
        "val",
        "calibration",
        "test",
        "left out",
        "sharing a group with train",
    ]
    keys = ("kind", "n_train", "n_val", "n_calibration", "n_test", "n_left_out", "n_test_sharing_group")
    yield _table(header, [[name, *(s[k] for k in keys)] for name, s in summary["splits"].items()])


def _verdicts(summary: Summary, *, headline: bool) -> str:
    chosen = sorted((v for v in summary["verdicts"] if v["headline"] == headline), key=lambda v: v["claim"])
    rows = [
        [
            f"({v['claim']}) {v['statement']}",
            v["split"],
            f"{v['estimator']}, {v['spread']}",
            f"**{v['verdict']}**" if headline else v["verdict"],
            _interval(v),
            v["reason"],
        ]
        for v in chosen
    ]
    return _table(["claim", "split", "spread", "verdict", "difference", "of what"], rows)


def _last(
    summary: Summary, split: str, spread: str | None, calibration: str, variant: str = ""
) -> list[Summary]:
    """Each method's entry of the most draws, of the most seeds."""
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


def _side_by_side(summary: Summary, splits: Sequence[str]) -> str:
    found = {split: {m["method"]: m for m in _last(summary, split, None, "raw")} for split in splits}
    names = list(dict.fromkeys(name for each in found.values() for name in each))
    titles = [f"{title} ({split})" for title in ERROR_COLUMNS.values() for split in splits]
    rows = []
    for name in names:
        cells = [_cell(found[split].get(name), column) for column in ERROR_COLUMNS for split in splits]
        seeds = max(found[split][name]["n_seeds"] for split in splits if name in found[split])
        rows.append([name, *cells, seeds])
    return _table(["method", *titles, "seeds"], rows)


def _spreads(summary: Summary, splits: Sequence[str], spread: str, calibration: str) -> Iterable[str]:
    rows = [
        [_label(m), split, *(_cell(m, column) for column in SPREAD_COLUMNS)]
        for split in splits
        for m in _last(summary, split, spread, calibration)
    ]
    if rows:
        yield f"## Spread: {spread}, {calibration}"
        yield _table(["method", "split", *SPREAD_COLUMNS.values()], rows)


def _curves(summary: Summary) -> str:
    rows = []
    for t in summary["trends"]:
        values = ", ".join(f"{n}: {_number(v)}" for n, v in zip(t["samples"], t["value"], strict=True))
        tested = [_interval(t["gain"]), _interval(t["trend"]), t["verdict"]]
        about = [t["method"], t["split"], f"{t['metric']}, {t['spread']}", str(t["n_seeds"])]
        rows.append([*about, values, *tested])
    header = ["method", "split", "metric", "trainings", "values"]
    header += ["last - first", "Kendall's tau", "gets better"]
    return _table(header, rows)


def _left_out(summary: Summary, splits: Sequence[str]) -> str:
    rows = [
        [
            split,
            summary["splits"][split]["element"],
            _label(m),
            m["spread"],
            *(_cell(m, c) for c in FAR_COLUMNS),
        ]
        for split in splits
        for spread in ("epistemic", "total")
        for m in _last(summary, split, spread, "calibrated")
    ]
    return _table(["split", "element", "method", "spread", *FAR_COLUMNS.values()], rows)


def _ablations(summary: Summary) -> str:
    rows = []
    for variant in dict.fromkeys(m["variant"] for m in summary["methods"]):
        for split in summary["splits"]:
            epistemic = {m["method"]: m for m in _last(summary, split, "epistemic", "raw", variant)}
            for m in _last(summary, split, "total", "calibrated", variant):
                if variant or m["method"].startswith("balora"):
                    cells = [_cell(m, "mae_ev"), _cell(epistemic.get(m["method"]), "spearman")]
                    cells += [_cell(m, column) for column in ("spearman", "crps_ev", "n_trainable")]
                    rows.append([variant or "as configured", split, _label(m), *cells])
    spreads = ["Spearman, epistemic", "Spearman, total"]
    header = ["ablation", "split", "method", "MAE, eV", *spreads, "CRPS, eV", "trained parameters"]
    return _table(header, rows)


def _changes(summary: Summary) -> str:
    rows = [
        [
            c["variant"],
            c["a"],
            c["b"],
            c["split"],
            f"{c['metric']}, {c['spread']}",
            _interval(c),
            c["n_seeds"],
        ]
        for c in summary["ablations"]
    ]
    header = ["ablation", "a", "b, as configured", "split", "metric", "a - b", "trainings of a"]
    return _table(header, rows)


def _costs(summary: Summary, splits: Sequence[str]) -> str:
    rows = [
        [_label(m), split, *(_cell(m, column) for column in COST_COLUMNS)]
        for split in splits
        for m in _last(summary, split, None, "raw")
        if m["kind"] != "published"
    ]
    return _table(["method", "split", *COST_COLUMNS.values()], rows)


def _paired(summary: Summary) -> str:
    rows = [
        [p["a"], p["b"], p["split"], f"{p['metric']}, {p['spread']}", _interval(p), p["n"]]
        for p in summary["paired"]
    ]
    return _table(["a", "b", "split", "metric", "a - b", "rows"], rows)


def _definitions(summary: Summary) -> Iterable[str]:
    bootstrap = summary["bootstrap"]
    yield "## Definitions"
    yield "\n".join(f"- `{name}`: {text}." for name, text in summary["definitions"].items())
    yield (
        f"Intervals are {100 * bootstrap['level']:g} % percentile intervals of {bootstrap['n_draws']} "
        "resamplings of the test rows, the same for both methods, and of the seeds of each: where a method "
        "was trained once, they leave the chance of its training out. Rows of one group are drawn singly. "
        "Calibration was fitted on val, by the same procedure for every method: "
        f"intervals from {MIN_ROWS} rows on, the spread from {MIN_SCALING_ROWS} on, and nothing with fewer."
    )


def _label(m: Summary) -> str:
    return f"{m['method']}@{m['n_samples']}" if m["n_samples"] else str(m["method"])


def _cell(m: Summary | None, column: str) -> str:
    if m is None or m["mean"].get(column) is None:
        return ""
    error = m["standard_error"].get(column)
    return _number(m["mean"][column]) + (f" ± {_number(error, 1)}" if error else "")


def _number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{digits + 1}g}" if digits == 1 else f"{value:.4f}" if abs(value) < 1 else f"{value:.3f}"


def _interval(found: Summary) -> str:
    if None in (found["value"], found["lo"], found["hi"]):
        return ""
    return f"{found['value']:+.4f} ({found['lo']:+.4f} to {found['hi']:+.4f})"


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *([("" if c is None else str(c)) for c in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
