"""What an input gives: a structure, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.reasons import one_line


@dataclass(frozen=True)
class ReadFailure:
    """An input that gave no structure.

    Attributes:
        source: The file, or archive member.
        structure_id: The data block, or the file's stem.
        reason: ``name: what is wrong and what to do``, on one short line.
    """

    source: str
    structure_id: str
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", one_line(self.reason))


Entry = Crystal | ReadFailure


def unforeseen(error: Exception) -> str:
    """The reason of an exception that is a fault of the reader, or a lack of memory."""
    what = f"{type(error).__name__}: {error}".removesuffix(": ")
    return f"unreadable: {what}; leave out the structure, or report it"
