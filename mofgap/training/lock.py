"""The lock of a training folder: one process at a time, and only the training that it was begun with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pandas as pd
from lightning.fabric.utilities.rank_zero import rank_zero_only

from mofgap.checked_json import read_checked, write_checked
from mofgap.configuration import digest
from mofgap.crystals.dataset import table_crystals
from mofgap.shipped import LAST
from mofgap.training.loop import TrainingError
from mofgap.version import installed_version

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

KEY = "key.json"
WORK = "training"
"""Folder of the training inside its model folder."""
MOFGAP = "mofgap"
"""The name of the version in a key; it alone may differ."""
_HELD: dict[Path, BinaryIO] = {}
"""Files by which this process keeps others off its folders, until it ends."""


def lock(folder: Path, made_of: Mapping[str, str], *, resume: bool) -> None:
    """Record what a training is made of, or compare a resumed training with its record.

    Until this process ends, no other one may train in the folder.

    What a version did not keep is not checked in its folders. Another version is no reason to refuse, but is
    named where a value differs: settings that it added or renamed change their digest.

    Args:
        folder: Folder of the training.
        made_of: What its weights depend on, or digests of it, by name.
        resume: Whether the training is resumed.

    Raises:
        TrainingError: If the training in ``folder`` began with other values than those in ``made_of``, its
            record is damaged, or another process trains there.
    """
    _hold(folder)
    path = folder / KEY
    if resume and path.exists():
        known = _read(path)
        other = [name for name, value in made_of.items() if known.get(name, value) != value]
        if other:
            raise TrainingError(
                f"{folder} holds a training with other {', '.join(other)}: {_cure(known.get(MOFGAP))}, or "
                "choose another folder"
            )
    elif not any(folder.rglob(LAST)):  # also of a fold
        record = {MOFGAP: installed_version(), **made_of}
        write_checked(path, record)


def _hold(folder: Path) -> None:
    """Keep other processes off a folder; those that share a training with this one do not ask.

    Raises:
        TrainingError: If another process trains in ``folder``.
    """
    if fcntl is None or rank_zero_only.rank:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / ".lock"
    file = path.open("ab")
    for gone in [known for known in _HELD if not known.exists()]:  # as of a temporary folder
        _HELD.pop(gone).close()
    held = _HELD.get(path)
    if held is not None and os.path.samestat(os.fstat(held.fileno()), os.fstat(file.fileno())):
        file.close()
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        words = "is being trained by another process: wait for it, or choose another folder"
        raise TrainingError(f"{folder} {words}") from error
    except OSError:
        pass  # some network file systems know no locks
    _HELD[path] = file


def _read(path: Path) -> dict[str, str]:
    """The values that a training was started with; records of older versions have no digest.

    Raises:
        TrainingError: If the file ``path`` is damaged.
    """
    with suppress(ValueError):
        known, own, fitting = read_checked(path)
        if own in (None, fitting):
            return known
    raise TrainingError(f"{path} is damaged: delete {path.parent} to start the training again")


def _cure(version: str | None) -> str:
    """What to do about a training that this version, another one, or an unknown one (None) started."""
    if version == installed_version():
        return "resume it with those that it was begun with"
    begun_by, this = f"mofgap {version or 'of an older version'}", f"mofgap {installed_version()}"
    return f"the likely cause is that {begun_by} began it and this is {this}, so resume it with that version"


def table_digests(frame: pd.DataFrame) -> dict[str, str]:
    """Digests of the structures of a table, and of how they are dealt to splits."""
    return {"structures": _structures_digest(frame), "splits": digest(frame.split.tolist())}


def _structures_digest(frame: pd.DataFrame) -> str:
    """sha256 of the names and atoms of a table, in order."""
    found = hashlib.sha256()
    for crystal in table_crystals(frame):
        found.update(f"{crystal.structure_id} {len(crystal.atomic_numbers)}\n".encode())
        found.update(crystal.content)
    return found.hexdigest()
