"""Bonds to hydrogen at the lengths of DFT.

X-ray diffraction sees the electrons, which the bond draws towards the heavier atom: bonds to hydrogen come
out 0.1 to 0.15 angstrom short.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.bonds import Pairs, bond_ratios, pairs_within
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import HYDROGEN, symbol_of

# Mean distances of hydrogen from its nearest neighbour in the QMOF structures of split train, relaxed with
# PBE-D3(BJ), from 76 (S) to 514,331 (C) bonds: `python -m benchmarks.hydrogen_lengths`; angstrom.
LENGTHS_ANGSTROM = {5: 1.2215, 6: 1.0927, 7: 1.0281, 8: 0.9948, 15: 1.4114, 16: 1.3505}
# No such bond of a relaxed QMOF structure of any split is shorter than its mean by more than this.
TOLERANCE_ANGSTROM = 0.05
# A bond that is too short by less than this is stretched in part, so that places have no step there.
RAMP_ANGSTROM = 0.025
# Hydrogen farther from everything belongs to no bond; angstrom.
_LONGEST_ANGSTROM = 1.5
_LENGTHS = np.zeros(119)
_LENGTHS[list(LENGTHS_ANGSTROM)] = list(LENGTHS_ANGSTROM.values())


def hydrogen_shortness(crystal: Crystal) -> float:
    """How far a bond to hydrogen is shorter than those of relaxed structures: from 0, to 1 if clearly."""
    hydrogens = crystal.atomic_numbers == HYDROGEN
    return float(_shortness(_bonds(crystal, hydrogens), crystal).max(initial=0.0)) if hydrogens.any() else 0.0


def stretch_hydrogens(crystal: Crystal) -> Crystal:
    """The crystal with hydrogens moved along their bonds to the lengths of DFT, where they are too short.

    A hydrogen belongs to the atom, other than hydrogen, that is nearest, measured by covalent radii.
    A bond that is hardly too short is stretched in part. Bonds to metals stay, and so does every atom whose
    bond is long enough, to the last digit. A hydrogen that would come to belong to another atom stays too.
    """
    hydrogens = crystal.atomic_numbers == HYDROGEN
    if not hydrogens.any():
        return crystal
    pairs = _bonds(crystal, hydrogens)
    shortness = _shortness(pairs, crystal)
    short = shortness > 0
    if not short.any():
        return crystal
    pairs, shortness = pairs.take(short), shortness[short]
    change = shortness * (_LENGTHS[crystal.atomic_numbers[pairs.second]] - pairs.distances)
    wrapped = crystal.frac_coords % 1.0
    bond = wrapped[pairs.first] - wrapped[pairs.second] - pairs.offsets
    frac_coords = crystal.frac_coords.copy()
    frac_coords[pairs.first] += bond * (change / pairs.distances)[:, None]
    moved = np.zeros(crystal.n_atoms, dtype=bool)
    moved[pairs.first] = True
    after = _bonds(replace(crystal, frac_coords=frac_coords), moved)
    well = (after.second == pairs.second) & (_shortness(after, crystal) == 0)
    frac_coords[pairs.first[~well]] = crystal.frac_coords[pairs.first[~well]]
    if not well.any():
        return crystal
    note = _note(crystal.atomic_numbers[pairs.second[well]].tolist())
    return replace(crystal, frac_coords=frac_coords, warnings=(*crystal.warnings, note))


def _bonds(crystal: Crystal, hydrogens: NDArray[np.bool_]) -> Pairs:
    """Each of some hydrogens, in order, with the atom that it belongs to, where there is one."""
    numbers = crystal.atomic_numbers
    pairs = pairs_within(crystal.cell, crystal.frac_coords, _LONGEST_ANGSTROM, centres=hydrogens)
    pairs = pairs.take(numbers[pairs.second] != HYDROGEN)
    # Ties fall to the atom that stands first.
    order = np.lexsort((pairs.second, np.round(bond_ratios(pairs, numbers), 6), pairs.first))
    nearest = order[np.unique(pairs.first[order], return_index=True)[1]]
    return pairs.take(nearest)


def _shortness(pairs: Pairs, crystal: Crystal) -> NDArray[np.float64]:
    """How far each bond is too short, from 0 to 1."""
    missing = _LENGTHS[crystal.atomic_numbers[pairs.second]] - TOLERANCE_ANGSTROM - pairs.distances
    return np.clip(missing / RAMP_ANGSTROM, 0.0, 1.0)


def _note(partners: list[int]) -> str:
    counts = ", ".join(f"{partners.count(z)} {symbol_of(z)}-H" for z in sorted(set(partners)))
    return f"hydrogen-lengths: bonds that X-rays see too short were stretched to those of DFT: {counts}"
