"""Whether a geometry comes from an experiment or from a relaxation with DFT."""

from __future__ import annotations

from dataclasses import replace

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.prepare.config import Geometry
from mofgap.crystals.prepare.hydrogen_lengths import hydrogen_shortness


def with_geometry(crystal: Crystal, geometry: Geometry = "auto") -> Crystal:
    """The crystal with its class of geometry; the same object where that does not change.

    ``auto`` takes bonds to hydrogen that are too short for DFT as the sign of an experiment. Without such a
    bond the geometry counts as relaxed. A bond that is hardly too short counts in part.
    """
    known = {"relaxed": 0.0, "experimental": 1.0}.get(geometry)
    found = max(crystal.experimental, hydrogen_shortness(crystal)) if known is None else known
    return crystal if found == crystal.experimental else replace(crystal, experimental=found)
