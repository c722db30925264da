"""The outcome of a comparison: one table of predictions, one of scores, and a summary with the verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mofgap.configuration import to_dict
from mofgap.datasets.groups import group_of
from mofgap.shipped import METRICS
from mofgap.study.config import ComparisonConfig
from mofgap.study.dataset import Dataset, read
from mofgap.study.judge.ablations import changes
from mofgap.study.judge.arms import Arms
from mofgap.study.judge.costs import costs, sizes
from mofgap.study.judge.judgement import pairs, trends, verdicts
from mofgap.study.judge.markdown import markdown
from mofgap.study.judge.scores import DEFINITIONS, KEYS, SPREADS, scores
from mofgap.study.layout import (
    COSTS,
    PREDICTIONS,
    REPORT,
    SCORES,
    SUMMARY,
    SUMMARY_VERSION,
    Layout,
    write_parquet,
)
from mofgap.study.members import tabled
from mofgap.study.methods.method import way
from mofgap.whole_file import finite, read_json, write_json, write_text

GROUP = ["split", "method", "variant", "n_samples", "spread", "calibration", "kind"]
NOT_AVERAGED = (*GROUP, "seed")


def summarise(config: ComparisonConfig, run: Path) -> None:
    """Score and judge all predictions of a run."""
    layout, dataset = Layout(run), read(run)
    splits = {name: _split(config, dataset, name) for name in config.splits}
    found = pd.concat(
        [pd.read_parquet(layout.calibrated(split)) for split in config.splits], ignore_index=True
    )
    table = scores(found, config.judgement.n_bins)
    wanted = [prediction for split in config.splits for prediction in tabled(config, split)]
    table = table.merge(sizes(layout, wanted), how="left", on=KEYS)
    summary = {"version": SUMMARY_VERSION} | _summary(config, splits, found, table)
    write_parquet(run / PREDICTIONS, found)
    write_parquet(run / SCORES, table)
    write_text(run / REPORT, markdown(summary))
    write_json(run / SUMMARY, summary)
    write_text(run / COSTS, costs(layout, wanted).to_csv(index=False, lineterminator="\n"))


def write_metrics(run: Path) -> None:
    """Write ``metrics.json``: the scores of every method, calibrated where it has a spread.

    ``{split: {method: {metric: mean over seeds}}}``, a method with draws or members as ``METHOD@N`` and one
    of an ablation as ``METHOD:ABLATION``.
    """
    content: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in read_json(run / SUMMARY)["methods"]:
        if entry["spread"] == "epistemic" or (entry["spread"] == "total" and entry["calibration"] == "raw"):
            continue
        name = entry["method"] + (f":{entry['variant']}" if entry["variant"] else "")
        kept = {k: v for k, v in entry["mean"].items() if v is not None}
        content.setdefault(entry["split"], {})[way(name, entry["n_samples"])] = kept
    write_json(run / METRICS, content)


def _summary(
    config: ComparisonConfig, splits: Mapping[str, Any], found: pd.DataFrame, table: pd.DataFrame
) -> dict[str, Any]:
    arms = [Arms.of(found, split, spread) for split in config.splits for spread in SPREADS]
    judged = [arm for arm in arms if config.splits[arm.split].kind != "without"]
    curves = [list(trends(arm, config.judgement)) for arm in judged]
    n_bins = config.judgement.n_bins
    summary: dict[str, Any] = finite(
        {
            "definitions": {name: text.format(n_bins=n_bins) for name, text in DEFINITIONS.items()},
            "n_bins": {"ence": n_bins, "miscalibration_area": 101},
            "bootstrap": to_dict(config.judgement),
            "splits": splits,
            "methods": _methods(table),
            "verdicts": [
                verdict
                for arm, curve in zip(judged, curves, strict=True)
                for verdict in verdicts(arm, config.judgement, curve)
            ],
            "paired": [p for each in judged for p in pairs(each, config.judgement)],
            "trends": [trend for curve in curves for trend in curve],
            "ablations": [change for each in judged for change in changes(found, each, config.judgement)],
        }
    )
    return summary


def _split(config: ComparisonConfig, dataset: Dataset, name: str) -> dict[str, Any]:
    described = config.splits[name]
    rows = dataset.predicted(config, name)
    column = f"group:{described.group}"
    shared = None
    if column in dataset.frame:
        group = group_of(dataset.frame, column).to_numpy()
        shared = int(np.isin(group[rows.test], group[rows.train]).sum())
    return {
        "kind": described.kind,
        "element": described.element,
        "n_train": len(rows.train),
        "n_val": len(dataset.rows(name, "val")),
        "n_calibration": len(rows.val),
        "n_test": len(rows.test),
        "n_left_out": len(rows.left_out),
        "n_test_sharing_group": shared,
    }


def _methods(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Means and standard errors over seeds."""
    found = []
    for key, group in table.groupby(GROUP, sort=False):
        numbers = group.drop(columns=[c for c in NOT_AVERAGED if c in group]).astype(np.float64)
        about = dict(zip(GROUP, key, strict=True)) | {"n_seeds": len(group), "seeds": group.seed.tolist()}
        found.append(about | {"mean": numbers.mean().to_dict(), "standard_error": numbers.sem().to_dict()})
    return found
