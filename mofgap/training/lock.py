"""The lock of a training folder: the values that it began with, so that no other training continues there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mofgap.configuration import digest
from mofgap.crystals.dataset import table_crystals
from mofgap.shipped import LAST
from mofgap.training.loop import TrainingError
from mofgap.version import installed_version
from mofgap.whole_file import write_json

KEY, DIGEST = "key.json", "digest"
WORK = "training"
"""Folder of the training inside its model folder."""
MOFGAP = "mofgap"
"""The name of the version in a key; it alone may differ."""


def lock(folder: Path, made_of: Mapping[str, str], *, resume: bool) -> None:
    """Record what a training is made of, or compare a resumed training with its record.

    What a version did not keep is not checked in its folders. Another version is no reason to refuse, but is
    named where a value differs: settings that it added or renamed change their digest.

    Args:
        folder: Folder of the training.
        made_of: What its weights depend on, or digests of it, by name.
        resume: Whether the training is resumed.

    Raises:
        TrainingError: If the training in ``folder`` began with other values than those in ``made_of``, or its
            record is damaged.
    """
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
        write_json(path, record | {DIGEST: digest(record)})


def _read(path: Path) -> dict[str, str]:
    """The values that a training was started with; records of older versions have no digest.

    Raises:
        TrainingError: If the file ``path`` is damaged.
    """
    try:
        known = dict(json.loads(path.read_text(encoding="utf-8")))
        intact = known.pop(DIGEST, None) in (None, digest(known))
    except (RecursionError, TypeError, ValueError):
        intact = False
    if not intact:
        raise TrainingError(f"{path} is damaged: delete {path.parent} to start the training again")
    return known


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
