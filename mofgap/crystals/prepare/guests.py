"""Free molecules in the pores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mofgap.crystals.bonds import bond_graph
from mofgap.crystals.charges import ions
from mofgap.crystals.crystal import Crystal


def remove_guests(crystal: Crystal) -> Crystal:
    """The crystal without neutral molecules that no bond joins to a metal or to an endless network.

    What seems to be an ion stays, since the framework needs its charge, see `mofgap.crystals.charges.ions`.
    An anion with two charges, such as a free dicarboxylate, looks neutral and is removed. A crystal of
    molecules alone stays as it is.
    """
    bonded = bond_graph(crystal)
    part = bonded.parts[0]
    neutral = np.setdiff1d(bonded.molecules, ions(bonded))
    removed = np.isin(part, neutral)
    if not removed.any() or removed.all():
        return crystal
    return replace(
        crystal,
        frac_coords=crystal.frac_coords[~removed],
        atomic_numbers=crystal.atomic_numbers[~removed],
        warnings=(*crystal.warnings, f"guests-removed: {bonded.formulas(neutral)} not bonded to any metal"),
    )
