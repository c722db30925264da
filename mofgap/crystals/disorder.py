"""Partial occupancies: refuse them, or keep the majority."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.bonds import BOND_RATIO, bond_ratios, pairs_within
from mofgap.crystals.crowding import check_crowding
from mofgap.crystals.disorder_units import REACH_ANGSTROM, Units, parts_of, units_of
from mofgap.crystals.elements import HYDROGEN
from mofgap.crystals.reasons import StructureError, listed
from mofgap.crystals.shells import fill_shells
from mofgap.crystals.sites import FULLEST_OCCUPANCY, Sites

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
    partial = np.flatnonzero(sites.partial)
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

    The `Units` of the partial sites are taken by falling occupancy. Alternatives of nearly equal weight
    and different atoms are taken one symmetry image at a time, every second one first, until their share of
    the images is kept. So of a ring on a centre of inversion, one place gets the amine and one the hydrogen,
    each half there. A unit that excludes no other stays if it is there more than half of the time; of one
    that is half there, half of the images stay. `fill_shells` has the last word, but for bare hydrogens.

    Args:
        cell: (3, 3) lattice vectors as rows, in angstrom.
        sites: The sites of the whole cell.
        op_index: (n_atoms,) symmetry operation that made each of them.

    Returns:
        (n_atoms,) mask of the sites to keep, and warnings.

    Raises:
        StructureError: If the partial sites are so crowded that their pairs would not fit in memory.
    """
    partial = sites.partial
    if not partial.any():
        return ~partial, []
    check_crowding(cell, sites.frac_coords[partial], REACH_ANGSTROM)
    units = units_of(cell, sites, op_index, partial)
    members, share, kind, others = units.members, units.share, units.kind, units.others
    sharing = {kind[u] for u in members if any(units.alike(u, o) for o in set().union(*others[u]))}
    sharing |= {kind[u] for u in members if units.content[u][-1] == HYDROGEN and units.is_half(u)}
    order = _order(cell, sites, op_index, units, sharing)
    keep, left_out = ~partial, set[int]()
    images, kept, late = Counter(kind.values()), Counter[tuple[str, ...]](), dict[int, None]()
    for u in chain(order, late):
        if u in left_out:
            continue
        negative = sites.groups[members[u][0]] < 0  # its images share one whole, in reach of u or not
        rivals = {
            o for o in set().union(*others[u]) if o not in left_out or (negative and kind[o] == kind[u])
        }
        enough = kept[kind[u]] + 0.5 > share[u] * images[kind[u]]
        if enough and u not in late and any(units.alike(u, other) for other in rivals):
            late[u] = None
            continue
        left_out.update(rivals)
        taken = max(share[u] + sum(share[other] for other in each & rivals) for each in others[u])
        surplus = enough and (units.is_half(u) or (negative and kept[kind[u]]))
        keep[members[u]] = stays = taken >= 0.5 and not surplus
        kept[kind[u]] += stays
    fill_shells(cell, sites, op_index, keep, [members.get(u, []) for u in units.of_atom], units.alternatives)
    _drop_bare_hydrogens(cell, sites, partial, keep)
    return keep, [_words(sites, keep, partial)]


def _order(
    cell: NDArray[np.float64],
    sites: Sites,
    op_index: NDArray[np.int64],
    units: Units,
    sharing: Set[tuple[str, ...]],
) -> list[int]:
    """The order in which units are taken: of kinds that are ``sharing``, every second image comes first."""
    turn = dict.fromkeys(units.members, 0)

    def place(u: int) -> tuple[float, int, int, int, int]:
        atoms = units.members[u]
        operation = int(op_index[atoms].min())
        return -round(units.share[u], 3), abs(int(sites.groups[atoms[0]])), turn[u], operation, atoms[0]

    for kind in sorted(sharing):
        images = sorted((u for u in units.members if units.kind[u] == kind), key=place)
        places = sites.frac_coords[[units.members[u][0] for u in images]]
        turn |= zip(images, _by_turns(cell, places), strict=True)
    return sorted(units.members, key=place)


def _by_turns(cell: NDArray[np.float64], frac_coords: NDArray[np.float64]) -> list[int]:
    """0 or 1 for each place, so that nearest neighbours differ; 0 for all where that is impossible."""
    n, pairs = len(frac_coords), pairs_within(cell, frac_coords, _FARTHEST_IMAGE_ANGSTROM)
    pairs = pairs.take(pairs.distances < _NEAREST * pairs.distances.min(initial=np.inf))
    # Each place twice, as 0 and as 1: what is joined then is what goes together.
    zero, one = parts_of(replace(pairs, second=pairs.second + n), 2 * n).reshape(2, n)
    return (zero > one).astype(int).tolist() if (zero != one).all() else [0] * n


def _drop_bare_hydrogens(
    cell: NDArray[np.float64], sites: Sites, partial: NDArray[np.bool_], keep: NDArray[np.bool_]
) -> None:
    """Leave out, in place, partial hydrogens of which no carrier is kept."""
    hydrogens = keep & partial & (sites.atomic_numbers == HYDROGEN)
    bonds = pairs_within(cell, sites.frac_coords, REACH_ANGSTROM, centres=hydrogens)
    bonds = bonds.take(bond_ratios(bonds, sites.atomic_numbers) < BOND_RATIO)
    had, has = np.zeros((2, len(sites)), dtype=bool)
    had[bonds.first], has[bonds.first[keep[bonds.second]]] = True, True
    keep[hydrogens & had & ~has] = False


def _words(sites: Sites, keep: NDArray[np.bool_], partial: NDArray[np.bool_]) -> str:
    """How many partial sites are kept, and which elements of them are kept nowhere."""
    text = f"disorder-majority: {int(keep[partial].sum())} of {int(partial.sum())} partial sites kept"
    gone = np.flatnonzero(partial & ~np.isin(sites.atomic_numbers, sites.atomic_numbers[keep]))
    names = dict.fromkeys(f"{sites.labels[i]} ({sites.occupancies[i]:g})" for i in gone)
    return f"{text}; no atom is left of {listed(list(names))}" if names else text
