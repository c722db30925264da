"""Whether points lie too close together for a search of their pairs, found without such a search."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.lattice import volume_of
from mofgap.crystals.reasons import StructureError

# Atoms of a cubic angstrom. Diamond has 0.18; hydrides under the pressure of a planet's core have 0.4.
DENSEST = 1.0
# Sites that stand for one atom: its alternatives, or copies of it.
MOST_SITES_OF_ATOM = 8
# Pairs in one box, summed over all boxes: some 100 MB of pairs. A thousand atoms that are each written on
# eight places nearby have a third of it.
MOST_PAIRS = 500_000


def boxes(frac_coords: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n, 3) which box each point lies in.

    Args:
        frac_coords: (n, 3) fractional coordinates.
        counts: (3,) how many boxes each edge of the cell is divided into.
    """
    return np.minimum((frac_coords % 1.0) * counts, counts - 1.0).astype(np.int64)


def check_crowding(cell: NDArray[np.float64], frac_coords: NDArray[np.float64], size_angstrom: float) -> None:
    """Refuse points so crowded that their pairs within a distance are too many to be listed.

    They may be alternatives, or copies, of the atoms of a crystal.

    Args:
        cell: (3, 3) lattice vectors as rows, in angstrom.
        frac_coords: (n, 3) fractional coordinates.
        size_angstrom: The distance.

    Raises:
        StructureError: If too many points lie near one place, or in the whole cell.
    """
    check_density(cell, len(frac_coords) / MOST_SITES_OF_ATOM)
    if len(frac_coords) ** 2 <= MOST_PAIRS:
        return
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    places = boxes(frac_coords, np.maximum(np.ceil(heights / size_angstrom), 1.0))
    counts = np.unique(places, axis=0, return_counts=True)[1]
    if (counts.astype(np.float64) ** 2).sum() > max(MOST_PAIRS, MOST_PAIRS / 8000 * len(frac_coords)):
        raise StructureError(
            f"overlapping-atoms: {counts.max()} sites lie within {size_angstrom:g} Å of one place; "
            "remove the disordered alternatives, or correct the cell"
        )


def check_density(cell: NDArray[np.float64], n_atoms: float) -> None:
    """Refuse a cell that is too small for its atoms.

    Raises:
        StructureError: If the cell holds more than one atom in each cubic angstrom.
    """
    volume = volume_of(cell)
    if n_atoms > volume * DENSEST:
        raise StructureError(
            f"bad-cell: {n_atoms / volume:.3g} atoms in each Å³, diamond has 0.18; correct the cell lengths, "
            "or remove atoms that are written several times"
        )
