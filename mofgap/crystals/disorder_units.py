"""Parts of a disordered structure that are kept or left out as a whole, and which exclude each other."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.bonds import (
    BOND_RATIO,
    HYDROGEN_CONTACT_ANGSTROM,
    IS_METAL,
    Pairs,
    bond_ratios,
    pairs_within,
)
from mofgap.crystals.elements import BORON, HYDROGEN, OXYGEN
from mofgap.crystals.sites import Sites

# Partial sites may exclude each other within this distance, or be bonded.
REACH_ANGSTROM = 3.0
# Occupancies that differ by less are equal, and of two alternatives nearly equal.
EQUAL, _NEARLY_EQUAL = 0.01, 0.05
# Distances over summed covalent radii below which two partial sites exclude each other: C and C nearer than
# 1.1 angstrom; sites that the file puts in different alternatives already when they would be bonded.
_EXCLUDES = 0.75
# A hydrogen that is this far from an atom with its occupancy belongs to it.
_BOND_TO_HYDROGEN_ANGSTROM = 0.7, 1.25
_USUAL_BOND_TO_HYDROGEN_ANGSTROM = 0.97
# Bonds to hydrogen whose lengths differ by less are equally long.
_SAME_LENGTH_ANGSTROM = 1e-4
# Non-metals that are nearer than this are bonded to each other, or to one atom; angstrom.
_CONTACT_ANGSTROM = 2.35
# Images of a group are in one place if atoms of theirs are nearer than this; of hydrogens; angstrom.
_ONE_PLACE_ANGSTROM = 2.5, 2.0
# Occupancies in one place that add up to more are of several atoms.
_SEVERAL = 1.5
# No two atoms of a structure that share no bond are nearer; with a hydrogen; angstrom.
_NEAREST_WITHOUT_BOND_ANGSTROM = 2.05, 1.8


@dataclass(frozen=True, eq=False)
class Units:
    """Partial sites in units that are kept or left out as a whole.

    Attributes:
        of_atom: The number of each site's unit.
        members: The sites of each unit.
        alternatives: For each site, those that cannot be there with it.
        others: For each site of a unit, the other units that cannot be there with it.
        torn: Units that are bonded to others: parts of a molecule of which the file names no groups.
        share: Occupancy of each unit.
        kind: The labels in each unit, which its images have too.
        content: The atomic numbers in each unit, ascending.
    """

    of_atom: list[int]
    members: dict[int, list[int]]
    alternatives: list[list[int]]
    others: dict[int, list[set[int]]]
    torn: set[int]
    share: dict[int, float]
    kind: dict[int, tuple[str, ...]]
    content: dict[int, list[int]]

    def alike(self, u: int, other: int) -> bool:
        """Whether nothing but the order in the file decides which of two units is there.

        They have nearly one occupancy and different atoms. Parts of two molecules must be equal, so that no
        molecule is put together from both.
        """
        if {u, other} & self.torn:
            nearly, differ = EQUAL, self.kind[u] != self.kind[other]
        else:
            nearly, differ = _NEARLY_EQUAL, self.content[u] != self.content[other]
        equal = abs(self.share[u] - self.share[other]) < nearly and differ
        return equal and max(self.content[u][-1], self.content[other][-1]) > HYDROGEN

    def is_half(self, u: int) -> bool:
        """Whether a unit without an alternative, or a hydrogen in one of its places, is half there."""
        taken = max(sum(self.share[o] for o in each) for each in self.others[u])
        if taken and self.content[u][-1] > HYDROGEN:
            return False
        return abs(self.share[u] + taken - 0.5) < EQUAL


def units_of(
    cell: NDArray[np.float64], sites: Sites, op_index: NDArray[np.int64], partial: NDArray[np.bool_]
) -> Units:
    """The units of the partial sites.

    What the file puts in one alternative and bonds hold together is one. So is an atom with its hydrogens,
    and a molecule of which no atom has an alternative.

    Args:
        cell: (3, 3) lattice vectors as rows, in angstrom.
        sites: The sites of the whole cell.
        op_index: (n_atoms,) symmetry operation that made each of them.
        partial: (n_atoms,) which of them are partially occupied.
    """
    sites = replace(sites, groups=_completed(cell, sites, partial))
    index = np.flatnonzero(partial)
    pairs = pairs_within(cell, sites.frac_coords[index], REACH_ANGSTROM)
    pairs = replace(pairs, first=index[pairs.first], second=index[pairs.second])
    pairs = pairs.take(pairs.first != pairs.second)
    ratios = bond_ratios(pairs, sites.atomic_numbers)
    hydrogens = pairs.both(sites.atomic_numbers == HYDROGEN)
    close = (ratios < _EXCLUDES) | (hydrogens & (pairs.distances < HYDROGEN_CONTACT_ANGSTROM))
    close |= _too_near(cell, sites, op_index, partial, pairs) | _one_hydrogen(cell, sites, partial, pairs)
    one_group, across = _alternatives(sites, op_index, pairs, close)
    bonded = ratios < BOND_RATIO
    # Of an assembly, or of images of a negative group, the file says so, bonded or not.
    images = one_group & (sites.groups[pairs.first] > 0)  # which may be bonded, as parts of one ring are
    named = (sites.assemblies[pairs.first] != 0) | (one_group & (sites.groups[pairs.first] < 0))
    excluded = close | (across & ~images & (bonded | named))
    together = bonded & ~close & ~across & ~pairs.both(IS_METAL[sites.atomic_numbers])
    together &= np.abs(sites.occupancies[pairs.first] - sites.occupancies[pairs.second]) < EQUAL
    together &= sites.groups[pairs.first] == sites.groups[pairs.second]
    whole = _whole_molecules(sites, op_index, pairs, together, excluded)
    joined = ((one_group & bonded & ~close) | _carried(sites, op_index, pairs) | whole) & ~across
    unit = parts_of(pairs.take(joined), len(sites))
    alternatives = pairs.take(excluded).neighbours(len(sites))
    members: dict[int, list[int]] = {}
    for atom in index.tolist():
        members.setdefault(int(unit[atom]), []).append(atom)
    kind = {u: tuple(sorted({sites.labels[a] for a in atoms})) for u, atoms in members.items()}
    torn = together & ~excluded & (unit[pairs.first] != unit[pairs.second])
    ends = zip(unit[pairs.first[torn]].tolist(), unit[pairs.second[torn]].tolist(), strict=True)
    return Units(
        unit.tolist(),
        members,
        alternatives,
        {u: [set(unit[alternatives[a]].tolist()) - {u} for a in atoms] for u, atoms in members.items()},
        {u for u, other in ends if kind[u] != kind[other]},  # else symmetry completes a ring
        {u: float(sites.occupancies[atoms].mean()) for u, atoms in members.items()},
        kind,
        {u: sorted(sites.atomic_numbers[atoms].tolist()) for u, atoms in members.items()},
    )


def _completed(cell: NDArray[np.float64], sites: Sites, partial: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n_atoms,) the groups; a negative one becomes positive where symmetry completes a molecule of it.

    SHELX cuts the bonds of such a group to its images. Where the images of an atom, in one place, make up
    more than one atom, they are parts of one molecule all the same, such as quarters of a ring.
    """
    groups = sites.groups.copy()
    negative = partial & (groups < 0)
    names = zip(sites.assemblies[negative].tolist(), groups[negative].tolist(), strict=True)
    for assembly, group in sorted(set(names)):
        index = np.flatnonzero(partial & (groups == group) & (sites.assemblies == assembly))
        pairs = pairs_within(cell, sites.frac_coords[index], REACH_ANGSTROM)
        heavy = pairs.both(sites.atomic_numbers[index] != HYDROGEN)
        near, near_hydrogen = _ONE_PLACE_ANGSTROM
        place = parts_of(pairs.take(pairs.distances < np.where(heavy, near, near_hydrogen)), len(index))
        total = Counter[tuple[int, str]]()
        for atom, part in zip(index.tolist(), place.tolist(), strict=True):
            total[part, sites.labels[atom]] += sites.occupancies[atom]
        if max(total.values(), default=0.0) > _SEVERAL:
            groups[index] = -group
    return groups


def parts_of(pairs: Pairs, n: int) -> NDArray[np.int32]:
    """(n,) the number of the part of each of n sites: pairs join those of one part."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs.first)), (pairs.first, pairs.second)), (n, n))
    found: NDArray[np.int32] = connected_components(links, directed=False)[1]
    return found


def _whole_molecules(
    sites: Sites,
    op_index: NDArray[np.int64],
    pairs: Pairs,
    together: NDArray[np.bool_],
    excluded: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which pairs are bonds of molecules that nothing excludes, and that no other image touches.

    Args:
        sites: The sites of the whole cell.
        op_index: (n_atoms,) symmetry operation that made each of them.
        pairs: Of partial sites.
        together: Which pairs are bonded, in one group and with one occupancy.
        excluded: Which pairs cannot be there together.
    """
    molecule = parts_of(pairs.take(together), len(sites))
    heavy = pairs.both(sites.atomic_numbers != HYDROGEN)
    touching = (pairs.distances < np.where(heavy, *_NEAREST_WITHOUT_BOND_ANGSTROM)) & ~together
    touching &= op_index[pairs.first] != op_index[pairs.second]
    touching &= ~pairs.both(sites.atomic_numbers == HYDROGEN)
    touching &= bond_ratios(pairs, sites.atomic_numbers) >= BOND_RATIO
    free = ~np.isin(molecule, molecule[pairs.first[excluded | touching]])
    return together & pairs.both(free)


def _too_near(
    cell: NDArray[np.float64],
    sites: Sites,
    op_index: NDArray[np.int64],
    partial: NDArray[np.bool_],
    pairs: Pairs,
) -> NDArray[np.bool_]:
    """Which pairs of partial sites would make a ring of three with a full non-metal, a peroxide or a contact.

    The first two are places of one atom, such as the carbons of a ring that is turned by 60 degrees about its
    axis, or a water. A group of the file may have such a ring, and so have clusters of boron. Contacts are of
    two images of a group in each other's place: nearer than any two atoms that share no neighbour.
    """
    numbers, first, second = sites.atomic_numbers, pairs.first, pairs.second
    heavy = ~np.isin(numbers, (HYDROGEN, BORON)) & ~IS_METAL[numbers]
    one = (sites.groups[first] != 0) & (sites.groups[first] == sites.groups[second])
    ratios = bond_ratios(pairs, numbers)
    near = pairs.both(heavy) & ~(one & (op_index[first] == op_index[second]))
    near &= sites.occupancies[first] + sites.occupancies[second] < 1 + EQUAL
    found: NDArray[np.bool_] = near & (ratios < BOND_RATIO)
    peroxides: NDArray[np.bool_] = found & pairs.both(numbers == OXYGEN)
    clashes: NDArray[np.bool_] = near & one & ~found & (pairs.distances < _CONTACT_ANGSTROM)
    if not (found | clashes).any():
        return found
    bonds = pairs_within(cell, sites.frac_coords, REACH_ANGSTROM, centres=partial & heavy)
    bonds = bonds.take((numbers[bonds.second] != HYDROGEN) & (bond_ratios(bonds, numbers) < BOND_RATIO))
    ends: dict[int, set[tuple[int, ...]]] = {}
    for i, j, offset in zip(bonds.first.tolist(), bonds.second.tolist(), bonds.offsets, strict=True):
        ends.setdefault(i, set()).add((j, *np.rint(offset).astype(int).tolist()))
    for place in np.flatnonzero(found | clashes).tolist():
        shift = np.rint(pairs.offsets[place]).astype(int).tolist()
        of_second = ends.get(int(second[place]), ())
        there = {(j, *(a + b for a, b in zip(offset, shift, strict=True))) for j, *offset in of_second}
        shared = there & ends.get(int(first[place]), set())
        found[place] = found[place] and any(heavy[j] and not partial[j] for j, *_ in shared)
        clashes[place] = clashes[place] and not shared
    return found | peroxides | clashes


def _one_hydrogen(
    cell: NDArray[np.float64], sites: Sites, partial: NDArray[np.bool_], pairs: Pairs
) -> NDArray[np.bool_]:
    """Which pairs are places of hydrogens at one full non-metal that add up to one hydrogen at most."""
    hydrogen = partial & (sites.atomic_numbers == HYDROGEN)
    found = pairs.both(hydrogen)
    if not found.any():
        return found
    full = ~partial & ~IS_METAL[sites.atomic_numbers] & (sites.atomic_numbers != HYDROGEN)
    bonds = pairs_within(cell, sites.frac_coords, _BOND_TO_HYDROGEN_ANGSTROM[1], centres=hydrogen)
    bonds = bonds.take(full[bonds.second])
    total = np.bincount(bonds.second, sites.occupancies[bonds.first], len(sites))
    carrier, shift = np.full(len(sites), -1), np.zeros((len(sites), 3))
    carrier[bonds.first], shift[bonds.first] = bonds.second, np.rint(bonds.offsets)
    first, second = pairs.first, pairs.second
    found &= (carrier[first] == carrier[second]) & (carrier[first] >= 0)
    found &= (np.rint(pairs.offsets) + shift[second] == shift[first]).all(1)
    found &= total[carrier[first]] < 1 + EQUAL
    return found


def _carried(sites: Sites, op_index: NDArray[np.int64], pairs: Pairs) -> NDArray[np.bool_]:
    """Which pairs are an atom and a hydrogen that it carries, in one group and with one occupancy.

    One of another alternative may be in reach: it is carried by the atom whose distance is most like a bond.
    """
    first, second = pairs.first, pairs.second
    shortest, longest = _BOND_TO_HYDROGEN_ANGSTROM
    of_hydrogen = sites.atomic_numbers == HYDROGEN
    found: NDArray[np.bool_] = of_hydrogen[first] ^ of_hydrogen[second]
    found &= (sites.groups[first] == sites.groups[second]) & (op_index[first] == op_index[second])
    found &= np.abs(sites.occupancies[first] - sites.occupancies[second]) < EQUAL
    found &= (shortest < pairs.distances) & (pairs.distances < longest)
    hydrogen = np.where(of_hydrogen[first], first, second)
    off = np.abs(pairs.distances - _USUAL_BOND_TO_HYDROGEN_ANGSTROM)
    least = np.full(len(of_hydrogen), np.inf)
    np.minimum.at(least, hydrogen[found], off[found])
    return found & (off < least[hydrogen] + _SAME_LENGTH_ANGSTROM)


def _alternatives(
    sites: Sites, op_index: NDArray[np.int64], pairs: Pairs, close: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which pairs are of one group of the file, and which of two alternatives.

    Two symmetry images of a group are alternatives where they stand in each other's place, and if its number
    is negative: so SHELX marks a group that has no bonds to its images. Two groups that are there for more
    than the whole time are none, since a file may use one number for parts in different places.
    """
    groups, first, second = sites.groups, pairs.first, pairs.second
    grouped = (groups[first] != 0) & (groups[second] != 0)
    grouped &= sites.assemblies[first] == sites.assemblies[second]
    one_group = grouped & (groups[first] == groups[second])
    images = one_group & (op_index[first] != op_index[second])
    code = sites.assemblies * (2 * int(np.abs(groups).max()) + 1) + groups
    in_place = np.isin(code[first], code[first[images & close]]) | (groups[first] < 0)
    fits = close | (sites.occupancies[first] + sites.occupancies[second] < 1 + EQUAL)
    return one_group, (grouped & ~one_group & fits) | (images & in_place)
