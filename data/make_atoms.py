"""Writes quickstart/atoms.parquet: structures with made-up values of their atoms, to try a pretraining.

    python data/make_atoms.py

The values follow from the electronegativities of an atom and of its nearest neighbour. They come from no
calculation, so that an encoder that learns them is of no use for gaps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pymatgen.core import Element, Lattice

from mofgap.training.atoms import ATOM_TARGETS
from mofgap.training.labels import read_labels

HERE = Path(__file__).parent / "quickstart"
N_ROWS, N_TRAIN = 24, 16


def main() -> None:
    """Write the table."""
    frame = read_labels(HERE / "labels.csv", HERE / "structures.zip", "gap_ev", seed=0, needed=()).frame
    frame = frame.loc[frame.atomic_numbers.map(len).sort_values(kind="stable").index[:N_ROWS]]
    frame = frame[["structure_id", "cell_angstrom", "atomic_numbers", "frac_coords"]].reset_index(drop=True)
    frame["split"] = ["train"] * N_TRAIN + ["val"] * (N_ROWS - N_TRAIN)
    values = [made_up(*row) for row in frame[["cell_angstrom", "atomic_numbers", "frac_coords"]].to_numpy()]
    for place, name in enumerate(ATOM_TARGETS):
        frame[name] = [np.round(value[place], 3) for value in values]
    frame.to_parquet(HERE / "atoms.parquet", index=False, compression="zstd")


def made_up(cell: list[float], atomic_numbers: list[int], frac_coords: list[float]) -> np.ndarray:
    """A number an atom for each of `ATOM_TARGETS`, (n_targets, n_atoms)."""
    own = np.array([Element.from_Z(int(number)).X for number in atomic_numbers])
    coords = np.reshape(frac_coords, (-1, 3))
    distance = Lattice(np.reshape(cell, (3, 3))).get_all_distances(coords, coords)
    np.fill_diagonal(distance, np.inf)
    difference = own[distance.argmin(1)] - own
    return np.stack([difference, own, np.abs(difference), 0.5 * difference])


if __name__ == "__main__":
    main()
