"""From an input to checked crystals, or the reason why there are none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from mofgap.choices import Disorder
from mofgap.crystals.checks import check_crystal
from mofgap.crystals.cif import Entry, ReadFailure
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.inputs import InputItem, read_input
from mofgap.crystals.sites import CifError
from mofgap.crystals.unit_cell import check_apart, check_size, check_usable

Source = InputItem | ReadFailure | Crystal
"""What is screened: a CIF still to be read, a name that leads nowhere, or a structure at hand."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What an input holds.

    Attributes:
        source: Its name.
        sha256: Of its bytes; empty where there are none.
        entries: A `Crystal` with all its warnings, or a `ReadFailure`, for each structure.
        unchanged: The bytes are those that were expected, and nothing was read.
    """

    source: str
    sha256: str = ""
    entries: tuple[Entry, ...] = ()
    unchanged: bool = False

    @property
    def n_atoms(self) -> int:
        """Atoms of all its structures."""
        return sum(entry.n_atoms for entry in self.entries if isinstance(entry, Crystal))


def read(source: Source, expected_sha256: str, *, disorder: Disorder, max_atoms: int) -> Reading:
    """Read and check an input, unless its bytes have the expected hash.

    Args:
        source: The input.
        expected_sha256: Of the bytes that need not be read again; empty for none.
        disorder: What to do about partial occupancies.
        max_atoms: Largest cell that is accepted.
    """
    if isinstance(source, ReadFailure):
        return Reading(source.source, entries=(source,))
    if isinstance(source, Crystal):
        return Reading(source.source, entries=(_checked(source, max_atoms, check_apart),))
    digest = ""
    try:
        source = replace(source, data=source.read())
        digest = hashlib.sha256(source.data or b"").hexdigest()
    except CifError:
        pass  # read_input meets the same trouble and names it
    if digest and digest == expected_sha256:
        return Reading(source.source, digest, unchanged=True)
    entries = read_input(source, disorder=disorder, max_atoms=max_atoms)
    return Reading(source.source, digest, tuple(_checked(entry, max_atoms) for entry in entries))


def _checked(entry: Entry, max_atoms: int, *more: Callable[[Crystal], None]) -> Entry:
    if isinstance(entry, ReadFailure):
        return entry
    try:
        check_size(entry.n_atoms, max_atoms)
        for check in (check_usable, *more):
            check(entry)
    except CifError as error:
        return ReadFailure(entry.source, entry.structure_id, str(error))
    return replace(entry, warnings=entry.warnings + check_crystal(entry))
