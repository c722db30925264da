"""How many rows each warning about a structure marks, and how much larger the errors are there.

Errors on train are those of the networks without the neighbour correction, since the model was trained there.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.measure import at_most, loaded, predicted, predicting_parser, print_table, read_rows
from mofgap.crystals.checks import NOTES, check_crystal
from mofgap.crystals.dataset import table_crystals
from mofgap.gap.predictor import GapPredictor
from mofgap.uncertainty.bootstrap import bootstrap

LEAST_ROWS = 2


def errors_of(
    predictor: GapPredictor, frame: pd.DataFrame, target: str, cache: Path | None
) -> NDArray[np.float64]:
    """(n,) absolute errors of the rows, eV; residuals of the networks if all are of its training."""
    correction = predictor.model.correction
    place = {structure_id: i for i, structure_id in enumerate(predictor.novelty.ids)}
    if correction is not None and set(frame.structure_id) <= place.keys():
        residuals = correction.residual_ev.cpu().double().numpy()
        errors = residuals[[place[structure_id] for structure_id in frame.structure_id]]
    else:
        _, said = predicted(predictor, frame, cache)
        errors = said.gap_ev - frame[target].to_numpy(dtype=np.float64)
    absolute: NDArray[np.float64] = np.abs(errors)
    return absolute


def larger_by(errors: NDArray[np.float64], held: NDArray[np.bool_]) -> str:
    """Mean error with a warning minus that without, and its 95 % interval over the choice of rows."""
    if held.sum() < LEAST_ROWS or held.all():
        return "too few"
    with_it, without = errors[held], errors[~held]
    ends = bootstrap(lambda rows: float(with_it[rows].mean()), len(with_it))
    values = (value - without.mean() for value in (ends.value, ends.lo, ends.hi))
    return "{:+.3f} ({:+.3f} to {:+.3f})".format(*values)


def main() -> None:
    """Print the share of rows with each warning, and median and mean error with it and without."""
    parser = predicting_parser(__doc__)
    parser.add_argument("--split", nargs="+", default=["val"], help="rows to predict, a table each")
    parser.add_argument("--limit", type=int, help="a quick look: so many rows, chosen at random")
    options = parser.parse_args()
    predictor = loaded(options.model)
    table = read_rows(options.table, options.target, options.split)
    for split in options.split:
        frame = at_most(table[table.split == split], options.limit)
        error = errors_of(predictor, frame, options.target, options.cache)
        marked: dict[str, list[int]] = defaultdict(list)
        for i, crystal in enumerate(table_crystals(frame)):
            for name in {text.split(":", 1)[0] for text in check_crystal(crystal)}:
                marked[name].append(i)
        rows: list[list[object]] = []
        for name, places in sorted(marked.items(), key=lambda item: -len(item[1])):
            held = np.isin(np.arange(len(error)), places)
            kind = "note" if name in NOTES else "warning"
            errors = [float(f(error[mask])) for f in (np.median, np.mean) for mask in (held, ~held)]
            share = f"{held.mean():.2%}"
            rows.append([name, kind, int(held.sum()), share, *errors, larger_by(error, held)])
        print(f"{options.model} on {len(frame)} rows of split {split}; absolute errors in eV")
        columns = ["median with", "without", "mean with", "without", "mean larger by (95 %)"]
        print_table(["", "", "rows", "share", *columns], rows)


if __name__ == "__main__":
    main()
