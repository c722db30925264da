"""Whether a geometry comes from an experiment or from a relaxation with DFT."""

from __future__ import annotations

from dataclasses import replace

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.prepare.config import Geometry
from mofgap.crystals.prepare.hydrogen_lengths import has_short_hydrogens


def with_geometry(crystal: Crystal, geometry: Geometry = "auto") -> Crystal:
    """The crystal with its class of geometry; the same object where that does not change.

    ``auto`` takes bonds to hydrogen that are too short for DFT as the sign of an experiment. Without such a
    bond the geometry counts as relaxed.
    """
    known = {"relaxed": False, "experimental": True}.get(geometry)
    found = crystal.experimental or has_short_hydrogens(crystal) if known is None else known
    return crystal if found == crystal.experimental else replace(crystal, experimental=found)
