"""Partial occupancies: refuse them, or keep the majority."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

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
from mofgap.crystals.crowding import check_crowding
from mofgap.crystals.elements import BORON, HYDROGEN, OXYGEN
from mofgap.crystals.reasons import StructureError, listed
from mofgap.crystals.shells import fill_shells
from mofgap.crystals.sites import FULLEST_OCCUPANCY, Sites

# Refinements write 0.99 or 0.999 for a site they mean to be full.
FULL_OCCUPANCY = 0.985
# Distances over summed covalent radii below which two partial sites exclude each other: C and C nearer than
# 1.1 angstrom; sites that the file puts in different alternatives already when they would be bonded.
_EXCLUDES = 0.75
# Partial sites may exclude each other within this distance, or be bonded.
_REACH_ANGSTROM = 3.0
# A hydrogen that is this far from an atom with its occupancy belongs to it.
_BOND_TO_HYDROGEN_ANGSTROM = 0.7, 1.25
_USUAL_BOND_TO_HYDROGEN_ANGSTROM = 0.97
# Bonds to hydrogen whose lengths differ by less are equally long.
_SAME_LENGTH_ANGSTROM = 1e-4
# Non-metals that are nearer than this are bonded to each other, or to one atom; angstrom.
_CONTACT_ANGSTROM = 2.35
# Occupancies that differ by less are equal, and of two alternatives nearly equal.
_EQUAL, _NEARLY_EQUAL = 0.01, 0.05
# Images of an alternative are neighbours up to this distance, angstrom, and this ratio to the nearest.
_FARTHEST_IMAGE_ANGSTROM, _NEAREST = 6.0, 1.1


def put_together(sites: Sites, n_places: NDArray[np.int64]) -> tuple[Sites, list[str]]:
    """Adds up the shares of atoms that are split over places beside their special position.

    Args:
        sites: The asymmetric unit.
        n_places: (n_sites,) number of places of each, see `mofgap.crystals.symmetry.n_places`.

    Returns:
        The sites with the occupancies of whole atoms, and a warning that names those.
    """
    total = sites.occupancies * n_places
    split = (n_places > 1) & (total <= FULLEST_OCCUPANCY)
    if not split.any():
        return sites, []
    names = listed([f"{sites.labels[i]} ({n_places[i]} places)" for i in np.flatnonzero(split)])
    text = f"split-sites: {names}; one atom is put between the places, on their special position"
    return replace(sites, occupancies=np.where(split, np.minimum(total, 1.0), sites.occupancies)), [text]


def refuse(sites: Sites) -> None:
    """Refuse a structure with partially occupied sites.

    Raises:
        StructureError: If a site is partially occupied.
    """
    partial = np.flatnonzero(sites.occupancies < FULL_OCCUPANCY)
    if len(partial):
        names = listed([f"{sites.labels[i]} ({sites.occupancies[i]:g})" for i in partial])
        raise StructureError(
            f"partial-occupancy: {names}; choose one arrangement yourself, "
            "or let --disorder majority keep the likeliest occupants"
        )


def majority(
    cell: NDArray[np.float64], sites: Sites, op_index: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], list[str]]:
    """Keeps the majority occupant wherever partial sites exclude each other.

    What the file puts in one alternative and bonds hold together is kept or left out as a whole, and so is an
    atom with its hydrogens. Such units are taken by falling occupancy. Alternatives of nearly equal weight
    and different atoms are taken one symmetry image at a time, every second one first, until their share of
    the images is kept. So of a ring on a centre of inversion, one place gets the amine and one the hydrogen,
    each half there. A unit that excludes no other stays if it is there more than half of the time; of one
    that is half there, half of the images stay. `fill_shells` has the last word.

    Args:
        cell: (3, 3) lattice vectors as rows, in angstrom.
        sites: The sites of the whole cell.
        op_index: (n_atoms,) symmetry operation that made each of them.

    Returns:
        (n_atoms,) mask of the sites to keep, and warnings.

    Raises:
        StructureError: If the partial sites are so crowded that their pairs would not fit in memory.
    """
    partial = sites.occupancies < FULL_OCCUPANCY
    if not partial.any():
        return ~partial, []
    check_crowding(cell, sites.frac_coords[partial], _REACH_ANGSTROM)
    unit, members, alternatives = _units(cell, sites, op_index, partial)
    share = {u: float(sites.occupancies[atoms].mean()) for u, atoms in members.items()}

    kind = {u: tuple(sorted({sites.labels[a] for a in atoms})) for u, atoms in members.items()}
    content = {u: sorted(sites.atomic_numbers[atoms].tolist()) for u, atoms in members.items()}
    others = {u: [{unit[o] for o in alternatives[a]} - {u} for a in atoms] for u, atoms in members.items()}

    def alike(u: int, other: int) -> bool:
        """Whether nothing but the order in the file decides which of two parts is there."""
        equal = abs(share[u] - share[other]) < _NEARLY_EQUAL and content[u] != content[other]
        return equal and max(content[u][-1], content[other][-1]) > HYDROGEN

    sharing = {kind[u] for u in members if any(alike(u, other) for other in set().union(*others[u]))}
    order = _order(cell, sites, op_index, members, share, {u: kind[u] for u in members if kind[u] in sharing})
    keep, left_out = ~partial, set[int]()
    images, kept, late = Counter(kind.values()), Counter[tuple[str, ...]](), dict[int, None]()
    for u in chain(order, late):
        if u in left_out:
            continue
        negative = sites.groups[members[u][0]] < 0  # its images share one whole, in reach of u or not
        all_others = set().union(*others[u])
        rivals = {o for o in all_others if o not in left_out or (negative and kind[o] == kind[u])}
        enough = kept[kind[u]] + 0.5 > share[u] * images[kind[u]]
        if enough and u not in late and any(alike(u, other) for other in rivals):
            late[u] = None
            continue
        left_out.update(rivals)
        alone = content[u][-1] > HYDROGEN and not all_others and abs(share[u] - 0.5) < _EQUAL
        taken = max(share[u] + sum(share[other] for other in each & rivals) for each in others[u])
        keep[members[u]] = stays = taken >= 0.5 and not (enough and (alone or (negative and kept[kind[u]])))
        kept[kind[u]] += stays
    fill_shells(cell, sites, op_index, keep, [members.get(u, []) for u in unit], alternatives)
    return keep, [_words(sites, keep, partial)]


def _order(
    cell: NDArray[np.float64],
    sites: Sites,
    op_index: NDArray[np.int64],
    members: Mapping[int, Sequence[int]],
    share: Mapping[int, float],
    sharing: Mapping[int, tuple[str, ...]],
) -> list[int]:
    """The order in which units are taken: of kinds that are ``sharing``, every second image comes first."""
    turn = dict.fromkeys(members, 0)

    def place(u: int) -> tuple[float, int, int, int, int]:
        first = members[u][0]
        operation = int(op_index[members[u]].min())
        return -round(share[u], 3), abs(int(sites.groups[first])), turn[u], operation, first

    for kind in dict.fromkeys(sharing.values()):
        units = sorted((u for u in sharing if sharing[u] == kind), key=place)
        places = sites.frac_coords[[members[u][0] for u in units]]
        turn |= zip(units, _by_turns(cell, places), strict=True)
    return sorted(members, key=place)


def _by_turns(cell: NDArray[np.float64], frac_coords: NDArray[np.float64]) -> list[int]:
    """0 or 1 for each place, so that nearest neighbours differ; 0 for all where that is impossible."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n, pairs = len(frac_coords), pairs_within(cell, frac_coords, _FARTHEST_IMAGE_ANGSTROM)
    pairs = pairs.take(pairs.distances < _NEAREST * pairs.distances.min(initial=np.inf))
    # Each place twice, as 0 and as 1: what is joined then is what goes together.
    links = coo_array((np.ones(len(pairs.first)), (pairs.first, pairs.second + n)), (2 * n,) * 2)
    zero, one = connected_components(links, directed=False)[1].reshape(2, n)
    return (zero > one).astype(int).tolist() if (zero != one).all() else [0] * n


def _words(sites: Sites, keep: NDArray[np.bool_], partial: NDArray[np.bool_]) -> str:
    """How many partial sites are kept, and which elements of them are kept nowhere."""
    text = f"disorder-majority: {int(keep[partial].sum())} of {int(partial.sum())} partial sites kept"
    gone = np.flatnonzero(partial & ~np.isin(sites.atomic_numbers, sites.atomic_numbers[keep]))
    names = dict.fromkeys(f"{sites.labels[i]} ({sites.occupancies[i]:g})" for i in gone)
    return f"{text}; no atom is left of {listed(list(names))}" if names else text


def _units(
    cell: NDArray[np.float64], sites: Sites, op_index: NDArray[np.int64], partial: NDArray[np.bool_]
) -> tuple[list[int], dict[int, list[int]], list[list[int]]]:
    """The number of each site's unit, the sites of each unit, and the sites that exclude each site."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    index = np.flatnonzero(partial)
    pairs = pairs_within(cell, sites.frac_coords[index], _REACH_ANGSTROM)
    pairs = replace(pairs, first=index[pairs.first], second=index[pairs.second])
    pairs = pairs.take(pairs.first != pairs.second)
    ratios = bond_ratios(pairs, sites.atomic_numbers)
    hydrogens = pairs.both(sites.atomic_numbers == HYDROGEN)
    close = (ratios < _EXCLUDES) | (hydrogens & (pairs.distances < HYDROGEN_CONTACT_ANGSTROM))
    close |= _too_near(cell, sites, op_index, partial, pairs)
    one_group, across = _alternatives(sites, op_index, pairs, close)
    bonded = ratios < BOND_RATIO
    joined = pairs.take((one_group & bonded & ~close | _carried(sites, op_index, pairs)) & ~across)
    links = coo_array((np.ones(len(joined.first)), (joined.first, joined.second)), (len(sites),) * 2)
    unit = connected_components(links, directed=False)[1].tolist()
    members: dict[int, list[int]] = {}
    for atom in index.tolist():
        members.setdefault(unit[atom], []).append(atom)
    # Of an assembly, or of images of a negative group, the file says so, bonded or not.
    images = one_group & (sites.groups[pairs.first] > 0)  # which may be bonded, as parts of one ring are
    named = (sites.assemblies[pairs.first] != 0) | (one_group & (sites.groups[pairs.first] < 0))
    apart = pairs.take(close | (across & ~images & (bonded | named)))
    alternatives: list[list[int]] = [[] for _ in range(len(sites))]
    for first, second in zip(apart.first.tolist(), apart.second.tolist(), strict=True):
        alternatives[first].append(second)
    return unit, members, alternatives


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
    near &= sites.occupancies[first] + sites.occupancies[second] < 1 + _EQUAL
    found: NDArray[np.bool_] = near & (ratios < BOND_RATIO)
    peroxides: NDArray[np.bool_] = found & pairs.both(numbers == OXYGEN)
    clashes: NDArray[np.bool_] = near & one & ~found & (pairs.distances < _CONTACT_ANGSTROM)
    if not (found | clashes).any():
        return found
    bonds = pairs_within(cell, sites.frac_coords, _REACH_ANGSTROM, centres=partial & heavy)
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


def _carried(sites: Sites, op_index: NDArray[np.int64], pairs: Pairs) -> NDArray[np.bool_]:
    """Which pairs are an atom and a hydrogen that it carries, in one group and with one occupancy.

    One of another alternative may be in reach: it is carried by the atom whose distance is most like a bond.
    """
    first, second = pairs.first, pairs.second
    shortest, longest = _BOND_TO_HYDROGEN_ANGSTROM
    of_hydrogen = sites.atomic_numbers == HYDROGEN
    found: NDArray[np.bool_] = of_hydrogen[first] ^ of_hydrogen[second]
    found &= (sites.groups[first] == sites.groups[second]) & (op_index[first] == op_index[second])
    found &= np.abs(sites.occupancies[first] - sites.occupancies[second]) < _EQUAL
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
    fits = close | (sites.occupancies[first] + sites.occupancies[second] < 1 + _EQUAL)
    return one_group, (grouped & ~one_group & fits) | (images & in_place)
