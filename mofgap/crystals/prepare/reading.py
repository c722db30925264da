"""Structures that are read or given, then prepared."""

from __future__ import annotations

from dataclasses import replace

from mofgap.choices import Disorder
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import Entry, ReadFailure, unforeseen
from mofgap.crystals.item import InputItem, read_input
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.crystals.prepare.steps import prepare
from mofgap.crystals.reasons import StructureError
from mofgap.crystals.unit_cell import check_apart, check_size, check_usable

MOST_COPIES = 4
"""Primitive cells in the largest conventional cell, a face-centred one."""


def read_prepared(
    item: InputItem,
    *,
    disorder: Disorder,
    max_atoms: int,
    preparation: PreparationConfig | None,
) -> list[Entry]:
    """Read the structures of an input, and prepare each.

    Args:
        item: The input.
        disorder: What to do about partial occupancies.
        max_atoms: Largest cell that is accepted, after it was made primitive.
        preparation: Which steps to take; None leaves the structures as they are.

    Returns:
        A `Crystal`, or a `ReadFailure` with its reason, for each structure.
    """
    largest = largest_read(max_atoms, preparation)
    entries = read_input(item, disorder=disorder, max_atoms=largest)
    return [_prepared(_name_limit(entry, max_atoms, largest), max_atoms, preparation) for entry in entries]


def largest_read(max_atoms: int, preparation: PreparationConfig | None) -> int:
    """Largest cell of a file, in atoms, whose primitive cell may have ``max_atoms``."""
    return max_atoms * MOST_COPIES if preparation is not None and preparation.primitive_cell else max_atoms


def _name_limit(entry: Entry, max_atoms: int, largest: int) -> Entry:
    """The entry; where its cell was too large to be read, the reason names the limit that the user knows.

    Args:
        entry: As it was read.
        max_atoms: Largest cell that is accepted.
        largest: Largest cell that was read, see `largest_read`.
    """
    if not isinstance(entry, ReadFailure) or largest == max_atoms:
        return entry
    words = f"the limit is {max_atoms}, and {largest} where the primitive cell is smaller;"
    return replace(entry, reason=entry.reason.replace(f"the limit is {largest};", words))


def prepare_given(crystal: Crystal, max_atoms: int, preparation: PreparationConfig | None) -> Entry:
    """Check and prepare a structure that was given as an object, see `read_prepared`."""
    try:
        check_usable(crystal)
        check_apart(crystal)
    except StructureError as error:
        return ReadFailure(crystal.source, crystal.structure_id, str(error))
    return _prepared(crystal, max_atoms, preparation)


def _prepared(entry: Entry, max_atoms: int, preparation: PreparationConfig | None) -> Entry:
    if isinstance(entry, ReadFailure):
        return entry
    try:
        check_usable(entry)
        if preparation is not None:
            entry = prepare(entry, preparation)
            check_size(entry.n_atoms, max_atoms, is_primitive=preparation.primitive_cell)
    except StructureError as error:
        return ReadFailure(entry.source, entry.structure_id, str(error))
    except Exception as error:
        return ReadFailure(entry.source, entry.structure_id, unforeseen(error))
    return entry
