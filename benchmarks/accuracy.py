"""Every metric of a model on a split of the development table, beside published predictions."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.measure import one_thread, print_table
from mofgap.crystals.dataset import build_store, read_table, table_crystals
from mofgap.gap.predictor import load_model
from mofgap.training.recipe import evaluate, predict_store
from mofgap.uncertainty.bootstrap import paired_bootstrap
from mofgap.uncertainty.metrics import mae

BASELINES = "qmof_test_baselines.csv"
"""Published predictions of the test split, beside the table: an identifier, the label, a column a method."""


def compare(frame: pd.DataFrame, target: str, predicted: NDArray[np.float64], baselines: Path) -> None:
    """Print each published method's error on the rows it has, and the difference of ours to it."""
    published = pd.read_csv(baselines).rename(columns={"qmof_id": "structure_id"})
    methods = [name for name in published.columns if name not in ("structure_id", target)]
    ours = frame[["structure_id", target]].assign(ours=predicted)
    joined = ours.merge(published.drop(columns=target), on="structure_id")
    rows: list[list[object]] = []
    for name in methods:
        both = joined.dropna(subset=[name])
        true, a, b = (both[column].to_numpy(dtype=np.float64) for column in (target, "ours", name))
        found = paired_bootstrap(mae, true, (a,), (b,))
        interval = f"{found.lo:+.4f} to {found.hi:+.4f}"
        rows.append([name.removesuffix("_ev"), len(both), mae(true, b), mae(true, a), found.value, interval])
    print_table(["", "rows", "MAE, eV", "ours", "ours - theirs", "95 % interval"], rows)


def main() -> None:
    """Print the metrics, then the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="qmof-pbe", help="shipped model or model folder")
    parser.add_argument("--table", type=Path, default=os.environ.get("MOFGAP_TABLE"), help="parquet table")
    parser.add_argument("--target", default="pbe_gap_ev", help="column of the reference gaps, eV")
    parser.add_argument("--split", default="test", help="rows to predict")
    parser.add_argument("--limit", type=int, help="a quick look: so many rows, chosen at random")
    options = parser.parse_args()
    if options.table is None:
        parser.error("name the table with --table or in the environment variable MOFGAP_TABLE")
    one_thread()
    predictor = load_model(options.model, device="cpu")
    frame = read_table(options.table)
    frame = frame[(frame.split == options.split) & frame[options.target].notna()]
    if options.limit is not None and options.limit < len(frame):
        frame = frame.sample(options.limit, random_state=0)
    store = build_store(table_crystals(frame), predictor.model.graph_config)
    found = predict_store(predictor.model, store, range(len(frame)))
    novelty = predictor.novelty.score(found.features, frame.atomic_numbers.tolist()).percentile
    gap_ev = frame[options.target].to_numpy(dtype=np.float64)
    scores = evaluate(found, predictor.calibration, gap_ev, novelty)
    learnt = len(set(predictor.novelty.ids) & set(frame.structure_id))
    print(f"{options.model} on {len(frame)} rows of split {options.split}, {learnt} of them trained on")
    print_table(["metric", "value"], [[name, value] for name, value in scores.items()])
    baselines = options.table.parent / BASELINES
    if options.split == "test" and baselines.exists():
        print()
        compare(frame, options.target, np.maximum(found.gap_ev, 0.0), baselines)


if __name__ == "__main__":
    main()
