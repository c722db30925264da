"""The structures of a table's rows, read again for the 3D view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import gemmi

from mofgap.crystals.cif import ReadFailure
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.inputs import InputItem, expand_inputs, read_input
from mofgap.crystals.write import write_cif
from mofgap.report.screened import symbols_of
from mofgap.screening.row import printable

Key = tuple[str, str]
"""``file`` and ``structure_id`` of a row."""


def cifs_of(wanted: dict[Key, tuple[str, int]], folders: Iterable[Path]) -> dict[Key, str]:
    """The CIFs in P1, as the model read them, of those rows whose files are still there and unchanged.

    Args:
        wanted: Formula and number of atoms of each row; what has others by now is left out.
        folders: Where relative names count from; the first that has the file is taken.
    """
    found: dict[Key, str] = {}
    places = list(folders)
    for file in dict.fromkeys(file for file, _ in wanted):
        n_atoms = max(n for (name, _), (_, n) in wanted.items() if name == file)
        item = next(_locate(file, places), None)
        if item is None:
            continue
        for entry in read_input(item, disorder="majority", max_atoms=n_atoms):
            key = file, printable(entry.structure_id)
            if isinstance(entry, Crystal) and key in wanted and _is_same(entry, *wanted[key]):
                found[key] = write_cif(entry)
    return found


def _is_same(crystal: Crystal, formula: str, n_atoms: int) -> bool:
    symbols = {gemmi.Element(int(number)).name for number in set(crystal.atomic_numbers.tolist())}
    return crystal.n_atoms == n_atoms and symbols == set(symbols_of(formula))


def _locate(file: str, folders: list[Path]) -> Iterator[InputItem]:
    """The input of this name: a plain file, or a member of an archive."""
    for folder in folders:
        path = folder / file
        if path.is_file():
            yield InputItem(file, str(path))
        for place in (i for i, character in enumerate(file) if character == ":"):
            if (archive := folder / file[:place]).is_file():
                for item in expand_inputs([archive]):
                    member = item.source.removeprefix(f"{archive}:")
                    if not isinstance(item, ReadFailure) and printable(member) == file[place + 1 :]:
                        yield item
