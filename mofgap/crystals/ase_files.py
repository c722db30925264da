"""Structures from the files that ASE reads: POSCAR, XYZ, databases and trajectories.

Nothing here unpickles: databases are SQLite with JSON, trajectories JSON with plain arrays.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import IO, Any

import gemmi
import numpy as np

from mofgap.crystals.convert import crystal_from
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dictionaries import identifier_in, made
from mofgap.crystals.formats import LONGEST_NAME, Kind
from mofgap.crystals.sites import CifError
from mofgap.crystals.unit_cell import check_size

# Of a property of atoms in an XYZ file, more than any program writes.
_MOST_COLUMNS = 200
_LONGEST_LINE = 2**20
_LATTICE = re.compile(r"\blattice\s*=", re.IGNORECASE)
_THREE_NUMBERS = re.compile(r"\s*(?:[-+]?\.?\d\S*(?:\s+|$)){3}")
"""How a line of a POSCAR with the place of an atom begins."""
_MOST_BYTES = 2**24
"""Of the arrays of one structure; a thousand atoms have 0.03 MB."""

_ARRAYS = ("cell", "pbc", "numbers", "positions")


def read_poscar(text: str, name: str, source: str, max_atoms: int) -> Crystal:
    """The structure of a POSCAR or CONTCAR.

    Raises:
        CifError: The text ``text`` is no POSCAR, names no elements, or has too many atoms.
    """
    lines = text.splitlines()
    if len(lines) < 8:
        raise CifError("bad-poscar: it ends before its atoms; write it again")
    symbols = [re.split(r"[_/.]", word)[0] for word in lines[5].split()]
    is_vasp4 = bool(symbols) and all(word.isdecimal() for word in symbols)
    counts = lines[5 if is_vasp4 else 6].split()
    if is_vasp4:  # the comment may name the elements
        symbols = lines[0].split()
    known = all(int(gemmi.Element(each).atomic_number) for each in symbols)
    if not known or not symbols or not all(word.isdecimal() for word in counts[: len(symbols)]):
        raise CifError("bad-poscar: no line of element symbols above their numbers; add it as line 6")
    counts = counts[: len(symbols)]
    n_atoms = sum(int(word[:9]) for word in counts)
    check_size(n_atoms, max_atoms)
    mode = 6 if is_vasp4 else 7
    mode += lines[mode].lstrip()[:1] in ("s", "S")  # selective dynamics
    is_followed = any(map(_THREE_NUMBERS.match, lines[mode + n_atoms + 1 : mode + n_atoms + 2]))
    if len(symbols) != len(counts) or n_atoms > len(lines) or is_followed:
        raise CifError("bad-poscar: its numbers of atoms do not fit its lines; write it again")
    if not is_vasp4:
        lines[5] = " ".join(symbols)
    return _read("\n".join(lines) + "\n", "vasp", "bad-poscar", name, source, max_atoms)[0]


def read_xyz(text: str, name: str, source: str, max_atoms: int, *, named: bool) -> Crystal:
    """The structure of one frame of an (extended) XYZ file.

    Args:
        text: The frame.
        name: Its name.
        source: Its file, and the place in it.
        max_atoms: Largest cell, in atoms, that is accepted.
        named: Whether an identifier among its properties replaces the name.

    Raises:
        CifError: The text ``text`` is no frame, has no cell, or too many atoms.
    """
    head = text.split("\n", 2)
    check_size(int(head[0]), max_atoms)
    if not _LATTICE.search(head[1]):
        raise CifError("no-cell: no Lattice in the second line; write extended XYZ of the crystal")
    if len(head[1]) > _LONGEST_LINE:
        raise CifError("bad-xyz: its second line has more than 1 MB; leave out what is not the cell")
    if any(int(word) > _MOST_COLUMNS for word in re.findall(r":(\d{1,18})\b", head[1])):
        raise CifError(f"bad-xyz: more than {_MOST_COLUMNS} columns of one property; leave it out")
    crystal, info = _read(text, "extxyz", "bad-xyz", name, source, max_atoms)
    given = identifier_in(info) if named else None
    return crystal if given is None else replace(crystal, structure_id=str(info[given])[:LONGEST_NAME])


def _read(
    text: str, form: str, code: str, name: str, source: str, max_atoms: int
) -> tuple[Crystal, dict[str, Any]]:
    """The structure that ASE reads, and what it says of it."""
    from ase.io import read

    try:
        atoms = read(StringIO(text), format=form)
    except Exception as error:  # ASE's readers raise whatever a damaged file leads to
        raise CifError(f"{code}: ASE cannot read it ({error}); write it again") from error
    try:
        found = crystal_from(atoms, name)
    except ValueError as error:
        raise CifError(str(error)) from error
    crystal = made(found.cell, found.frac_coords, found.atomic_numbers, name, source, max_atoms)
    return crystal, atoms.info


def frames(file: IO[bytes], most_bytes: int) -> Iterator[bytes]:
    """The frames of an XYZ file, one at a time.

    Raises:
        CifError: A frame does not begin with its number of atoms, ends early, or has more than
            ``most_bytes``.
    """
    for place in range(1, 2**63):
        line = file.readline(_LONGEST_LINE)
        while line and not line.strip():
            line = file.readline(_LONGEST_LINE)
        if not line:
            return
        if not line.strip().isdigit():
            raise CifError(
                f"bad-xyz: structure {place} does not begin with its number of atoms; write it again"
            )
        n_lines, size, lines = int(line.strip()[:18]) + 1, len(line), [line]
        while n_lines and size <= most_bytes and (line := file.readline(_LONGEST_LINE)):
            lines.append(line)
            size += len(line)
            n_lines -= line.endswith(b"\n")
        if size > most_bytes:
            raise CifError(
                f"too-large: structure {place} has more than {most_bytes // 2**20} MB; leave it out"
            )
        is_cut = len(lines) == 1 or lines[-1].endswith(b"\n")
        if n_lines > 1 or (n_lines == 1 and is_cut):
            raise CifError(f"bad-xyz: structure {place} ends before its last atom; write it again")
        yield b"".join(lines)


def numbers_of(path: str, kind: Kind) -> list[int] | range:
    """What the structures of a database (their ids) or trajectory (0, 1, ...) are numbered by.

    Raises:
        CifError: The file ``path`` is no database, or no trajectory, of ASE.
    """
    try:
        return (
            _database_ids(path) if kind == "db" else range(len(_trajectory(path, os.getpid(), _state(path))))
        )
    except CifError:
        raise
    except Exception as error:
        raise CifError(_damaged(kind, error)) from error


def record_of(path: str, kind: Kind, number: int) -> bytes:
    """A structure of a database or trajectory as JSON, which `crystal_of_dictionary` reads.

    Raises:
        CifError: The structure ``number`` cannot be read.
    """
    try:
        found = (_row if kind == "db" else _frame)(path, number)
    except CifError:
        raise
    except Exception as error:
        raise CifError(_damaged(kind, error)) from error
    arrays = {name: np.asarray(found[name]).tolist() for name in _ARRAYS}
    return json.dumps({"structure_id": found.get("structure_id")} | arrays).encode()


def _damaged(kind: Kind, error: Exception) -> str:
    what = "database" if kind == "db" else "trajectory"
    return f"bad-{what}: ASE cannot read it ({error}); write it again as a {what} of ASE"


def _state(path: str) -> tuple[int, int, int]:
    """What tells whether a file is still the one that was opened."""
    now = Path(path).stat()
    return now.st_ino, now.st_size, now.st_mtime_ns


def _frame(path: str, number: int) -> dict[str, Any]:
    trajectory = _trajectory(path, os.getpid(), _state(path))
    first, frame = trajectory[0], trajectory[number]
    for name, reader in (("positions", frame), ("numbers", first)):
        if reader.proxy(name).nbytes > _MOST_BYTES:
            raise CifError(f"too-large: the {name} have more than {_MOST_BYTES // 2**20} MB")
    # What does not change is written with the first frame only.
    return {name: (frame if name in frame else first).get(name) for name in _ARRAYS}


@lru_cache(maxsize=4)
def _trajectory(path: str, pid: int, state: tuple[int, int, int]) -> Any:
    """A trajectory kept open while it stays as it is; a forked process has another pid, and opens its own."""
    from ase.io import ulm

    found = ulm.open(path, "r")
    if found.get_tag() != "ASE-Trajectory":
        raise CifError("bad-trajectory: it is of another program than ASE; write it again by ase.io.write")
    return found


def _read_only(path: str) -> sqlite3.Connection:
    found = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)
    found.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
    return found


def _database_ids(path: str) -> list[int]:
    """The ids of a database, after a look whether it is one: ASE would write into another."""
    with closing(_read_only(path)) as database:
        kinds = database.execute("SELECT type, sql FROM sqlite_master WHERE name = 'systems'").fetchall()
        is_table = [kind for kind, _ in kinds] == ["table"]
        # A view, or a column that is computed, could take any time.
        if not is_table or re.search(r"\bgenerated\b|\bas\s*\(", kinds[0][1], re.IGNORECASE):
            raise CifError("bad-database: it has no table of ASE's systems; write it again by ase.db")
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
