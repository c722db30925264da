"""Curves of the shipped models on a split of the QMOF table, as small CSV files that notebooks draw.

They hold means over many structures, never a row of the table, so that they can be published. The samples of
``samples.csv`` come from ``python -m benchmarks.samples --methods balora-weights --limit 300 --csv FILE``::

    python -m benchmarks.curves --table qmof.parquet -o docs/tables/shipped
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measure import add_table, at_most, one_thread, parser_of, predicted, read_splits
from mofgap.gap.predictor import load_model
from mofgap.shipped import shipped_folder
from mofgap.uncertainty import metrics
from mofgap.uncertainty.bootstrap import bootstrap
from mofgap.uncertainty.columns import Floats

TARGETS = {"qmof-pbe": "pbe_gap_ev", "qmof-hse06": "hse06_gap_ev"}
N_BINS = 10
LEVELS = (50, 80, 90, 95)
KEPT = np.arange(1, 21) / 20
N_DRAWS = 1000

Row = dict[str, Any]


def by_std(true: Floats, gap: Floats, std: Floats) -> Iterator[Row]:
    """Structures in bins of the standard deviation, as many in each."""
    for i, rows in enumerate(np.array_split(np.argsort(std, kind="stable"), N_BINS), start=1):
        error = np.abs(gap - true)[rows]
        yield {
            "bin": i,
            "n": len(rows),
            "mean_std_ev": std[rows].mean(),
            "mean_abs_error_ev": error.mean(),
            "rmse_ev": float(np.sqrt((error**2).mean())),
            "expected_abs_error_ev": std[rows].mean() * np.sqrt(2 / np.pi),
        }


def kept(true: Floats, gap: Floats, std: Floats) -> Iterator[Row]:
    """The error of those that are left when the most uncertain are dropped, and of the best choice."""
    error = np.abs(gap - true)
    by_doubt, by_error = error[np.argsort(std, kind="stable")], np.sort(error)
    for share in KEPT:
        n = round(share * len(error))
        yield {
            "share_kept": share,
            "mae_ev": by_doubt[:n].mean(),
            "best_possible_mae_ev": by_error[:n].mean(),
        }


def scores(true: Floats, gap: Floats, std: Floats) -> Row:
    """What a model scores on all structures."""
    rho = bootstrap(lambda i: metrics.spearman(true[i], gap[i], std[i]), len(true), n_draws=N_DRAWS)
    return {
        "n": len(true),
        "mae_ev": metrics.mae(true, gap),
        "spearman": rho.value,
        "spearman_lo": rho.lo,
        "spearman_hi": rho.hi,
        "spearman_expected": metrics.expected_spearman(std),
        "ause": metrics.ause(true, gap, std),
    }


def scores_on_test(model: str) -> Row:
    """What a model scores on the test rows, as its own file of metrics has it."""
    found = _test_metrics(model)
    known = {name: found[name] for name in ("mae_ev", "spearman", "spearman_expected", "ause")}
    return {"n": int(found["n"]), **known}


def coverage_on_test(model: str) -> Iterator[Row]:
    """Coverage of the intervals on the test rows, as the model's own file of metrics has it.

    Intervals were fitted to the rows of val, where their coverage would be no test.
    """
    found = _test_metrics(model)
    for percent in LEVELS:
        covered = {"coverage": found[f"coverage_{percent}"], "width_ev": found[f"width_{percent}_ev"]}
        yield {"n": int(found["n"]), "level": percent / 100, **covered}


def _test_metrics(model: str) -> Row:
    path = shipped_folder("models") / model / "metrics.json"
    found: Row = json.loads(path.read_text(encoding="utf-8"))["metrics"]["test"]
    return found


def main() -> None:
    """Write the files."""
    parser = parser_of(__doc__)
    add_table(parser, None)
    parser.add_argument("--output", "-o", type=Path, default=Path("docs/tables/shipped"), help="folder")
    parser.add_argument("--split", default="val", help="rows to predict")
    parser.add_argument("--limit", type=int, help="a quick look: so many rows, chosen at random")
    parser.add_argument("--cache", type=Path, help="folder of cached graphs")
    options = parser.parse_args()
    one_thread()
    found: dict[str, list[Row]] = {"scores": [], "error-by-std": [], "kept": [], "test": []}
    for name, target in TARGETS.items():
        predictor = load_model(name, device="cpu")
        frame = at_most(read_splits(options.table, target, [options.split]), options.limit)
        true = frame[target].to_numpy(dtype=np.float64)
        _, said = predicted(predictor, frame, options.cache)
        gap, std = said.gap_ev, said.gap_std_ev
        found["scores"].append({"model": name, "split": options.split, **scores(true, gap, std)})
        found["scores"].append({"model": name, "split": "test", **scores_on_test(name)})
        found["error-by-std"] += [{"model": name, **row} for row in by_std(true, gap, std)]
        found["kept"] += [{"model": name, **row} for row in kept(true, gap, std)]
        found["test"] += [{"model": name, **row} for row in coverage_on_test(name)]
    options.output.mkdir(parents=True, exist_ok=True)
    for kind, rows in found.items():
        pd.DataFrame(rows).round(4).to_csv(options.output / f"{kind}.csv", index=False, lineterminator="\n")
    print(pd.DataFrame(found["scores"]).round(4).to_string(index=False))
    print(f"{len(found)} files in {options.output}, of split {options.split}")


if __name__ == "__main__":
    main()
