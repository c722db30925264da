"""Lengths of bonds in X-ray and in relaxed structures by kind of bond: the constants of `bond_lengths`."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from benchmarks.measure import add_table, parser_of, print_table, read_splits
from benchmarks.pairs import add_pairs, read_pairs
from mofgap.crystals.bonds import IS_METAL, bond_graph
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import HYDROGEN, symbol_of
from mofgap.crystals.prepare.bond_lengths import Kind, kinds_of_bonds
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.crystals.prepare.steps import prepare
from mofgap.uncertainty.columns import Floats

LEAST_STRUCTURES = 20


def lengths_by_kind(crystal: Crystal) -> dict[Kind, Floats]:
    """The sorted lengths of the bonds of each kind, without hydrogen and metals, angstrom."""
    bonded = bond_graph(crystal)
    found = defaultdict(list)
    for kind, length in zip(kinds_of_bonds(bonded), bonded.bonds.distances.tolist(), strict=True):
        if not any(number == HYDROGEN or IS_METAL[number] for number, _ in kind):
            found[kind].append(length)
    return {kind: np.sort(lengths) for kind, lengths in found.items()}


def line(raw: list[Floats], relaxed: list[Floats]) -> tuple[float, float, float]:
    """Mean of either length, and slope of the second against the first; structures count alike."""
    x, y = np.concatenate(raw), np.concatenate(relaxed)
    weights = np.concatenate([np.full(len(each), 1 / len(each)) for each in raw])
    mean_x, mean_y = np.average(x, weights=weights), np.average(y, weights=weights)
    covariance = np.average((x - mean_x) * (y - mean_y), weights=weights)
    variance = np.average((x - mean_x) ** 2, weights=weights)
    return float(mean_x), float(mean_y), float(np.clip(covariance / max(variance, 1e-8), 0, 1))


def main() -> None:
    """Print both means and the slope of each kind of bond."""
    parser = parser_of(__doc__)
    add_table(parser)
    add_pairs(parser)
    parser.add_argument("--split", default="train", help="rows to measure")
    options = parser.parse_args()
    rows = read_splits(options.table, options.target, [options.split])
    pairs = read_pairs(rows, options.pairs, options.target)
    found: dict[Kind, tuple[list[Floats], list[Floats]]] = defaultdict(lambda: ([], []))
    for file, row in zip(pairs.raw, pairs.relaxed, strict=True):
        prepared = prepare(file, PreparationConfig(bond_lengths=False))
        if prepared.n_atoms != row.n_atoms:
            continue
        raw, relaxed = lengths_by_kind(prepared), lengths_by_kind(row)
        for kind in raw.keys() & relaxed.keys():
            if len(raw[kind]) == len(relaxed[kind]):
                found[kind][0].append(raw[kind])
                found[kind][1].append(relaxed[kind])
    printed: list[list[object]] = [
        ["-".join(f"{symbol_of(z)}{n or ''}" for z, n in kind), len(raw)]
        + [f"{value:.4f}" for value in line(raw, relaxed)]
        for kind, (raw, relaxed) in sorted(found.items())
        if len(raw) >= LEAST_STRUCTURES
    ]
    print_table(["", "structures", "X-ray, Å", "relaxed, Å", "slope"], printed)


if __name__ == "__main__":
    main()
