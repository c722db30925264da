"""Which steps of preparation are taken. ``--help`` imports this module, so it imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mofgap.configuration import schema

Guests = Literal["keep", "remove"]
Geometry = Literal["auto", "relaxed", "experimental"]

PREPARATION_NOTES = frozenset(
    {"guests-removed", "hydrogens-added", "hydrogen-lengths", "bond-lengths", "primitive-cell"}
)
"""Names of the notes that the steps leave."""


@schema
class PreparationConfig:
    """What is known of the geometry, and switches of the steps, in the order in which they are taken."""

    geometry: Geometry = Field(
        "auto",
        description="Where the geometry comes from: relaxed by DFT, or experimental. Bonds inside ligands "
        "are corrected only in experimental structures, and a model may widen their error bars. auto: "
        "experimental if a bond to hydrogen is too short for DFT.",
    )

    guests: Guests = Field(
        "keep", description="Neutral molecules that nothing binds to the framework: keep or remove them."
    )
    add_hydrogens: bool = Field(
        False, description="Add hydrogens to carbon atoms of aromatic rings that lack one."
    )
    hydrogen_lengths: bool = Field(
        True, description="Stretch bonds to hydrogen that are too short, as X-ray diffraction sees them."
    )
    bond_lengths: bool = Field(
        True,
        description="Bring bonds inside ligands to the lengths of DFT, only in experimental structures.",
    )
    primitive_cell: bool = Field(
        True,
        description="Take the smallest cell that repeats, where that of the file is larger.",
    )
