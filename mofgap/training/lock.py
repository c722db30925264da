"""The lock of a training folder: what it was begun with, so that it is not taken up as another training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mofgap.configuration import digest
from mofgap.crystals.dataset import table_crystals
from mofgap.training.loop import LAST, TrainingError
from mofgap.whole_file import write_json

KEY, DIGEST = "key.json", "digest"


def lock(folder: Path, made_of: Mapping[str, str], *, resume: bool) -> None:
    """Record what a training is made of, or compare a resumed training with its record.

    What a version did not keep is not checked in its folders.

    Args:
        folder: Of the training.
        made_of: What its weights depend on, or digests of it, by name.
        resume: It is taken up again.

    Raises:
        TrainingError: The training in ``folder`` was begun with other values than those in ``made_of``, or
            its record is damaged.
    """
    path = folder / KEY
    if resume and path.exists():
        known = _read(path)
        other = [name for name, value in made_of.items() if known.get(name, value) != value]
        if other:
            raise TrainingError(
                f"{folder} holds a training with other {', '.join(other)}: resume it with those that it was "
                "begun with, or choose another folder"
            )
    elif not (folder / LAST).exists():
        write_json(path, dict(made_of) | {DIGEST: digest(made_of)})


def _read(path: Path) -> dict[str, str]:
    """What a training was begun with; records of older versions have no digest.

    Raises:
        TrainingError: The file ``path`` is damaged.
    """
    try:
        known = dict(json.loads(path.read_text(encoding="utf-8")))
        intact = known.pop(DIGEST, None) in (None, digest(known))
    except (RecursionError, TypeError, ValueError):
        intact = False
    if not intact:
        raise TrainingError(f"{path} is damaged: delete {path.parent} to start the training again")
    return known


def structures_digest(frame: pd.DataFrame) -> str:
    """sha256 of the names and atoms of a table, in order."""
    found = hashlib.sha256()
    for crystal in table_crystals(frame):
        found.update(f"{crystal.structure_id} {len(crystal.atomic_numbers)}\n".encode())
        for values in (crystal.cell, crystal.frac_coords, crystal.atomic_numbers):
            found.update(values.tobytes())
    return found.hexdigest()
