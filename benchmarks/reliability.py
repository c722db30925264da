"""Is ``p_in_window`` a probability? What it says of a window against how often the reference lies there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import at_most, loaded, predicted, predicting_parser, print_table, read_splits
from mofgap.uncertainty import metrics
from mofgap.uncertainty.columns import Floats

WINDOWS = ((1.8, 3.0), (0.0, 1.0), (1.0, 2.0), (2.5, 4.0))
N_DRAWS = 500


def chance_error(stated: Floats) -> float:
    """What `metrics.probability_error` would be, on average, were every probability right."""
    rng = np.random.default_rng(0)
    draws = [metrics.probability_error(rng.random(len(stated)) < stated, stated) for _ in range(N_DRAWS)]
    return float(np.mean(draws))


def print_bins(hit: NDArray[np.bool_], stated: Floats, n_bins: int = 10) -> None:
    """The reliability diagram as a table."""
    bins = np.minimum((stated * n_bins).astype(int), n_bins - 1)
    rows = [
        [f"{i / n_bins:g} to {(i + 1) / n_bins:g}", n, float(stated[held].mean()), float(hit[held].mean())]
        for i in range(n_bins)
        for held in [bins == i]
        if (n := int(held.sum()))
    ]
    print_table(["probability", "rows", "mean stated", "fraction in the window"], rows)


def main() -> None:
    """Print the reliability of the first window in bins, and scores of every window."""
    parser = predicting_parser(__doc__)
    parser.add_argument("--split", default="test", help="rows to predict")
    parser.add_argument("--limit", type=int, help="a quick look: so many rows, chosen at random")
    parser.add_argument("--plot", type=Path, help="draw the diagram of the first window here")
    options = parser.parse_args()
    predictor = loaded(options.model)
    frame = at_most(read_splits(options.table, options.target, [options.split]), options.limit)
    gap_ev = frame[options.target].to_numpy(dtype=np.float64)
    _, said = predicted(predictor, frame, options.cache)
    gap, std, novelty = said.gap_ev, said.gap_std_ev, said.novelty
    rows: list[list[object]] = []
    for low, high in WINDOWS:
        stated = predictor.calibration.p_in_window(gap, std, low, high, novelty)
        hit = (low <= gap_ev) & (gap_ev <= high)
        if not rows:
            print(f"{options.model} on {len(frame)} rows of split {options.split}, {low:g} to {high:g} eV")
            print_bins(hit, stated)
            if options.plot is not None:
                from mofgap.report.plots import p_in_window_reliability

                p_in_window_reliability(gap_ev, stated, (low, high)).savefig(options.plot)
        point = ((low <= gap) & (gap <= high)).astype(np.float64)
        scores = (
            float(hit.mean()),
            float(stated.mean()),
            metrics.probability_error(hit, stated),
            chance_error(stated),
            metrics.spiegelhalter(hit, stated),
            metrics.brier(hit, stated),
            metrics.brier(hit, point),
        )
        rows.append([f"{low:g} to {high:g} eV", *scores])
    print()
    header = ["window", "inside", "stated", "error", "by chance", "Spiegelhalter z", "Brier", "of the point"]
    print_table(header, rows)


if __name__ == "__main__":
    main()
