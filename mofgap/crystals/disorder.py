"""Partial occupancies: refuse them, or keep the majority."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.bonds import HYDROGEN_CONTACT_ANGSTROM, bond_ratios, pairs_within
from mofgap.crystals.sites import CifError, Sites

Disorder = Literal["refuse", "majority"]

# Refinements write 0.99 or 0.999 for a site they mean to be full.
FULL_OCCUPANCY = 0.985
# Distances over summed covalent radii below which two partial sites exclude each other: C and C nearer than
# 1.1 angstrom; sites that the file puts in different alternatives already when they would be bonded.
_EXCLUDES = 0.75
_EXCLUDES_ACROSS_GROUPS = 1.25


def refuse(sites: Sites) -> None:
    """Does nothing to an ordered structure.

    Raises:
        CifError: a site is partially occupied.
    """
    partial = np.flatnonzero(sites.occupancies < FULL_OCCUPANCY)
    if len(partial):
        names = ", ".join(f"{sites.labels[i]} ({sites.occupancies[i]:g})" for i in partial[:4])
        more = f" and {len(partial) - 4} more" if len(partial) > 4 else ""
        raise CifError(
            f"partial-occupancy: {names}{more}; choose one arrangement yourself, "
            "or let --disorder majority keep the likeliest occupants"
        )


def majority(
    cell: NDArray[np.float64], sites: Sites, op_index: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], list[str]]:
    """Keeps the majority occupant wherever partial sites exclude each other.

    Sites are taken by falling occupancy; alternatives of equal weight are taken one symmetry image at a
    time, so that a disordered group stays whole. A partial site that competes with no other stays if it
    is occupied more often than not.

    Args:
        cell: (3, 3) lattice vectors as rows, in angstrom.
        sites: The sites of the whole cell.
        op_index: (n_atoms,) symmetry operation that made each of them.

    Returns:
        (n_atoms,) mask of the sites to keep, and warnings.
    """
    partial = sites.occupancies < FULL_OCCUPANCY
    if not partial.any():
        return ~partial, []
    rivals = _rivals(cell, sites, partial)
    order = np.lexsort((np.arange(len(sites)), op_index, sites.groups, -np.round(sites.occupancies, 3)))
    keep = ~partial
    beaten = np.zeros(len(sites), dtype=bool)
    for atom in order[partial[order]]:
        if beaten[atom]:
            continue
        losers = [rival for rival in rivals[atom] if not beaten[rival]]
        beaten[losers] = True
        keep[atom] = sites.occupancies[atom] + sites.occupancies[losers].sum() >= 0.5
    text = f"disorder-majority: {int(keep[partial].sum())} of {int(partial.sum())} partial sites kept"
    return keep, [text]


def _rivals(cell: NDArray[np.float64], sites: Sites, partial: NDArray[np.bool_]) -> list[list[int]]:
    """For each site, the partial sites that cannot be occupied together with it."""
    pairs = pairs_within(cell, sites.frac_coords, 3.0)
    pairs = pairs.take(partial[pairs.first] & partial[pairs.second] & (pairs.first != pairs.second))
    groups, assemblies = sites.groups, sites.assemblies
    across = (
        (groups[pairs.first] != groups[pairs.second])
        & (groups[pairs.first] > 0)
        & (groups[pairs.second] > 0)
        & (assemblies[pairs.first] == assemblies[pairs.second])
    )
    reach = np.where(across, _EXCLUDES_ACROSS_GROUPS, _EXCLUDES)
    hydrogens = (sites.atomic_numbers[pairs.first] == 1) & (sites.atomic_numbers[pairs.second] == 1)
    crowded = hydrogens & (pairs.distances < HYDROGEN_CONTACT_ANGSTROM)
    pairs = pairs.take((bond_ratios(pairs, sites.atomic_numbers) < reach) | crowded)
    rivals: list[list[int]] = [[] for _ in range(len(sites))]
    for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        rivals[first].append(second)
    return rivals
