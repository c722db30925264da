"""How many ligand atoms each metal of a crystal has."""

from __future__ import annotations

import numpy as np

from mofgap.crystals.bonds import COVALENT_RADII, IS_METAL, bond_ratios, pairs_within
from mofgap.crystals.crystal import Crystal

LIGAND_RATIO = 1.2
"""Distance over summed covalent radii up to which a non-metal is bound to a metal: at 1.3 many a carboxylate
carbon would count as a ligand of zirconium."""


def metal_coordination(crystal: Crystal) -> frozenset[tuple[int, int]]:
    """The coordinations of a crystal's metals: pairs of atomic number and number of bound non-metals."""
    numbers = crystal.atomic_numbers
    metals = IS_METAL[numbers]
    if not metals.any() or metals.all():
        return frozenset((int(z), 0) for z in np.unique(numbers[metals]))
    radii = COVALENT_RADII[numbers]
    longest = LIGAND_RATIO * float(radii[metals].max() + radii[~metals].max())
    pairs = pairs_within(crystal.cell, crystal.frac_coords, longest, centres=metals)
    bound = (bond_ratios(pairs, numbers) < LIGAND_RATIO) & ~metals[pairs.second]
    count = np.bincount(pairs.first[bound], minlength=len(numbers))
    return frozenset(zip(numbers[metals].tolist(), count[metals].tolist(), strict=True))
