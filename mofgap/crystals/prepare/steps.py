"""All steps of preparation in their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.prepare.bond_lengths import correct_bond_lengths
from mofgap.crystals.prepare.config import Geometry, PreparationConfig
from mofgap.crystals.prepare.guests import remove_guests
from mofgap.crystals.prepare.hydrogen_lengths import hydrogen_shortness, stretch_hydrogens
from mofgap.crystals.prepare.missing_hydrogens import add_ring_hydrogens
from mofgap.crystals.prepare.primitive import to_primitive

DEFAULT_PREPARATION = PreparationConfig()
Step = Callable[[Crystal], Crystal]


def prepare(crystal: Crystal, config: PreparationConfig = DEFAULT_PREPARATION) -> Crystal:
    """The structure that DFT would see, with a note among its warnings for each change.

    A relaxed structure in its primitive cell comes back as it is. Preparing twice is preparing once, but in a
    few structures a second time adds hydrogens, since bonds of rings have other lengths by then. The cell is
    reduced last, since a guest or a missing hydrogen may be all that tells two halves of a cell apart.

    Args:
        crystal: As it was read; each atom has a place of its own.
        config: Which steps to take.
    """
    crystal = with_geometry(crystal, config.geometry)
    for name, step in steps_of(config).items():
        before, crystal = crystal, step(crystal)
        if name == "add_hydrogens" and crystal is not before and config.geometry == "auto":
            crystal = replace(crystal, experimental=1.0)  # nobody relaxes a structure without its hydrogens
    return crystal


def with_geometry(crystal: Crystal, geometry: Geometry) -> Crystal:
    """The crystal with its class of geometry; the same object where that does not change.

    ``auto`` takes bonds to hydrogen that are too short for DFT as the sign of an experiment. Without such a
    bond the geometry counts as relaxed. A bond that is hardly too short counts in part.
    """
    known = {"relaxed": 0.0, "experimental": 1.0}.get(geometry)
    found = max(crystal.experimental, hydrogen_shortness(crystal)) if known is None else known
    return crystal if found == crystal.experimental else replace(crystal, experimental=found)


def steps_of(config: PreparationConfig) -> dict[str, Step]:
    """The steps that a configuration takes, by the name of its field."""
    steps: dict[str, Step] = {
        "guests": remove_guests,
        "add_hydrogens": add_ring_hydrogens,
        "hydrogen_lengths": stretch_hydrogens,
        "bond_lengths": correct_bond_lengths,
        "primitive_cell": to_primitive,
    }
    return {name: step for name, step in steps.items() if getattr(config, name) not in (False, "keep")}
