"""Which atoms touch: pairs within a distance, within the reach of a bond, and the parts that bonds join."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import HYDROGEN
from mofgap.crystals.formula import formula_sum

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

    def take(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> Pairs:
        """The pairs where a mask holds, or of these places."""
        return Pairs(self.first[which], self.second[which], self.offsets[which], self.distances[which])

    def both(self, atoms: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(n_pairs,) whether both ends are atoms of a mask."""
        return atoms[self.first] & atoms[self.second]

    def neighbours(self, n: int) -> list[list[int]]:
        """Of each of n atoms, the second atoms of its pairs."""
        found: list[list[int]] = [[] for _ in range(n)]
        for i, j in zip(self.first.tolist(), self.second.tolist(), strict=True):
            found[i].append(j)
        return found


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

    if centres is not None and not centres.any():  # which pymatgen does not bear
        none = np.empty(0, dtype=np.int64)
        return Pairs(none, none, np.empty((0, 3)), np.empty(0))
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


@dataclass(frozen=True, eq=False)
class BondGraph:
    """A crystal with its bonds. Two metals are never bonded, two hydrogens only in H2.

    Attributes:
        crystal: The crystal.
        pairs: All pairs of atoms within the reach of the longest bond to a non-metal.
        ratios: (n_pairs,) distances of the pairs over the sums of the covalent radii.
        bonds: The pairs that are bonded, each from both ends.
    """

    crystal: Crystal
    pairs: Pairs
    ratios: NDArray[np.float64]
    bonds: Pairs

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(n_atoms,) atomic numbers."""
        return self.crystal.atomic_numbers

    def coordination(self, neighbours: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """(n_atoms,) number of bonds of each atom, to the atoms of a mask if one is given."""
        first = self.bonds.first if neighbours is None else self.bonds.first[neighbours[self.bonds.second]]
        return np.bincount(first, minlength=self.crystal.n_atoms)

    @cached_property
    def directions(self) -> NDArray[np.float64]:
        """(n_bonds, 3) Cartesian unit vectors along the bonds."""
        bonds, frac = self.bonds, self.crystal.frac_coords % 1.0
        vectors = (frac[bonds.second] + bonds.offsets - frac[bonds.first]) @ self.crystal.cell
        unit: NDArray[np.float64] = vectors / bonds.distances[:, None]
        return unit

    @cached_property
    def open_direction(self) -> NDArray[np.float64]:
        """(n_atoms, 3) sum of the unit vectors along each atom's bonds, turned round.

        It points where a bond is missing, with length 1, and vanishes where the bonds balance.
        """
        total = np.zeros((self.crystal.n_atoms, 3))
        np.add.at(total, self.bonds.first, -self.directions)
        return total

    @cached_property
    def parts(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(n_atoms,) the connected part that each atom belongs to, and (n_parts,) whether it has a metal."""
        from scipy.sparse.csgraph import connected_components

        n_parts, part = connected_components(self._links, directed=False)
        with_metal = np.zeros(n_parts, dtype=bool)
        with_metal[part[IS_METAL[self.numbers]]] = True
        return part, with_metal

    @cached_property
    def molecules(self) -> NDArray[np.int64]:
        """Numbers of the parts without a metal that end: no path of bonds leads to their own image."""
        from scipy.sparse.csgraph import breadth_first_order

        part, with_metal = self.parts
        position = np.zeros((self.crystal.n_atoms, 3))
        bonds = self.bonds
        ends = zip(bonds.first.tolist(), bonds.second.tolist(), strict=True)
        step = {
            (i, j): offset
            for (i, j), offset in zip(ends, bonds.offsets, strict=True)
            if not with_metal[part[i]]
        }
        free = np.flatnonzero(~with_metal)
        for start in np.unique(part, return_index=True)[1][free]:
            # Counted in cells; a molecule may reach across the faces of the cell.
            order, before = breadth_first_order(self._links, start, directed=False)
            for atom in order[1:].tolist():
                position[atom] = position[before[atom]] + step[int(before[atom]), atom]
        closing = position[bonds.second] - position[bonds.first] - bonds.offsets
        endless = np.unique(part[bonds.first[np.abs(closing).max(axis=1, initial=0) > 0.5]])
        return np.setdiff1d(free, endless)

    def formulas(self, some: NDArray[np.int64]) -> str:
        """Formulas of some parts with how many there are of each, the first few."""
        kinds = Counter(map(self.formula, some))
        return ", ".join(f"{count} {formula}" for formula, count in sorted(kinds.items())[:4])

    def formula(self, i: np.integer[Any]) -> str:
        """The formula of a part."""
        return formula_sum(self.numbers[self.parts[0] == i]).replace(" ", "")

    @cached_property
    def _links(self) -> csr_array:
        n, first, second = self.crystal.n_atoms, self.bonds.first, self.bonds.second
        return csr_array((np.ones(len(first)), (first, second)), (n, n))


def bond_graph(crystal: Crystal) -> BondGraph:
    """The bonds of a crystal."""
    numbers = crystal.atomic_numbers
    radii, metals = COVALENT_RADII[numbers], IS_METAL[numbers]
    # Bonds between two metals are of no interest here, so the cutoff need not reach so far.
    partner = radii[~metals].max(initial=0.7)
    pairs = pairs_within(crystal.cell, crystal.frac_coords, BOND_RATIO * float(radii.max() + partner))
    ratios = bond_ratios(pairs, numbers)
    near = (ratios < BOND_RATIO) & ~pairs.both(metals)
    # Hydrogens of neighbouring groups are no bond partners, apart from H2.
    lone = np.bincount(pairs.first[near], minlength=len(numbers)) == 1
    near &= ~pairs.both(numbers == HYDROGEN) | pairs.both(lone)
    return BondGraph(crystal, pairs, ratios, pairs.take(near))
