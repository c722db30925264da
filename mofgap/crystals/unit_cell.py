"""The sites of a whole cell made into a structure: disorder settled, repeats merged, nonsense refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mofgap.choices import Disorder
from mofgap.counts import counted
from mofgap.crystals.bonds import pairs_within
from mofgap.crystals.crowding import MOST_PAIRS, MOST_SITES_OF_ATOM, boxes, check_crowding, check_density
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.disorder import majority
from mofgap.crystals.elements import MAX_Z, symbol_of
from mofgap.crystals.lattice import check_cell, volume_of
from mofgap.crystals.reasons import StructureError
from mofgap.crystals.sites import FARTHEST_CELL, Sites

# The same element twice within this distance is one atom written twice.
DUPLICATE_ANGSTROM = 0.1
# Sites in the same one of so many parts of each edge are nearer than that in any ordinary cell.
_SAME_PARTS = 10_000
# No bond is shorter (H2 has 0.74 angstrom).
IMPOSSIBLE_ANGSTROM = 0.5
# No two points of a box with such edges are as far apart as DUPLICATE_ANGSTROM, whatever its angles.
_BOX_ANGSTROM = 0.033
# Volume for each atom, far beyond any framework, that keeps neighbour searches cheap.
ROOMIEST_ANGSTROM3 = 10_000.0
# Stated and found compositions may differ by this share of all atoms where the formula has fractions, which
# are often rounded; one of whole numbers tells a single atom that is missing.
_FRACTION_TOLERANCE, _WHOLE_TOLERANCE = 0.005, 1e-6


def check_size(n_atoms: int, max_atoms: int, *, is_primitive: bool = False) -> None:
    """Refuse a cell with too many atoms.

    Raises:
        StructureError: If ``n_atoms`` exceeds ``max_atoms``.
    """
    if n_atoms > max_atoms:
        cell, cure = ("primitive cell", "") if is_primitive else ("cell", "give the primitive cell, or ")
        raise StructureError(
            f"too-many-atoms: {n_atoms} atoms in the {cell}, the limit is {max_atoms}; "
            f"{cure}raise --max-atoms"
        )


def check_usable(crystal: Crystal) -> None:
    """Refuse a structure that no model can compute with.

    Raises:
        StructureError: If the structure has no atoms, an unusable coordinate, an unknown element, or a cell
            that does not fit its atoms.
    """
    if crystal.n_atoms == 0:
        raise StructureError("no-atoms: the structure has no atoms; leave it out")
    if not (np.abs(crystal.frac_coords) <= FARTHEST_CELL).all():
        raise StructureError(
            f"bad-coordinates: an atom is not finite, or more than {FARTHEST_CELL:.0f} cells away; "
            "check the structure"
        )
    check_cell(crystal.cell)
    check_room(crystal.cell, crystal.n_atoms)
    check_density(crystal.cell, crystal.n_atoms)
    numbers = np.unique(crystal.atomic_numbers)
    unknown = numbers[(numbers < 1) | (numbers > MAX_Z)].tolist()
    if unknown:
        raise StructureError(
            f"unknown-element: no model knows atomic number {', '.join(map(str, unknown))}; "
            "correct or leave out the structure"
        )


def check_apart(crystal: Crystal) -> None:
    """Refuse a structure with atoms on top of each other.

    Raises:
        StructureError: If two atoms are nearer than `IMPOSSIBLE_ANGSTROM`, or many atoms lie in one place.
    """
    check_crowding(crystal.cell, crystal.frac_coords, IMPOSSIBLE_ANGSTROM)
    near = pairs_within(crystal.cell, crystal.frac_coords, IMPOSSIBLE_ANGSTROM)
    if len(near.first):
        worst = int(np.argmin(near.distances))
        raise StructureError(
            f"overlapping-atoms: atoms {near.first[worst] + 1} and {near.second[worst] + 1} are "
            f"{near.distances[worst]:.2f} Å apart; remove one of each pair"
        )


def check_room(cell: NDArray[np.float64], n_atoms: int) -> None:
    """Refuse a cell that is far too large for its atoms.

    Raises:
        StructureError: If the volume for each atom exceeds `ROOMIEST_ANGSTROM3`.
    """
    volume = volume_of(cell)
    if volume > n_atoms * ROOMIEST_ANGSTROM3:
        raise StructureError(
            f"bad-cell: {volume / n_atoms:.3g} Å³ for each atom, no framework has more than a few hundred; "
            "correct the cell lengths, or complete the atoms"
        )


def settle(
    crystal: Crystal,
    sites: Sites,
    op_index: NDArray[np.int64],
    formula: dict[int, float],
    disorder: Disorder,
    max_atoms: int,
) -> Crystal:
    """The structure that the sites of a whole cell stand for.

    Args:
        crystal: Carries the cell, the names and the warnings so far.
        sites: All sites of the cell.
        op_index: (n,) symmetry operation that made each site.
        formula: The composition that the file states, by atomic number; empty if it states none.
        disorder: Whether to keep the majority of partial occupancies, which were refused before otherwise.
        max_atoms: Largest number of atoms accepted.

    Raises:
        StructureError: If the cell is far too empty, holds too many atoms or none, or has atoms that are
            too near.
    """
    cell, warnings = crystal.cell, list(crystal.warnings)
    check_room(cell, len(sites))
    if disorder == "majority":
        n_partial = int(sites.partial.sum())
        if n_partial > MOST_SITES_OF_ATOM * max_atoms:
            raise StructureError(
                f"too-many-atoms: {n_partial} partly occupied sites in the cell, the limit is "
                f"{MOST_SITES_OF_ATOM * max_atoms}; choose one arrangement yourself, or raise --max-atoms"
            )
        keep, notes = majority(cell, sites, op_index)
        sites = sites.take(keep)
        warnings += notes
        if not len(sites):
            raise StructureError(
                "no-atoms: every site is occupied less than half; choose an arrangement yourself"
            )
    sites = _merge_duplicates(cell, sites, max_atoms, warnings)
    check_size(len(sites), max_atoms)
    check_density(cell, len(sites))
    warnings += _composition(sites.atomic_numbers, formula)
    return replace(
        crystal,
        frac_coords=sites.frac_coords,
        atomic_numbers=sites.atomic_numbers,
        warnings=tuple(warnings),
    )


def _merge_duplicates(cell: NDArray[np.float64], sites: Sites, max_atoms: int, warnings: list[str]) -> Sites:
    """Leaves out repeated atoms with a warning.

    Raises:
        StructureError: If different atoms share a place, or there are far more sites than ``max_atoms``.
    """
    n_written = len(sites)
    if n_written**2 > MOST_PAIRS:
        # A cell written whole beside its operators has each atom hundreds of times: gigabytes of pairs.
        places = np.rint(sites.frac_coords % 1.0 * _SAME_PARTS).astype(np.int64) % _SAME_PARTS
        sites = _one_each(sites, places)
    if len(sites) > max_atoms:
        counts = np.ceil(np.linalg.norm(cell, axis=1) / _BOX_ANGSTROM)
        sites = _one_each(sites, boxes(sites.frac_coords, counts))
        if len(sites) > MOST_SITES_OF_ATOM * max_atoms:
            check_size(len(sites), max_atoms)
    check_crowding(cell, sites.frac_coords, IMPOSSIBLE_ANGSTROM)
    pairs = pairs_within(cell, sites.frac_coords, IMPOSSIBLE_ANGSTROM)
    numbers = sites.atomic_numbers
    repeated = (numbers[pairs.first] == numbers[pairs.second]) & (pairs.distances < DUPLICATE_ANGSTROM)
    removed = np.zeros(len(sites), dtype=bool)
    removed[pairs.first[repeated & (pairs.first > pairs.second)]] = True
    left = pairs.take(pairs.both(~removed))
    if len(left.first):
        worst = int(np.argmin(left.distances))
        n_pairs = len(left.first) // 2
        others = f", one of {n_pairs} such pairs" if n_pairs > 1 else ""
        names = f"{sites.labels[left.first[worst]]} and {sites.labels[left.second[worst]]}"
        raise StructureError(
            f"overlapping-atoms: {names} are {left.distances[worst]:.2f} Å apart{others}; "
            "remove one of each disordered alternative, or correct the symmetry"
        )
    if removed.any():
        sites = sites.take(~removed)
    if len(sites) < n_written:
        warnings.append(f"duplicate-sites: merged {counted(n_written - len(sites), 'atom')} written twice")
    return sites


def _one_each(sites: Sites, places: NDArray[np.int64]) -> Sites:
    """The first site of each element in each place, (n, 3) whole numbers."""
    code = sites.atomic_numbers.astype(np.int64)
    for column in places.T:
        code = code * (int(column.max(initial=0)) + 1) + column
    first = np.unique(code, return_index=True)[1]
    return sites.take(np.sort(first)) if len(first) < len(sites) else sites


def _composition(atomic_numbers: NDArray[np.int64], formula: dict[int, float]) -> list[str]:
    """A warning if the atoms are no multiple of the stated formula."""
    if not formula:
        return []
    stated = np.zeros(119)
    stated[list(formula)] = list(formula.values())
    found = np.bincount(atomic_numbers, minlength=119).astype(float)
    gap = np.abs(stated / max(stated.sum(), 1e-9) - found / found.sum())
    whole = all(count == round(count) for count in formula.values())
    if gap.max() <= (_WHOLE_TOLERANCE if whole else _FRACTION_TOLERANCE):
        return []
    shared = [n for n in range(119) if stated[n] and found[n]]
    # Scaled to the heaviest element both have, so that the reader sees which counts differ.
    scale = stated[shared[-1]] / found[shared[-1]] if shared else 1.0
    text = " ".join(
        f"{symbol_of(n)}{found[n] * scale:.4g}/{stated[n]:g}"
        for n in np.flatnonzero(np.abs(found * scale - stated) > 0.01)
    )
    what = f"atoms found/stated in _chemical_formula_sum: {text}"
    return [f"composition: {what}; complete the atoms or the symmetry"]
