"""CIFs read, then prepared."""

from __future__ import annotations

from mofgap.choices import Disorder
from mofgap.crystals.cif import MAX_ATOMS, Entry, ReadFailure
from mofgap.crystals.item import InputItem, read_input
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.crystals.prepare.steps import DEFAULT, prepare
from mofgap.crystals.sites import CifError
from mofgap.crystals.unit_cell import check_size, check_usable

MOST_COPIES = 4
"""Primitive cells in the largest conventional cell, a face-centred one."""


def read_prepared(
    item: InputItem,
    *,
    disorder: Disorder = "refuse",
    max_atoms: int = MAX_ATOMS,
    preparation: PreparationConfig = DEFAULT,
) -> list[Entry]:
    """Read the structures of an input, and prepare each.

    Args:
        item: A CIF.
        disorder: What to do about partial occupancies.
        max_atoms: Largest cell that is accepted, after it was made primitive.
        preparation: Which steps to take.

    Returns:
        A `Crystal`, or a `ReadFailure` with its reason, for each structure.
    """
    most = max_atoms * MOST_COPIES if preparation.primitive_cell else max_atoms
    entries = read_input(item, disorder=disorder, max_atoms=most)
    return [prepared(entry, max_atoms=max_atoms, preparation=preparation) for entry in entries]


def prepared(entry: Entry, *, max_atoms: int, preparation: PreparationConfig = DEFAULT) -> Entry:
    """Prepare what was read; a failure, and a structure that is none, stays or becomes a `ReadFailure`."""
    if isinstance(entry, ReadFailure):
        return entry
    try:
        check_usable(entry)
        crystal = prepare(entry, preparation)
        check_size(crystal.n_atoms, max_atoms)
    except CifError as error:
        return ReadFailure(entry.source, entry.structure_id, str(error))
    return crystal
