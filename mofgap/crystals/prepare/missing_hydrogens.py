"""Hydrogens that a file leaves out, where geometry leaves no choice: on carbon atoms of aromatic rings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.bonds import BondGraph, bond_graph, pairs_within
from mofgap.crystals.charges import CHALCOGENS, rings
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import CARBON, HYDROGEN, NITROGEN
from mofgap.crystals.prepare.hydrogen_lengths import LENGTHS_ANGSTROM

# Bonds of an aromatic ring are shorter than single bonds, and longer than triple ones; angstrom.
_RING_BOND_ANGSTROM = (1.25, 1.46)
# Length of the sum of two unit vectors at the angles of rings: 1 at 120 degrees, 0.82 at 132, 1.25 at 103.
_RING_OPENING = (0.8, 1.3)
# A hydrogen is not put where an atom other than its carbon is nearer than this; angstrom.
_ROOM_ANGSTROM = 1.6


def add_ring_hydrogens(crystal: Crystal) -> Crystal:
    """The crystal with a hydrogen on each aromatic CH that has none, in the plane of the ring.

    Such a carbon has two neighbours, carbon or nitrogen, at the distances and angle of an aromatic ring, and
    is in a ring of five or six atoms: disorder makes bonds of chains as short.
    Hydrogens of water, hydroxide, amines and saturated carbon could stand in several places: none is added.
    """
    bonded = bond_graph(crystal)
    bare = _bare_carbons(bonded)
    opening = bonded.open_direction[bare]
    step = LENGTHS_ANGSTROM[CARBON] * opening / np.linalg.norm(opening, axis=1, keepdims=True)
    places = crystal.frac_coords[bare] + step @ np.linalg.inv(crystal.cell)
    frac_coords = np.concatenate([crystal.frac_coords, places])
    added = np.arange(len(frac_coords)) >= crystal.n_atoms
    near = pairs_within(crystal.cell, frac_coords, _ROOM_ANGSTROM, centres=added)
    keep = ~added
    keep[added] = np.bincount(near.first, minlength=len(added))[added] == 1
    n_added = int(keep.sum()) - crystal.n_atoms
    if not n_added:
        return crystal
    return replace(
        crystal,
        frac_coords=frac_coords[keep],
        atomic_numbers=np.concatenate([crystal.atomic_numbers, np.full(n_added, HYDROGEN)]),
        warnings=(*crystal.warnings, f"hydrogens-added: {n_added} on carbon atoms of rings that had none"),
    )


def _bare_carbons(bonded: BondGraph) -> NDArray[np.intp]:
    """Carbon atoms of rings with two neighbours and none else."""
    numbers, bonds = bonded.numbers, bonded.bonds
    low, high = _RING_BOND_ANGSTROM
    in_ring = np.isin(numbers[bonds.second], (CARBON, NITROGEN))
    in_ring &= (low < bonds.distances) & (bonds.distances < high)
    n_ring = np.bincount(bonds.first[in_ring], minlength=len(numbers))
    opening = np.linalg.norm(bonded.open_direction, axis=1)
    fits = (_RING_OPENING[0] < opening) & (opening < _RING_OPENING[1])
    bare = np.flatnonzero((numbers == CARBON) & (bonded.coordination() == 2) & (n_ring == 2) & fits)
    links = bonds.take(bonds.both(np.isin(numbers, (CARBON, NITROGEN, *CHALCOGENS))))
    neighbours = links.neighbours(len(numbers))
    closed = [i for i in bare.tolist() if any(any(rings((i,), neighbours, size)) for size in (5, 6))]
    return np.array(closed, dtype=np.intp)
