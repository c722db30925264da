"""Which atoms touch: pairs within a distance, and within the reach of a bond."""

from __future__ import annotations

from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.crystal import Crystal

# Single-bond covalent radii in angstrom by atomic number (Cordero et al., Dalton Trans. 2832, 2008).
COVALENT_RADII = np.array([0.0] + [gemmi.Element(number).covalent_r for number in range(1, 119)])
IS_METAL = np.array([False] + [bool(gemmi.Element(number).is_metal) for number in range(1, 119)])
# Atoms nearer than this many sums of their covalent radii are bonded.
BOND_RATIO = 1.25
# The nearest that two hydrogens come that belong to different bonds; angstrom.
HYDROGEN_CONTACT_ANGSTROM = 1.1
# Shorter cutoffs make pymatgen's bins so small that it becomes slower; angstrom.
_FASTEST_RADIUS = 3.0


@dataclass(frozen=True, eq=False)
class Pairs:
    """Ordered pairs of atoms: each pair appears from both ends, periodic images included.

    Attributes:
        first: (n_pairs,) index of the atom.
        second: (n_pairs,) index of its neighbour.
        offsets: (n_pairs, 3) lattice translations between the two, both first wrapped into the cell.
        distances: (n_pairs,) in angstrom.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    offsets: NDArray[np.float64]
    distances: NDArray[np.float64]

    def take(self, mask: NDArray[np.bool_]) -> Pairs:
        """The pairs where the mask holds."""
        return Pairs(self.first[mask], self.second[mask], self.offsets[mask], self.distances[mask])


def pairs_within(
    cell: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    cutoff_angstrom: float,
    centres: NDArray[np.bool_] | None = None,
) -> Pairs:
    """All pairs of atoms nearer than a cutoff, an atom and its own images included.

    Args:
        cell: (3, 3) lattice vectors as rows, in angstrom.
        frac_coords: (n_atoms, 3) fractional coordinates.
        cutoff_angstrom: Largest distance.
        centres: (n_atoms,) a mask of atoms; pairs of which none of these is the first are left out.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    cell = np.ascontiguousarray(cell, dtype=np.float64)
    wrapped = np.ascontiguousarray((frac_coords % 1.0) @ cell)
    first, second, offsets, distances = find_points_in_spheres(
        wrapped,
        wrapped if centres is None else wrapped[centres],
        r=cutoff_angstrom,
        pbc=np.ones(3, dtype=np.int64),
        lattice=cell,
        tol=1e-8,
        min_r=_FASTEST_RADIUS,
    )
    if centres is not None:
        first = np.flatnonzero(centres)[first]
    itself = (first == second) & ~offsets.any(axis=1)
    return Pairs(first, second, offsets, distances).take(~itself)


def bond_ratios(pairs: Pairs, atomic_numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n_pairs,) distances over the sum of the two covalent radii: about 1 for a bond."""
    radii = COVALENT_RADII[atomic_numbers]
    ratios: NDArray[np.float64] = pairs.distances / (radii[pairs.first] + radii[pairs.second])
    return ratios


def bonded_pairs(crystal: Crystal) -> Pairs:
    """All pairs of atoms within the reach of a bond."""
    numbers = crystal.atomic_numbers
    longest = BOND_RATIO * 2 * float(COVALENT_RADII[numbers].max())
    pairs = pairs_within(crystal.cell, crystal.frac_coords, longest)
    return pairs.take(bond_ratios(pairs, numbers) < BOND_RATIO)
