"""Lengths of bonds to hydrogen by element in relaxed structures: the constants of `hydrogen_lengths`."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from benchmarks.measure import add_table, parser_of, print_table, read_splits
from mofgap.crystals.bonds import bond_ratios, pairs_within
from mofgap.crystals.dataset import table_crystals
from mofgap.crystals.elements import HYDROGEN, symbol_of

LONGEST_ANGSTROM = 2.2
LEAST_BONDS = 50


def main() -> None:
    """Print number, mean, median and shortest of the bonds of each element."""
    parser = parser_of(__doc__)
    add_table(parser)
    parser.add_argument("--split", default="train", help="rows to measure")
    options = parser.parse_args()
    frame = read_splits(options.table, options.target, [options.split])
    lengths: dict[int, list[float]] = defaultdict(list)
    for crystal in table_crystals(frame):
        numbers = crystal.atomic_numbers
        pairs = pairs_within(crystal.cell, crystal.frac_coords, LONGEST_ANGSTROM, numbers == HYDROGEN)
        order = np.lexsort((bond_ratios(pairs, numbers), pairs.first))
        for i in order[np.unique(pairs.first[order], return_index=True)[1]]:
            lengths[int(numbers[pairs.second[i]])].append(pairs.distances[i])
    rows: list[list[object]] = [
        [symbol_of(z), len(d), *(f"{f(d):.4f}" for f in (np.mean, np.median, np.min))]
        for z, d in sorted(lengths.items())
        if len(d) >= LEAST_BONDS
    ]
    print_table(["H on", "bonds", "mean, Å", "median, Å", "shortest, Å"], rows)


if __name__ == "__main__":
    main()
