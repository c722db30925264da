"""Formats of structures: which one a path has, and its reader."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from mofgap.choices import Disorder
from mofgap.crystals.archives import TARS
from mofgap.crystals.formats import kind_of
from mofgap.crystals.json_stream import JsonError, JsonStream, opened
from mofgap.datasets import qmof
from mofgap.datasets.ase_records import read_ase
from mofgap.datasets.cif_records import read_cifs
from mofgap.datasets.json_records import read_json
from mofgap.datasets.record import DatasetError, Records

Format = Literal["cifs", "qmof", "json", "ase"]
"""A format that `read_structures` reads."""


def format_of(path: Path) -> Format:
    """The format of a file or folder, from its name and a look inside.

    Raises:
        DatasetError: If the name of ``path`` has no known ending, or ``path`` is a zip archive that is
            damaged or cannot be unpacked.
    """
    name, kind = path.name.lower(), kind_of(path.name)
    if path.is_dir() or (name.endswith(".zip") and not name.endswith(".json.zip")):
        if qmof.is_qmof(path):
            return "qmof"
        return "json" if not path.is_dir() and _holds_only_json(path) else "cifs"
    if kind == "cif" or name.endswith(TARS):
        return "cifs"
    if kind in ("xyz", "db", "traj"):
        return "ase"
    if kind == "json" or name.endswith(".json.zip"):
        return "ase" if name.endswith(".json") and _is_ase_database(path) else "json"
    known = "a folder, .zip, .tar, .cif, .json, .jsonl, .extxyz or .xyz with a cell, .db or .traj of ASE"
    raise DatasetError(f"{path}: unknown kind of file; structures come as {known}")


def read_structures(
    path: Path, kind: Format, max_atoms: int, id_name: str | None = None, disorder: Disorder = "refuse"
) -> Records:
    """Stream the structures of a source; whatever fails comes as a `ReadFailure`.

    Args:
        path: A file or folder.
        kind: Its format.
        max_atoms: Largest cell, in atoms, that is accepted.
        id_name: Name of the identifier in JSON and ASE files.
        disorder: What to do about partial occupancies in CIFs.

    Raises:
        DatasetError: If ``path`` as a whole cannot be read.
    """
    if kind == "cifs":
        return read_cifs(path, max_atoms, disorder)
    if kind == "qmof":
        return qmof.read_structures(path, max_atoms)
    if kind == "json":
        return read_json(path, max_atoms, id_name)
    return read_ase(path, max_atoms, id_name)


def _holds_only_json(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            kinds = {name: kind_of(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError):  # it is told where the archive is read
        return False
    plain = any(kind == "json" and name.lower().endswith(".json") for name, kind in kinds.items())
    return plain and "cif" not in kinds.values()


def _is_ase_database(path: Path) -> bool:
    """Whether a JSON file is an ASE database: rows by running number, elements as ``numbers``."""
    try:
        with opened(path) as file:
            stream = JsonStream(file)
            if stream.peek() != "{":
                return False
            key = next(stream.members(), "")
            if key in ("ids", "nextid"):
                return True
            row = stream.value() if key.isdigit() else None
            return isinstance(row, dict) and "numbers" in row and "unique_id" in row
    except (JsonError, OSError):
        return False
