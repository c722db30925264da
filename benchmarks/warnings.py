"""How many rows each warning about a structure marks, and how much larger the errors are there."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.measure import add_table, at_most, one_thread, print_table, read_rows
from mofgap.crystals.checks import NOTES, check_crystal
from mofgap.crystals.dataset import cached_store, table_crystals
from mofgap.gap.predictor import load_model
from mofgap.training.recipe import predict_store


def main() -> None:
    """Print the share of rows with each warning, and median and mean error with it and without."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="qmof-pbe", help="shipped model or model folder")
    add_table(parser)
    parser.add_argument("--target", default="pbe_gap_ev", help="column of the reference gaps, eV")
    parser.add_argument("--split", default="val", help="rows to predict")
    parser.add_argument("--limit", type=int, help="a quick look: so many rows, chosen at random")
    parser.add_argument("--cache", type=Path, help="folder of cached graphs")
    options = parser.parse_args()
    one_thread()
    predictor = load_model(options.model, device="cpu")
    frame = read_rows(options.table, options.target, [options.split])
    frame = at_most(frame[frame.split == options.split], options.limit)
    store = cached_store(frame, predictor.model.graph_config, options.cache)
    gap = np.maximum(predict_store(predictor.model, store, range(len(frame))).gap_ev, 0.0)
    error = np.abs(gap - frame[options.target].to_numpy(dtype=np.float64))
    marked: dict[str, list[int]] = defaultdict(list)
    for i, crystal in enumerate(table_crystals(frame)):
        for name in {text.split(":", 1)[0] for text in check_crystal(crystal)}:
            marked[name].append(i)
    rows: list[list[object]] = []
    for name, places in sorted(marked.items(), key=lambda item: -len(item[1])):
        held = np.isin(np.arange(len(error)), places)
        kind = "note" if name in NOTES else "warning"
        errors = [float(f(error[mask])) for f in (np.median, np.mean) for mask in (held, ~held)]
        rows.append([name, kind, int(held.sum()), f"{held.mean():.2%}", *errors])
    print(f"{options.model} on {len(frame)} rows of split {options.split}; absolute errors in eV")
    print_table(["", "", "rows", "share", "median with", "without", "mean with", "without"], rows)


if __name__ == "__main__":
    main()
