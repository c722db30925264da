"""What experimental geometry costs, and what each step of preparation wins back.

Files of CoRE MOF, which have the geometry of X-ray diffraction, are predicted beside the relaxed structures
of the same refcode and formula. Choices are made on val: train has structures whose gaps the model learnt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from time import process_time

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import add_model, add_table, loaded, parser_of, print_table, read_rows
from benchmarks.pairs import SETS, Pairs, add_pairs, read_pairs
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.crystals.prepare.steps import prepare
from mofgap.gap.predictor import GapPredictor
from mofgap.uncertainty import metrics
from mofgap.uncertainty.calibrate import Calibration

EXPERIMENTAL_STEP_EV = 0.01
MAX_EXPERIMENTAL_STEPS = 100
"""How finely, and how far, a spread of experimental geometry is looked for."""
LEVEL = 0.9

ALL = PreparationConfig(guests="remove", add_hydrogens=True)
NONE = PreparationConfig(hydrogen_lengths=False, bond_lengths=False, primitive_cell=False)
STEPS = tuple(f.name for f in fields(PreparationConfig) if f.name != "geometry")


def variants() -> Iterator[tuple[str, PreparationConfig]]:
    """Preparations by name: the default one, each step alone, all steps, and all but each."""
    yield "prepared", PreparationConfig()
    for name in STEPS:
        yield f"{name} alone", replace(NONE, **{name: getattr(ALL, name)})
    yield "all steps", ALL
    for name in STEPS:
        yield f"all but {name}", replace(ALL, **{name: getattr(NONE, name)})


class Scorer:
    """Predicts structures, each object once, and scores them."""

    def __init__(self, predictor: GapPredictor, gap_ev: Sequence[float]) -> None:
        self.predictor = predictor
        self.gap_ev = np.array(gap_ev)
        self._known: dict[int, tuple[Crystal, NDArray[np.float64]]] = {}

    def row(self, name: str, crystals: Sequence[Crystal], ms: float, n_changed: int) -> list[object]:
        """Mean and median error, Spearman of spread with error, coverage and mean width of intervals."""
        gap, std, low, high = np.array([self._predict(crystal) for crystal in crystals]).T
        true = self.gap_ev
        return [
            name,
            metrics.mae(true, gap),
            float(np.median(np.abs(true - gap))),
            metrics.spearman(true, gap, std),
            metrics.coverage(true, low, high),
            metrics.mean_width(low, high),
            n_changed,
            ms,
        ]

    def _predict(self, crystal: Crystal) -> NDArray[np.float64]:
        # The crystal is kept too, so that no other takes its identity.
        if id(crystal) not in self._known:
            found = self.predictor.estimate([crystal])
            ends = self.predictor.calibration.interval(found.gap_ev, found.gap_std_ev, LEVEL, found.novelty)
            columns = (found.gap_ev, found.gap_std_ev, *ends)
            self._known[id(crystal)] = crystal, np.concatenate(columns)
        return self._known[id(crystal)][1]


def print_split(predictor: GapPredictor, pairs: Pairs, steps: bool) -> None:
    """Print scores of relaxed, raw and prepared input, and, with ``steps``, of every other preparation."""
    scorer = Scorer(predictor, pairs.gap_ev)
    rows = [
        scorer.row("relaxed", pairs.relaxed, 0.0, 0),
        scorer.row("raw", pairs.raw, 0.0, 0),
    ]
    for name, config in variants() if steps else [("prepared", PreparationConfig())]:
        begun = process_time()
        prepared = [prepare(crystal, config) for crystal in pairs.raw]
        ms = 1e3 * (process_time() - begun) / len(prepared)
        moved = zip(pairs.raw, prepared, strict=True)
        changed = sum(a.frac_coords is not b.frac_coords for a, b in moved)
        rows.append(scorer.row(name, prepared, ms, changed))
    header = ["", "MAE, eV", "median", "Spearman", f"{LEVEL:.0%} coverage", "width, eV", "changed", "ms each"]
    print_table(header, rows)
    of_relaxed, of_raw, of_prepared = (float(str(row[1])) for row in rows[:3])
    shares = f"raw {of_raw / of_relaxed:.3f}, prepared {of_prepared / of_relaxed:.3f}"
    print(f"error over that of relaxed input: {shares}")
    if steps:
        print_geometry(predictor, pairs)


def print_geometry(predictor: GapPredictor, pairs: Pairs) -> None:
    """Print how many structures count as experimental, and the spread that experimental geometry adds."""
    prepared = [prepare(crystal) for crystal in pairs.raw]
    relaxed = sum(prepare(crystal).experimental > 0 for crystal in pairs.relaxed)
    kept = [i for i, crystal in enumerate(prepared) if crystal.experimental]
    print(
        f"taken for experimental: {len(kept)} of {len(prepared)} files, {relaxed} of the relaxed structures"
    )
    found = predictor.estimate([replace(prepared[i], experimental=False) for i in kept])
    gap_ev, spread = np.array(pairs.gap_ev)[kept], (found.gap_ev, found.gap_std_ev, found.novelty)
    of_relaxed = predictor.estimate([pairs.relaxed[i] for i in kept])
    moved = np.abs(found.gap_ev - of_relaxed.gap_ev).mean()
    print(f"mean distance of the prediction from that of the relaxed structure: {moved:.4f} eV")
    added = experimental_std_ev(predictor.calibration, gap_ev, *spread)
    print(f"added to the std for {LEVEL:.0%} coverage of these: {added:g} eV")


def experimental_std_ev(
    calibration: Calibration,
    gap_ev: NDArray[np.float64],
    predicted_ev: NDArray[np.float64],
    std_ev: NDArray[np.float64],
    novelty: NDArray[np.float64],
) -> float:
    """The smallest spread of experimental geometry, eV, with which 90 % intervals hold 90 % of some rows.

    Args:
        calibration: The calibration for relaxed structures.
        gap_ev: (n,) reference gaps of the relaxed structures, eV.
        predicted_ev: (n,) gaps predicted from prepared experimental structures, eV.
        std_ev: (n,) their standard deviations by the calibration of relaxed structures, eV.
        novelty: (n,) of the experimental structures.

    Raises:
        ValueError: If no added spread of up to 0.99 eV gives the 90 % intervals a coverage of 90 %.
    """
    for added in np.arange(MAX_EXPERIMENTAL_STEPS) * EXPERIMENTAL_STEP_EV:
        ends = calibration.interval(predicted_ev, np.hypot(std_ev, added), LEVEL, novelty)
        if metrics.coverage(gap_ev, *ends) >= LEVEL:
            return round(float(added), 6)
    raise ValueError(f"no spread of up to {added:g} eV covers 90 % of the {len(gap_ev)} rows")


def main() -> None:
    """Print a table for each split."""
    parser = parser_of(__doc__)
    add_model(parser)
    add_table(parser)
    add_pairs(parser)
    parser.add_argument("--split", nargs="+", default=["val"], help="rows to predict, a table each")
    parser.add_argument("--no-steps", action="store_true", help="the default preparation alone")
    parser.add_argument("--limit", type=int, help="a quick look: so many rows, chosen at random")
    options = parser.parse_args()
    predictor = loaded(options.model)
    table = read_rows(options.table, options.target, options.split)
    for split in options.split:
        pairs = read_pairs(table[table.split == split], options.pairs, options.target, options.limit)
        learnt = len(set(predictor.novelty.ids) & {crystal.structure_id for crystal in pairs.relaxed})
        print(
            f"{split}: {len(pairs.raw)} pairs of the same formula, {learnt} of them trained on, "
            f"{pairs.n_skipped} files unreadable; one file per row, {' before '.join(SETS)}"
        )
        print_split(predictor, pairs, not options.no_steps)
        print()


if __name__ == "__main__":
    main()
