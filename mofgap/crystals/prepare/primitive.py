"""The smallest cell that repeats."""

from __future__ import annotations

import os
from dataclasses import replace
from math import gcd
from typing import Any

import numpy as np

from mofgap.crystals.crystal import Crystal

# Images of an atom lie nearer to each other than this: coordinates of 4 digits in cells of some 30 angstrom.
TOLERANCE_ANGSTROM = 0.01


def to_primitive(crystal: Crystal) -> Crystal:
    """The crystal in a primitive cell, by spglib, where that is smaller; else the crystal as it is.

    Every atom that stays keeps its place in space; of images that agree within 0.01 angstrom the first stays.
    """
    if not _may_repeat(crystal):
        return crystal
    # Else it writes to the terminal where it cannot bring a cell to its standard, which nobody asks for here.
    os.environ.setdefault("SPGLIB_WARNING", "OFF")
    import spglib

    cell: Any = (crystal.cell, crystal.frac_coords, crystal.atomic_numbers)
    found = spglib.get_symmetry_dataset(cell, symprec=TOLERANCE_ANGSTROM)
    if found is None:
        return crystal
    keep = np.unique(found.mapping_to_primitive, return_index=True)[1]
    n_images = crystal.n_atoms // len(keep)
    volume = float(abs(np.linalg.det(found.primitive_lattice)))
    whole = n_images * len(keep) == crystal.n_atoms and abs(volume * n_images / crystal.volume - 1) < 1e-3
    if n_images < 2 or not whole:
        return crystal
    keep = np.sort(keep)
    lattice = np.array(found.primitive_lattice, dtype=np.float64)
    return replace(
        crystal,
        cell=lattice,
        frac_coords=crystal.cart_coords[keep] @ np.linalg.inv(lattice),
        atomic_numbers=crystal.atomic_numbers[keep],
        warnings=(
            *crystal.warnings,
            f"primitive-cell: {len(keep)} atoms, of which the cell in the file holds {n_images} copies",
        ),
    )


def _may_repeat(crystal: Crystal) -> bool:
    """Whether some shift maps one atom of each element onto another of its kind; in most cells none does."""
    elements, counts = np.unique(crystal.atomic_numbers, return_counts=True)
    if gcd(*counts.tolist()) == 1:
        return False
    rarest, *others = (
        crystal.frac_coords[crystal.atomic_numbers == elements[i]] for i in np.argsort(counts, kind="stable")
    )
    shifts = rarest[1:] - rarest[0]
    for places in others:
        missed = places[0] + shifts[:, None] - places
        missed = np.linalg.norm((missed - np.round(missed)) @ crystal.cell, axis=2)
        shifts = shifts[missed.min(axis=1) < 2 * TOLERANCE_ANGSTROM]
        if not len(shifts):
            return False
    return True
