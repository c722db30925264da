"""Structures read with ASE: from the text of a file, and from databases and trajectories.

Nothing here unpickles: databases are SQLite with JSON, trajectories JSON with plain arrays.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
from contextlib import closing
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mofgap.crystals.convert import check_full, crystal_from
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dictionaries import identifier_in, made
from mofgap.crystals.formats import Kind
from mofgap.crystals.reasons import StructureError

if TYPE_CHECKING:
    from ase import Atoms

_MOST_BYTES = 2**24
"""Of the arrays of one structure; a thousand atoms have 0.03 MB."""

_ARRAYS = ("cell", "pbc", "numbers", "positions")


def atoms_of(text: str, form: str, code: str) -> Atoms:
    """The structure that ASE reads from the text of a file.

    Args:
        text: The content of the file.
        form: ASE's name of its format.
        code: Name of the reason where it cannot be read.

    Raises:
        StructureError: If ``text`` does not have the format ``form``.
    """
    from ase.io import read

    try:
        found: Atoms = read(StringIO(text), format=form)
    except Exception as error:  # ASE's readers raise whatever a damaged file leads to
        raise StructureError(f"{code}: ASE cannot read it ({error}); write it again") from error
    return found


def crystal_of_atoms(atoms: Atoms, name: str, source: str, max_atoms: int) -> Crystal:
    """The crystal of atoms that ASE read.

    Raises:
        StructureError: If ``atoms`` have no cell, make no possible crystal, or are more than ``max_atoms``.
    """
    try:
        found = crystal_from(atoms)
    except ValueError as error:
        raise StructureError(str(error)) from error
    return made(found.cell, found.frac_coords, found.atomic_numbers, name, source, max_atoms)


def numbers_of(path: str, kind: Kind) -> list[int] | range:
    """What the structures of a database (their ids) or trajectory (0, 1, ...) are numbered by.

    Raises:
        StructureError: If the file ``path`` is neither a database nor a trajectory of ASE.
    """
    try:
        return _database_ids(path) if kind == "db" else range(len(_opened_trajectory(path)))
    except StructureError:
        raise
    except Exception as error:
        raise StructureError(_damaged(kind, error)) from error


def record_of(path: str, kind: Kind, number: int) -> bytes:
    """A structure of a database or trajectory as JSON, which `crystal_of_dictionary` reads.

    Raises:
        StructureError: If the structure ``number`` cannot be read.
    """
    try:
        found = (_row if kind == "db" else _frame)(path, number)
    except StructureError:
        raise
    except Exception as error:
        raise StructureError(_damaged(kind, error)) from error
    arrays = {name: np.asarray(found[name]).tolist() for name in _ARRAYS}
    return json.dumps({"structure_id": found.get("structure_id")} | arrays).encode()


def _damaged(kind: Kind, error: Exception) -> str:
    what = "database" if kind == "db" else "trajectory"
    return f"bad-{what}: ASE cannot read it ({error}); write it again as a {what} of ASE"


def _state(path: str) -> tuple[int, int, int]:
    """Values that change if a file is replaced or written: its inode, size and time."""
    now = Path(path).stat()
    return now.st_ino, now.st_size, now.st_mtime_ns


def _frame(path: str, number: int) -> dict[str, Any]:
    trajectory = _opened_trajectory(path)
    first, frame = trajectory[0], trajectory[number]
    for name, reader in (("positions", frame), ("numbers", first)):
        if reader.proxy(name).nbytes > _MOST_BYTES:
            raise StructureError(f"too-large: the {name} have more than {_MOST_BYTES // 2**20} MB")
    check_full((frame.get("info") or {}).get("occupancy"))
    # What does not change is written with the first frame only.
    return {name: (frame if name in frame else first).get(name) for name in _ARRAYS}


def _opened_trajectory(path: str) -> Any:
    return _trajectory(path, os.getpid(), threading.get_ident(), _state(path))


@lru_cache(maxsize=4)
def _trajectory(path: str, pid: int, thread: int, state: tuple[int, int, int]) -> Any:
    """A trajectory kept open while it stays as it is; each thread, and each forked process, opens its own."""
    from ase.io import ulm

    found = ulm.open(path, "r")
    if found.get_tag() != "ASE-Trajectory":
        raise StructureError(
            "bad-trajectory: it is of another program than ASE; write it again by ase.io.write"
        )
    return found


def _read_only(path: str) -> sqlite3.Connection:
    found = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)
    found.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
    return found


def _database_ids(path: str) -> list[int]:
    """The ids of a database. A file that is none is refused, since ASE would write into it."""
    with closing(_read_only(path)) as database:
        kinds = database.execute("SELECT type, sql FROM sqlite_master WHERE name = 'systems'").fetchall()
        is_table = [kind for kind, _ in kinds] == ["table"]
        # A view, or a column that is computed, could take any time.
        if not is_table or re.search(r"\bgenerated\b|\bas\s*\(", kinds[0][1], re.IGNORECASE):
            raise StructureError("bad-database: it has no table of ASE's systems; write it again by ase.db")
        return [number for (number,) in database.execute("SELECT id FROM systems ORDER BY id")]


def _row(path: str, number: int) -> dict[str, Any]:
    row = _database(path, os.getpid(), threading.get_ident(), _state(path)).get(id=number)
    name = identifier_in(row.key_value_pairs)
    named = {} if name is None else {"structure_id": str(row.key_value_pairs[name])}
    return named | {key: getattr(row, key) for key in _ARRAYS}


@lru_cache(maxsize=4)
def _database(path: str, pid: int, thread: int, state: tuple[int, int, int]) -> Any:
    """A database kept open as `_trajectory` is, read by ASE through a connection that refuses long values."""
    from ase.db import connect

    database = connect(Path(path), type="db", use_lock_file=False)
    database.connection, database.change_count = _read_only(path), 0
    return database
