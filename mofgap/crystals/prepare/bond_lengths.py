"""Bonds inside the ligands of experimental structures at the lengths of DFT.

X-ray diffraction sees bonds shorter than PBE-D3(BJ) does, by 0.01 angstrom in rings and 0.02 in carboxylates.
In a structure of limited precision the lengths of like bonds also scatter.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mofgap.counts import counted
from mofgap.crystals.bonds import IS_METAL, BondGraph, bond_graph, bond_ratios
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import HYDROGEN

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

# Of each kind of bond: mean length in CoRE MOF files, mean length in the QMOF structures relaxed from them,
# and slope of the second length against the first. An atom is its atomic number and, for C, N and O, the
# number of its non-metal neighbours. From the pairs of split train: `python -m benchmarks.bond_lengths`.
LENGTHS_ANGSTROM = {
    ((6, 1), (7, 1)): (1.1449, 1.1750, 0.06),
    ((6, 2), (6, 3)): (1.4098, 1.4044, 0.24),
    ((6, 2), (7, 1)): (1.1490, 1.1790, 0.18),
    ((6, 3), (6, 3)): (1.4056, 1.4172, 0.74),
    ((6, 3), (6, 4)): (1.5123, 1.5126, 0.33),
    ((6, 3), (7, 2)): (1.3389, 1.3493, 0.44),
    ((6, 3), (7, 3)): (1.3657, 1.3751, 0.53),
    ((6, 3), (8, 1)): (1.2536, 1.2741, 0.36),
    ((6, 3), (8, 2)): (1.3613, 1.3669, 0.41),
    ((6, 3), (16, 0)): (1.7434, 1.7537, 0.35),
    ((6, 4), (6, 4)): (1.5170, 1.5355, 0.15),
    ((6, 4), (7, 3)): (1.4676, 1.4654, 0.17),
    ((6, 4), (8, 2)): (1.4201, 1.4348, 0.14),
    ((6, 4), (9, 0)): (1.3365, 1.3623, 0.18),
    ((6, 4), (15, 0)): (1.8251, 1.8349, 0.57),
    ((7, 2), (7, 2)): (1.3408, 1.3422, 0.54),
    ((7, 2), (7, 3)): (1.3588, 1.3554, 0.17),
    ((7, 3), (8, 1)): (1.2793, 1.2773, 0.31),
    ((8, 1), (15, 0)): (1.5175, 1.5339, 0.70),
    ((8, 1), (16, 0)): (1.4602, 1.4786, 0.63),
}
# No length changes by more than this; angstrom.
LARGEST_CHANGE_ANGSTROM = 0.06
NOTE = "bond-lengths"

# Weights of what the displacements are fitted to. On pairs of split val, weights of a third to three times
# these did about equally well.
_ANGLE_WEIGHT = 0.3
_METAL_WEIGHT = 0.3
_STAY_WEIGHT = 0.2
# The angles at an atom with more neighbours than this are left out.
_MOST_NEIGHBOURS = 8
# Displacements are exact to this part of them.
_PRECISION = 1e-5
_COUNTED = (6, 7, 8)
# Two atoms are equally near to a hydrogen if their distances over summed radii differ by less.
_EQUALLY_NEAR = 1e-4

Kind = tuple[tuple[int, int], tuple[int, int]]


def correct_bond_lengths(crystal: Crystal) -> Crystal:
    """An experimental crystal with the bonds of its ligands at the lengths that DFT gives them.

    The atoms other than hydrogen move as little as possible in the given cell. Their bonds come near the
    lengths of DFT; angles and bonds to metals stay. This is a linear least-squares problem. Hydrogens move
    with their atoms. A relaxed crystal stays as it is, and so does one that was corrected before. Where
    `Crystal.experimental` is below 1, lengths change by less in proportion.
    """
    if not crystal.experimental or any(text.startswith(f"{NOTE}:") for text in crystal.warnings):
        return crystal
    bonded = bond_graph(crystal)
    change = crystal.experimental * _changes(bonded)
    if not change.any():
        return crystal
    moves = _displacements(bonded, change)
    _let_hydrogens_ride(moves, bonded)
    n_changed = int(np.count_nonzero(change)) // 2
    return replace(
        crystal,
        frac_coords=crystal.frac_coords + moves @ np.linalg.inv(crystal.cell),
        warnings=(
            *crystal.warnings,
            f"{NOTE}: {counted(n_changed, 'ligand bond')} brought near those of DFT",
        ),
    )


def _let_hydrogens_ride(moves: Floats, bonded: BondGraph) -> None:
    """Give each hydrogen the move of its nearest atom by covalent radii, or the mean of equally near ones."""
    numbers = bonded.crystal.atomic_numbers
    hydrogens = numbers == HYDROGEN
    bonds = bonded.bonds.take(hydrogens[bonded.bonds.first] & ~hydrogens[bonded.bonds.second])
    ratios, least = bond_ratios(bonds, numbers), np.full(len(numbers), np.inf)
    np.minimum.at(least, bonds.first, ratios)
    bonds = bonds.take(ratios < least[bonds.first] + _EQUALLY_NEAR)
    n_atoms = np.bincount(bonds.first, minlength=len(numbers))
    moves[n_atoms > 0] = 0.0
    np.add.at(moves, bonds.first, moves[bonds.second] / n_atoms[bonds.first, None])


def kinds_of_bonds(bonded: BondGraph) -> list[Kind]:
    """The kind of each bond, as in `LENGTHS_ANGSTROM`: (element, neighbours) of the lesser and greater end.

    Neighbours are counted for C, N and O, metals left out; they are 0 for other elements.
    """
    numbers, bonds = bonded.numbers, bonded.bonds
    neighbours = np.where(np.isin(numbers, _COUNTED), bonded.coordination(~IS_METAL[numbers]), 0)
    atoms = list(zip(numbers.tolist(), neighbours.tolist(), strict=True))
    ends = ((atoms[i], atoms[j]) for i, j in zip(bonds.first.tolist(), bonds.second.tolist(), strict=True))
    return [(a, b) if a <= b else (b, a) for a, b in ends]


def _changes(bonded: BondGraph) -> Floats:
    """(n_bonds,) by how much each bond should become longer, angstrom."""
    lengths = bonded.bonds.distances
    change = np.zeros(len(lengths))
    for i, kind in enumerate(kinds_of_bonds(bonded)):
        if kind in LENGTHS_ANGSTROM:
            raw, relaxed, slope = LENGTHS_ANGSTROM[kind]
            change[i] = relaxed + slope * (lengths[i] - raw) - lengths[i]
    return np.clip(change, -LARGEST_CHANGE_ANGSTROM, LARGEST_CHANGE_ANGSTROM)


def _displacements(bonded: BondGraph, change: Floats) -> Floats:
    """(n_atoms, 3) displacements of least squares, angstrom.

    The equations are linear in the displacements u: n · (u_j - u_i) is the change of a distance, with n the
    unit vector from i to j. One equation stands for each bond, and one for the distance of each two
    neighbours of an atom, which keeps the angle. Small weights on u itself hold the rest in place.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import cg

    metal, kept = IS_METAL[bonded.numbers], bonded.bonds.both(bonded.numbers != HYDROGEN)
    bonds, directions, change = bonded.bonds.take(kept), bonded.directions[kept], change[kept]
    one, other = _angles(bonds.first, bonded.crystal.n_atoms)
    across = directions[other] * bonds.distances[other, None] - directions[one] * bonds.distances[one, None]
    across /= np.linalg.norm(across, axis=1)[:, None]
    change_across = (across * directions[other]).sum(1) * change[other]
    change_across -= (across * directions[one]).sum(1) * change[one]
    weight = np.where(metal[bonds.first] | metal[bonds.second], _METAL_WEIGHT, 1.0)
    weights = np.concatenate([weight, _ANGLE_WEIGHT * np.minimum(weight[one], weight[other])])
    starts = np.concatenate([bonds.first, bonds.second[one]])
    ends = np.concatenate([bonds.second, bonds.second[other]])
    units = np.concatenate([directions, across]) * weights[:, None]
    columns = 3 * np.stack([ends, starts], axis=1)[:, :, None] + np.arange(3)
    values = np.stack([units, -units], axis=1)
    row_ends = np.arange(0, values.size + 1, 6)
    shape = (len(units), 3 * bonded.crystal.n_atoms)
    equations = csr_array((values.ravel(), columns.ravel(), row_ends), shape=shape)
    wanted = equations.T @ (weights * np.concatenate([change, change_across]))
    normal = equations.T @ equations
    normal.setdiag(normal.diagonal() + _STAY_WEIGHT**2)
    found: Floats = cg(normal, wanted, rtol=_PRECISION, maxiter=1000)[0].reshape(-1, 3)
    return found


def _angles(centres: Indices, n_atoms: int) -> tuple[Indices, Indices]:
    """Each two bonds of one atom, as places in the list of bonds, of which `centres` are the first atoms."""
    counts = np.bincount(centres, minlength=n_atoms)
    order = np.argsort(centres, kind="stable")
    order = order[counts[centres[order]] <= _MOST_NEIGHBOURS]
    counts = np.where(counts <= _MOST_NEIGHBOURS, counts, 0)
    partners = counts[centres[order]]
    starts = (np.cumsum(counts) - counts)[centres[order]]
    one = np.repeat(np.arange(len(order)), partners)
    place = np.arange(len(one)) - np.repeat(np.cumsum(partners) - partners, partners)
    other = np.repeat(starts, partners) + place
    return order[one[one < other]], order[other[one < other]]
