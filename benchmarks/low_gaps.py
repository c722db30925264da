"""How a model does where gaps are low: error, bias and intervals by the true and by the predicted gap.

A network draws what it knows little of towards the mean. So errors are large, and of one sign, where the true
gap is low; nobody can sort by that in a screening, where only the predicted gap is known. Last comes a search
for low gaps: how many of the structures ranked first have one, and what chance alone would give.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import loaded, predicted, predicting_parser, print_table, read_splits
from mofgap.uncertainty.columns import Floats
from mofgap.uncertainty.metrics import interval_score

EDGES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, np.inf)
LEVEL = 0.9
N_FIRST = 25


def row(part: str, held: NDArray[np.bool_], true: Floats, found: dict[str, Floats]) -> list[object]:
    """A row of the table: error, bias, and what lies inside, below and above the intervals."""
    lo, hi, error = found["lo"][held], found["hi"][held], (found["gap"] - true)[held]
    below, above = float((true[held] < lo).mean()), float((true[held] > hi).mean())
    scores = float(np.abs(error).mean()), float(error.mean()), 1 - below - above, below, above
    return [part, int(held.sum()), *scores, float((hi - lo).mean())]


def by_gap(kind: str, gap: Floats, true: Floats, found: dict[str, Floats]) -> Iterator[list[object]]:
    """Rows of the table for each range of the true or the predicted gap."""
    for low, high in pairwise(EDGES):
        held = (low <= gap) & (gap < high)
        if held.any():
            part = f"{kind} {low:g} to {high:g} eV" if high < np.inf else f"{kind} from {low:g} eV"
            yield row(part, held, true, found)


def print_search(order: str, score: Floats, true: Floats, limit_ev: float) -> None:
    """Print how many of the first have a gap below the limit, and the enrichment over chance."""
    first = np.argsort(-score, kind="stable")[:N_FIRST]
    n_first, share = int((true[first] < limit_ev).sum()), float((true < limit_ev).mean())
    enrichment = n_first / N_FIRST / share if share else np.nan
    print(
        f"below {limit_ev:g} eV: {n_first} of the {N_FIRST} first by {order}, "
        f"{int((true < limit_ev).sum())} of all {len(true)}: enrichment {enrichment:.3g}"
    )


def main() -> None:
    """Print the tables of a model."""
    parser = predicting_parser(__doc__)
    parser.add_argument("--splits", nargs="+", default=["val"], help="rows to predict")
    parser.add_argument("--limit-ev", type=float, default=1.0, help="gaps that the search is for, eV")
    options = parser.parse_args()
    predictor = loaded(options.model)
    frame = read_splits(options.table, options.target, options.splits)
    _, said = predicted(predictor, frame, options.cache)
    true = frame[options.target].to_numpy(dtype=np.float64)
    gap, std, novelty = said.gap_ev, said.gap_std_ev, said.novelty
    lo, hi = predictor.calibration.interval(gap, std, LEVEL, novelty)
    found = {"gap": gap, "lo": lo, "hi": hi}
    coverage = f"coverage of {LEVEL:.0%}"
    header = ["gap", "rows", "MAE, eV", "bias, eV", coverage, "below", "above", "width, eV"]
    rows = [row("all", np.ones(len(true), dtype=bool), true, found)]
    rows += [*by_gap("true", true, true, found), *by_gap("predicted", gap, true, found)]
    print_table(header, rows)
    print(f"interval score: {interval_score(true, lo, hi, LEVEL):.4g} eV")
    print()
    print_search("predicted gap", -gap, true, options.limit_ev)
    stated = predictor.calibration.p_in_window(gap, std, 0.0, options.limit_ev, novelty)
    print_search("probability", stated, true, options.limit_ev)


if __name__ == "__main__":
    main()
