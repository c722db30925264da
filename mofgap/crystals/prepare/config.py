"""Which steps of preparation are taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Guests = Literal["keep", "remove"]

PREPARATION_NOTES = frozenset({"guests-removed", "hydrogens-added", "hydrogen-lengths", "primitive-cell"})
"""Names of the notes that the steps leave."""


@dataclass(frozen=True)
class PreparationConfig:
    """Switches of the steps, in the order in which they are taken.

    Attributes:
        guests: ``keep`` them, or ``remove`` the neutral molecules that nothing binds to the framework.
        add_hydrogens: Add hydrogens to carbon atoms of aromatic rings that lack one.
        hydrogen_lengths: Stretch bonds to hydrogen that are too short, as X-ray diffraction sees them.
        primitive_cell: Take the smallest cell that repeats, where that is smaller.
    """

    guests: Guests = "keep"
    add_hydrogens: bool = False
    hydrogen_lengths: bool = True
    primitive_cell: bool = True

    def __post_init__(self) -> None:
        if self.guests not in get_args(Guests):
            raise ValueError(f"guests must be one of {', '.join(get_args(Guests))}, not {self.guests!r}")
