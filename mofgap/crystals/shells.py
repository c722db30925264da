"""Shells: the disordered neighbours of an ordered atom, such as the fluorines of BF4 in two orientations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.bonds import BOND_RATIO, COVALENT_RADII, IS_METAL, bond_ratios, pairs_within
from mofgap.crystals.elements import HYDROGEN
from mofgap.crystals.sites import Sites

# Bonds to an atom are shorter, and so are distances between neighbours that may be one atom in two places.
_REACH_ANGSTROM = 3.0
# Occupancies around an atom add up to a whole number to within this.
_WHOLE = 0.15
# Two neighbours nearer than this are not there at the same time, angstrom. F..F of BF4 are 2.27 apart, H..H
# of CH3 1.7.
_APART_ANGSTROM, _HYDROGENS_APART_ANGSTROM = 2.0, 1.25
# A shell with more choices stays as it is.
_MOST_CHOICES = 5000
_Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shell:
    """Partially occupied neighbours of one element around a fully occupied atom.

    Attributes:
        atoms: Their indices.
        distances: (n, n) between them, angstrom; infinite from each to itself.
        n_there: So many are there at a time: the sum of their occupancies.
        is_crowded: Whether two of them are too near to be there together.
        of_metal: Whether the fully occupied atom is a metal.
    """

    atoms: list[int]
    distances: _Floats
    n_there: int
    is_crowded: bool
    of_metal: bool


def fill_shells(
    cell: _Floats,
    sites: Sites,
    op_index: NDArray[np.int64],
    keep: NDArray[np.bool_],
    units: Sequence[Sequence[int]],
    alternatives: Sequence[Sequence[int]],
) -> None:
    """Correct in place which partial sites of a shell are kept, where they are too near, too many or too few.

    As many stay as the occupancies add up to: the likeliest, of one alternative of the file, and far from
    each other. So of BF4 in two orientations one tetrahedron stays, and of a methyl group every second of six
    hydrogens. Around a metal, neighbours that can be there together stay as they are, such as oxide and
    hydroxide by turns; and so do shells of which an atom belongs to a larger part, such as a linker.

    Args:
        cell: (3, 3) lattice vectors as rows, in angstrom.
        sites: The sites of the whole cell.
        op_index: (n_atoms,) symmetry operation that made each of them.
        keep: (n_atoms,) which of them are kept.
        units: For each atom, the atoms that are kept or left out with it, itself included; empty for a fully
            occupied one.
        alternatives: For each atom, those that cannot be there with it.
    """
    partial = np.array([bool(unit) for unit in units])
    tied = _tied(cell, sites, partial)
    for shell in _shells(cell, sites, partial):
        inside = set(shell.atoms)
        members = {a: [b for b in units[a] if b not in inside or b == a] for a in shell.atoms}
        n_kept, of_hydrogen = int(keep[shell.atoms].sum()), sites.atomic_numbers[shell.atoms[0]] == HYDROGEN
        wrong = not shell.of_metal and (n_kept > shell.n_there or (of_hydrogen and n_kept < shell.n_there))
        if not (shell.is_crowded or wrong) or tied & inside or not _are_single(members, sites):
            continue
        blocked = {a: {c for b in members[a] for c in alternatives[b]} for a in shell.atoms}
        free = [
            place
            for place, a in enumerate(shell.atoms)
            if not any(keep[c] for c in blocked[a] - inside - {b for each in members.values() for b in each})
        ]
        if not shell.n_there <= len(free) or comb(len(free), shell.n_there) > _MOST_CHOICES:
            continue
        kept = tuple(place for place in free if keep[shell.atoms[place]])
        if shell.of_metal and _is_sound(shell, kept, sites, blocked):
            continue
        chosen = _likeliest(shell, free, kept, sites, op_index, blocked)
        for place, a in enumerate(shell.atoms):
            keep[members[a]] = place in chosen


def _are_single(members: Mapping[int, Sequence[int]], sites: Sites) -> bool:
    """Whether each neighbour is kept or left out by itself, but for hydrogens that it carries."""
    return all(b == a or sites.atomic_numbers[b] == HYDROGEN for a, unit in members.items() for b in unit)


def _is_sound(shell: Shell, kept: Sequence[int], sites: Sites, blocked: Mapping[int, set[int]]) -> bool:
    """Whether as many are kept as are there, can be there together, and are not bonded to each other."""
    bond_angstrom = 2 * BOND_RATIO * float(COVALENT_RADII[sites.atomic_numbers[shell.atoms[0]]])
    near = float(shell.distances[np.ix_(kept, kept)].min(initial=np.inf))
    clash = any(shell.atoms[j] in blocked[shell.atoms[i]] for i, j in combinations(kept, 2))
    return len(kept) == shell.n_there and near >= max(_APART_ANGSTROM, bond_angstrom) and not clash


def _tied(cell: _Floats, sites: Sites, partial: NDArray[np.bool_]) -> set[int]:
    """Partial sites that are bonded to a partial one of another element, as the oxygens of a linker are."""
    numbers = sites.atomic_numbers
    pairs = pairs_within(cell, sites.frac_coords, _REACH_ANGSTROM, centres=partial & (numbers != HYDROGEN))
    pairs = pairs.take(partial[pairs.second] & (numbers[pairs.second] != HYDROGEN))
    pairs = pairs.take(numbers[pairs.first] != numbers[pairs.second])
    return set(pairs.first[bond_ratios(pairs, numbers) < BOND_RATIO].tolist())


def _shells(cell: _Floats, sites: Sites, partial: NDArray[np.bool_]) -> Iterator[Shell]:
    """All shells of several sites whose occupancies add up to a whole number."""
    numbers = sites.atomic_numbers
    pairs = pairs_within(cell, sites.frac_coords, _REACH_ANGSTROM, centres=partial)
    pairs = pairs.take(~partial[pairs.second])
    pairs = pairs.take(bond_ratios(pairs, numbers) < BOND_RATIO)
    wrapped = sites.frac_coords % 1.0
    around: dict[tuple[int, int], list[tuple[int, _Floats]]] = {}
    for atom, centre, offset in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.offsets, strict=True):
        place = (wrapped[atom] - wrapped[centre] - offset) @ cell
        around.setdefault((centre, int(numbers[atom])), []).append((atom, place))
    for (centre, _), found in around.items():
        for group in _near_each_other(found):
            atoms = [atom for atom, _ in group]
            total = float(sites.occupancies[atoms].sum())
            if len(set(atoms)) == len(atoms) > round(total) >= 1 and abs(total - round(total)) < _WHOLE:
                places = np.array([place for _, place in group])
                distances = np.linalg.norm(places[:, None] - places[None], axis=2)
                np.fill_diagonal(distances, np.inf)
                of_hydrogen = numbers[atoms[0]] == HYDROGEN
                limit = _HYDROGENS_APART_ANGSTROM if of_hydrogen else _APART_ANGSTROM
                is_crowded, of_metal = bool((distances < limit).any()), bool(IS_METAL[numbers[centre]])
                yield Shell(atoms, distances, round(total), is_crowded, of_metal)


def _near_each_other(found: list[tuple[int, _Floats]]) -> Iterator[list[tuple[int, _Floats]]]:
    """Neighbours in parts that are apart from each other, each in the order of the sites."""
    left = sorted(found, key=lambda each: each[0])
    while left:
        part = [left.pop(0)]
        for _, place in part:
            near = [each for each in left if np.linalg.norm(each[1] - place) < _REACH_ANGSTROM]
            part += near
            left = [each for each in left if not any(each is other for other in near)]
        yield sorted(part, key=lambda each: each[0])


def _likeliest(
    shell: Shell,
    free: Sequence[int],
    kept: tuple[int, ...],
    sites: Sites,
    op_index: NDArray[np.int64],
    blocked: Mapping[int, set[int]],
) -> tuple[int, ...]:
    """Places in a shell of the atoms that stay; those that are ``kept`` where no others are better."""
    named = sites.groups[shell.atoms] != 0
    codes = np.stack([sites.assemblies[shell.atoms], sites.groups[shell.atoms], op_index[shell.atoms]], 1)
    codes = np.where(named[:, None], codes, 0)

    def worth(chosen: tuple[int, ...]) -> tuple[int, float, int, float]:
        index = list(chosen)
        atoms = [shell.atoms[place] for place in index]
        n_conflicts = sum(other in blocked[a] for a, other in combinations(atoms, 2))
        n_alternatives = len(np.unique(codes[index], axis=0))
        nearest = round(float(shell.distances[np.ix_(index, index)].min()), 2)
        return -n_conflicts, round(float(sites.occupancies[atoms].sum()), 2), -n_alternatives, nearest

    own = [kept] if len(kept) == shell.n_there else []
    return max(chain(own, combinations(free, shell.n_there)), key=worth)
