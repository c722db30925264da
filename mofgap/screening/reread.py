"""The structures of a table, read again."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mofgap.choices import Disorder
from mofgap.crystals.crystal import MEMORY
from mofgap.crystals.entry import Entry
from mofgap.crystals.inputs import STANDARD_INPUT, expand_inputs, is_file, items_of_file
from mofgap.crystals.item import InputItem
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.crystals.prepare.reading import read_prepared
from mofgap.crystals.prepare.steps import DEFAULT_PREPARATION
from mofgap.screening.row import printable

Key = tuple[str, str]
"""``file`` and ``structure_id`` of a row."""

NO_FILE = {
    MEMORY: "it was screened as an object; write it to a file and screen that",
    STANDARD_INPUT: "it came from standard input; save it to a file and screen that",
}
"""Why a structure cannot be read again, by what a table has in place of its file."""


def read_again(
    files: Iterable[str],
    disorder: Disorder,
    folders: Sequence[Path] = (Path(),),
    preparation: PreparationConfig = DEFAULT_PREPARATION,
) -> Iterator[tuple[Key, Entry]]:
    """The structures that the files of a table hold now, prepared, each with the key of its row.

    Files that no longer exist are left out.

    Args:
        files: Files of the column ``file``: plain files come first, then archives, each opened once.
        disorder: What to do about partial occupancies.
        folders: Where relative names count from; the first that has the file is taken.
        preparation: How the table's structures were prepared.
    """
    return entries_of(_locate(files, folders), disorder, preparation)


def entries_of(
    items: Iterable[InputItem], disorder: Disorder, preparation: PreparationConfig
) -> Iterator[tuple[Key, Entry]]:
    """The structures of inputs, prepared, each with the key of its row."""
    for item in items:
        # The rows passed a limit already, which counts atoms that the reader then merges or leaves out.
        for entry in read_prepared(item, disorder=disorder, max_atoms=sys.maxsize, preparation=preparation):
            yield (item.source, printable(entry.structure_id)), entry


def _locate(files: Iterable[str], folders: Sequence[Path]) -> Iterator[InputItem]:
    """The inputs of these names: a file, ``archive.zip:member``, or ``several.xyz:number``."""
    archives: dict[tuple[Path, str], set[str]] = {}
    for file in sorted(set(files)):
        heads = [file, *(file[:place] for place, character in enumerate(file) if character == ":")]
        found = ((folder / head, head) for folder in folders for head in heads if is_file(folder / head))
        path, head = next(found, (None, ""))
        if path is not None and head == file:
            yield from (item for item in items_of_file(path, file) if isinstance(item, InputItem))
        elif path is not None:
            archives.setdefault((path, head), set()).add(file)
    for (path, head), members in archives.items():
        for item in expand_inputs([path]):
            name = printable(head + item.source.removeprefix(str(path)))
            if isinstance(item, InputItem) and name in members:
                yield replace(item, source=name)
