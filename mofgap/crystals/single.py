"""One crystal: of a structure object, or of a file that holds one."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from mofgap.choices import MAX_ATOMS, Disorder, check_choice
from mofgap.crystals.convert import crystal_from
from mofgap.crystals.crystal import MEMORY, Crystal
from mofgap.crystals.entry import Entry, ReadFailure
from mofgap.crystals.inputs import items_of_file
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.crystals.prepare.reading import prepare_given, read_prepared


class NoSuchFile(FileNotFoundError, ValueError):  # noqa: N818
    """The path of a structure that leads to no file; a `ValueError` as whatever else is wrong with one."""


def crystal_of(
    item: Any,
    *,
    name: str = "",
    disorder: Disorder = "refuse",
    max_atoms: int = MAX_ATOMS,
    preparation: PreparationConfig | None = None,
) -> Crystal:
    """One crystal from a structure object or the path of a file.

    Args:
        item: A pymatgen ``Structure``, ASE ``Atoms``, `Crystal` or path.
        name: Of a structure object that has none; errors name it.
        disorder: What to do about partial occupancies in a file.
        max_atoms: Largest cell that is accepted, after it was prepared; without preparation, of a file.
        preparation: Which steps to take; None leaves the structure as it is.

    Raises:
        NoSuchFile: If ``item`` is a path that leads to no file.
        ValueError: If the file ``item`` cannot be read or holds several structures, the structure is refused,
            or ``disorder`` is unknown.
        TypeError: If ``item`` is neither a path nor a structure.
    """
    check_choice("disorder", disorder, get_args(Disorder))
    if isinstance(item, str | Path):
        return _alone_in(item, disorder, max_atoms, preparation)
    name = getattr(item, "structure_id", "") or name
    try:
        found = prepare_given(replace(crystal_from(item), structure_id=name), max_atoms, preparation)
    except ValueError as error:
        found = ReadFailure(MEMORY, name, str(error))
    if isinstance(found, ReadFailure):
        raise ValueError(f"{name}: {found.reason}" if name else found.reason)
    return found


def _alone_in(
    path: str | Path, disorder: Disorder, max_atoms: int, preparation: PreparationConfig | None
) -> Crystal:
    """The crystal of a file that holds one."""
    if "\n" in str(path):
        raise ValueError("expected the path of a file, not its text")
    # A Path would raise where a name is too long, which the reading tells better.
    is_pattern = any(mark in str(path) for mark in "*?[") and not os.path.exists(path)  # noqa: PTH110
    if is_pattern or os.path.isdir(path):  # noqa: PTH112
        raise ValueError(f"{path}: expected the path of one file; mofgap.screen takes folders and patterns")
    try:
        os.stat(path)  # noqa: PTH116
    except FileNotFoundError as error:
        raise NoSuchFile(f"{path}: no such file; check the path") from error
    except (OSError, ValueError):  # the reading tells it better
        pass
    entries: list[Entry] = []
    for each in islice(items_of_file(path), 2):
        if isinstance(each, ReadFailure):
            entries.append(each)
        else:
            entries += read_prepared(each, disorder=disorder, max_atoms=max_atoms, preparation=preparation)
    for entry in entries:
        if isinstance(entry, ReadFailure):
            raise ValueError(f"{entry.source}: {entry.reason}")
    if len(entries) != 1:
        raise ValueError(f"{path} holds several structures; give a file of one (mofgap screen takes several)")
    (crystal,) = entries
    assert isinstance(crystal, Crystal)
    return crystal
