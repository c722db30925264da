"""Could a spread rank a model's errors better? A forest learns to, from errors on val, and is tried on test.

It sees the predicted gap, its spreads, the novelty, the number of atoms, the composition and the encoder's
features. Where it ranks them no better than the spread, what is left of the errors does not show in what the
model knows of a structure. Published predictions, where they lie beside the table, know something else: the
difference to them is added to the spread in squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesRegressor

from benchmarks.accuracy import BASELINES
from benchmarks.measure import at_most, loaded, predicted, predicting_parser, print_table, read_rows
from mofgap.gap.predictor import GapPredictor
from mofgap.uncertainty.bootstrap import Interval, bootstrap
from mofgap.uncertainty.columns import Floats
from mofgap.uncertainty.metrics import spearman

SIZES = (250, 500, 1000)
"""Numbers of errors to learn from, beside all; those are drawn `N_DRAWS` times."""

N_DRAWS, N_TREES, N_COMPONENTS = 3, 300, 20


@dataclass(frozen=True, eq=False)
class Predicted:
    """Labelled structures as the model sees them.

    Attributes:
        ids: (n,) names.
        gap_dft_ev: (n,) labels.
        gap_ev: (n,) predictions.
        std_ev: (n,) calibrated spreads.
        plain: (n, k) what the forest sees beside the features.
        features: (n, n_features) of the encoder.
    """

    ids: pd.Series[str]
    gap_dft_ev: Floats
    gap_ev: Floats
    std_ev: Floats
    plain: Floats
    features: Floats

    def rank(self, spread: Floats) -> float:
        """How a spread ranks the errors: Spearman's correlation."""
        return spearman(self.gap_dft_ev, self.gap_ev, spread)

    def better(self, spread: Floats) -> Interval:
        """By how much it ranks them better than the calibrated spread does."""

        def difference(rows: NDArray[np.intp]) -> float:
            gaps = self.gap_dft_ev[rows], self.gap_ev[rows]
            return spearman(*gaps, spread[rows]) - spearman(*gaps, self.std_ev[rows])

        return bootstrap(difference, len(self.ids))


def predict(predictor: GapPredictor, frame: pd.DataFrame, target: str, cache: Path | None) -> Predicted:
    """Predict labelled rows of a table."""
    found, said = predicted(predictor, frame, cache)
    counts = np.stack([np.bincount(each, minlength=119) for each in frame.atomic_numbers])
    n_atoms = counts.sum(axis=1, keepdims=True)
    epistemic = np.nan_to_num(found.epistemic_std_ev)
    logs = np.log([epistemic, found.aleatoric_std_ev, said.gap_std_ev, n_atoms[:, 0]]).T
    return Predicted(
        frame.structure_id,
        frame[target].to_numpy(dtype=np.float64),
        said.gap_ev,
        said.gap_std_ev,
        np.column_stack([said.gap_ev, said.novelty, logs, counts / n_atoms]),
        found.features,
    )


def learnt(val: Predicted, test: Predicted, n: int, draw: int) -> Floats:
    """(n_test,) expected rank of each error, from n errors on val."""
    rows = np.random.default_rng(draw).permutation(len(val.ids))[:n]
    components = PCA(min(N_COMPONENTS, n), random_state=0).fit(val.features[rows])
    known, asked = (np.column_stack([p.plain, components.transform(p.features)]) for p in (val, test))
    error = np.abs(val.gap_dft_ev - val.gap_ev)[rows]
    forest = ExtraTreesRegressor(N_TREES, min_samples_leaf=8, max_features=0.4, random_state=draw)
    forest.fit(known[rows], error.argsort().argsort() / n)
    return np.asarray(forest.predict(asked), dtype=np.float64)


def row(test: Predicted, name: str, spread: Floats) -> list[object]:
    """A row of the table of one spread."""
    found = test.better(spread)
    return [name, test.rank(spread), f"{found.value:+.3f} ({found.lo:+.3f} to {found.hi:+.3f})"]


def main() -> None:
    """Print how spreads rank the errors on split test."""
    parser = predicting_parser(__doc__)
    parser.add_argument("--limit", type=int, help="a quick look: so many rows of each split")
    options = parser.parse_args()
    predictor = loaded(options.model)
    frame = read_rows(options.table, options.target, ["val", "test"])
    of = partial(predict, predictor, target=options.target, cache=options.cache)
    val, test = (of(at_most(frame[frame.split == s], options.limit)) for s in ("val", "test"))
    print(f"{options.model}, {len(test.ids)} structures of split test, {options.target}")
    rows: list[list[object]] = [["the calibrated spread", test.rank(test.std_ev), ""]]
    for n in [n for n in SIZES if n < len(val.ids)]:
        ranks = [test.rank(learnt(val, test, n, draw)) for draw in range(N_DRAWS)]
        rows.append([f"learnt from {n} errors, mean of {N_DRAWS}", float(np.mean(ranks)), ""])
    rows.append(row(test, f"learnt from {len(val.ids)} errors", learnt(val, test, len(val.ids), 0)))
    if (path := options.table.with_name(BASELINES)).exists():
        published = pd.read_csv(path).set_index("qmof_id").reindex(test.ids)
        if options.target in published:
            for name in published.columns.drop(options.target):
                differs = np.nan_to_num(np.abs(published[name].to_numpy() - test.gap_ev))
                what = f"the spread and the difference to {name.removesuffix('_ev')}"
                rows.append(row(test, what, np.hypot(test.std_ev, differs)))
    print_table(["spread", "Spearman", "minus the spread's, 95 % interval"], rows)


if __name__ == "__main__":
    main()
