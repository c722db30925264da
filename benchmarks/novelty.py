"""Does novelty tell structures of a metal that training lacks from ordinary ones?

For each metal the index is fitted anew to the train rows without it, and scores rows with it against rows of
a split without it: by all that it knows, where an element never seen is novel by rule, and by distance alone.
Encoder and model were trained with the metal, unlike with one that is new to them; only the index
leaves it out. ``--dims`` and ``--neighbours`` compare other distances; choose by the val split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.measure import loaded, predicting_parser, print_table, read_rows
from mofgap.choices import BATCH_ATOMS
from mofgap.crystals.coordination import metal_coordination
from mofgap.crystals.dataset import cached_store, table_crystals
from mofgap.crystals.elements import atomic_number, symbol_of
from mofgap.crystals.formula import reduced_formula
from mofgap.gap.model import GapModel
from mofgap.gap.novelty_warnings import N_NEAREST, NOVEL
from mofgap.training.finetune import frozen_features
from mofgap.uncertainty.metrics import auroc
from mofgap.uncertainty.novelty import NoveltyIndex, fit_novelty

METALS = ("Zn", "Cu", "Cd", "Co", "Mn", "Ag", "Zr", "Gd", "Mg", "Pb")
MOST_ROWS = 300
"""Rows with the metal that are scored, at most."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Structures with their frozen features (n, d)."""

    frame: pd.DataFrame
    features: NDArray[np.float32]

    def take(self, mask: NDArray[np.bool_] | NDArray[np.intp]) -> Rows:
        """Those of a mask, or of these places."""
        return Rows(self.frame.iloc[mask], self.features[mask])

    @property
    def numbers(self) -> list[NDArray[np.int64]]:
        """Atomic numbers of each."""
        return list(self.frame.atomic_numbers)

    def have(self, z: int) -> NDArray[np.bool_]:
        """Which contain an element."""
        return np.array([z in numbers for numbers in self.numbers])


def rows_of(model: GapModel, table: pd.DataFrame, split: str, cache: Path | None) -> Rows:
    """The rows of a split."""
    frame = table[table.split == split].reset_index(drop=True)
    store = cached_store(frame, model.graph_config, cache)
    return Rows(frame, frozen_features(model, store, BATCH_ATOMS).numpy())


def index_of(rows: Rows, n_dims: int, n_neighbours: int) -> NoveltyIndex:
    """The index of some rows, as training makes it."""
    return fit_novelty(
        rows.features,
        rows.numbers,
        rows.frame.structure_id.tolist(),
        coordination=[metal_coordination(crystal) for crystal in table_crystals(rows.frame)],
        n_dims=n_dims,
        n_neighbours=n_neighbours,
    )


def leave_out(z: int, train: Rows, others: Rows, index: NoveltyIndex) -> tuple[list[object], Rows, Rows]:
    """How an index of train rows without an element scores: a row of numbers, rows with it, rows without."""
    has = train.have(z)
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(has))[:MOST_ROWS]
    strangers, usual = train.take(np.sort(chosen)), others.take(~others.have(z))
    new, old = (index.score(rows.features, rows.numbers) for rows in (strangers, usual))
    label = np.repeat([1, 0], [len(new.distance), len(old.distance)])
    whole = auroc(label, np.concatenate([new.percentile, old.percentile]))
    distance = auroc(label, np.concatenate([new.distance, old.distance]))
    far = float((new.distance > index.quantiles[round(NOVEL * (len(index.quantiles) - 1))]).mean())
    warned = [float((each.percentile > NOVEL).mean()) for each in (new, old)]
    return [symbol_of(z), int(has.sum()), whole, distance, far, *warned], strangers, usual


def areas(
    index: NoveltyIndex, new: Rows, old: Rows, dims: Sequence[int], neighbours: Sequence[int]
) -> list[float]:
    """Area under the curve of the distance with each number of leading dimensions and neighbours."""
    found = []
    label = np.repeat([1, 0], [len(new.frame), len(old.frame)])
    for n in dims:
        cut = replace(index, projection=index.projection[:, :n], points=index.points[:, :n])
        for k in neighbours:
            some = replace(cut, n_neighbours=k)
            both = [some.score(rows.features, rows.numbers).distance for rows in (new, old)]
            found.append(auroc(label, np.concatenate(both)))
    return found


def print_nearest(rows: Rows, train: Rows, index: NoveltyIndex, target: str, n: int) -> None:
    """Print some rows, familiar to novel, with their nearest training structures, to look at."""
    novelty = index.score(rows.features, rows.numbers)
    order = np.argsort(novelty.distance)[np.linspace(0, len(rows.frame) - 1, n).round().astype(int)]
    table = train.frame.set_index("structure_id")
    for i in order:
        row = rows.frame.iloc[i]
        own = f"{reduced_formula(row.atomic_numbers)} {row[target]:.2f} eV"
        print(f"{novelty.percentile[i]:.2f} {own}, nearest:")
        for name in novelty.nearest[i][:N_NEAREST]:
            formula, gap = reduced_formula(table.atomic_numbers[name]), table[target][name]
            print(f"       {formula} {gap:.2f} eV ({name})")


def main() -> None:
    """Print how well each metal is found, and the mean over metals of every distance asked for."""
    parser = predicting_parser(__doc__)
    parser.add_argument("--split", default="test", help="rows without the metal")
    parser.add_argument("--metals", nargs="*", default=METALS)
    parser.add_argument("--dims", nargs="+", type=int, help="numbers of dimensions to compare")
    parser.add_argument("--neighbours", nargs="+", type=int, help="numbers of nearest structures to compare")
    parser.add_argument("--nearest", type=int, metavar="N", help="print the nearest of N rows of the split")
    options = parser.parse_args()
    splits = ("train", options.split)
    table = read_rows(options.table, options.target, splits)
    predictor = loaded(options.model)
    train, others = (rows_of(predictor.model, table, split, options.cache) for split in splits)
    shipped = predictor.novelty
    if options.nearest:
        print_nearest(others, train, shipped, options.target, options.nearest)
    dims, neighbours = options.dims or [shipped.points.shape[1]], options.neighbours or [shipped.n_neighbours]
    rows, grid = [], []
    for symbol in options.metals:
        z = atomic_number(symbol)
        index = index_of(train.take(~train.have(z)), max(dims), neighbours[0])
        row, new, old = leave_out(z, train, others, index)
        rows.append(row)
        grid.append(areas(index, new, old, dims, neighbours))
    if not rows:
        return
    rows.append(["mean", "", *(float(np.mean([row[i] for row in rows])) for i in range(2, len(rows[0])))])
    print_table(["left out", "rows", "AUROC", "of the distance", "far", "warned", "others warned"], rows)
    if len(dims) * len(neighbours) > 1:
        print()
        names = [(n, k) for n in dims for k in neighbours]
        scores = zip(names, np.mean(grid, axis=0).tolist(), np.min(grid, axis=0).tolist(), strict=True)
        header = ["dimensions", "neighbours", "mean AUROC of the distance", "least"]
        print_table(header, [[*name, mean, least] for name, mean, least in scores])


if __name__ == "__main__":
    main()
