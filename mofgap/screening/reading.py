"""From an input to checked crystals, or the reason why there are none."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from mofgap.crystals.checks import check_crystal
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import Entry, ReadFailure, unforeseen
from mofgap.crystals.item import InputItem
from mofgap.crystals.prepare.reading import prepare_given, read_prepared
from mofgap.crystals.reasons import StructureError
from mofgap.screening.config import ScreeningConfig

Source = InputItem | ReadFailure | Crystal
"""What is screened: an input to be read, a name without a file, or a structure in memory."""

PROCESS_DIED = (
    "process-died: the process that read or computed it was ended, perhaps for want of memory; "
    "screen it alone with more memory, or leave it out"
)


@dataclass(frozen=True, eq=False)
class Reading:
    """What an input holds.

    Attributes:
        source: Its name.
        sha256: sha256 of its bytes; empty where there are none.
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


def read(source: Source, expected_sha256: str, config: ScreeningConfig) -> Reading:
    """Read, prepare and check an input, unless its bytes have the expected hash.

    Args:
        source: The input.
        expected_sha256: sha256 of the bytes that need not be read again; empty for none.
        config: How to read and prepare it.
    """
    if isinstance(source, ReadFailure):
        return Reading(source.source, entries=(source,))
    if isinstance(source, Crystal):
        return Reading(source.source, entries=(_checked(prepare_given(source, config.max_atoms, config)),))
    digest = ""
    try:
        source = replace(source, data=source.read())
        digest = hashlib.sha256(source.data or b"").hexdigest()
    except StructureError:
        pass  # read_input raises the same error, and names the reason
    if digest and digest == expected_sha256:
        return Reading(source.source, digest, unchanged=True)
    entries = read_prepared(source, disorder=config.disorder, max_atoms=config.max_atoms, preparation=config)
    return Reading(source.source, digest, tuple(map(_checked, entries)))


def _checked(entry: Entry) -> Entry:
    """The entry, a crystal with the warnings of `check_crystal`."""
    if isinstance(entry, ReadFailure):
        return entry
    try:
        return replace(entry, warnings=entry.warnings + check_crystal(entry))
    except Exception as error:
        return ReadFailure(entry.source, entry.structure_id, unforeseen(error))
