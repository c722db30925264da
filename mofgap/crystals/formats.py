"""Formats of structure files, and the names that structures have from their files."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal

Kind = Literal["cif", "poscar", "xyz", "json", "db", "traj"]
"""A format: a CIF, VASP's POSCAR, (extended) XYZ, JSON of pymatgen, and ASE's database and trajectory."""

_KINDS: dict[str, Kind] = {
    ".cif": "cif",
    ".vasp": "poscar",
    ".poscar": "poscar",
    ".extxyz": "xyz",
    ".xyz": "xyz",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".db": "db",
    ".traj": "traj",
}
KNOWN = ".cif, POSCAR, CONTCAR, .vasp, .extxyz or .xyz with a cell, .json of pymatgen, .db or .traj of ASE"
"""The formats that a message says can be read; all but the last two may be compressed."""
PACKED = (".gz", ".bz2", ".xz")
"""Endings of compressed files, behind that of the format."""

LONGEST_NAME = 200
"""Characters of the name that a file gives a structure; it becomes a cell of a table."""

STREAMED: tuple[Kind, ...] = ("xyz", "json")
"""Files of one structure or many, which are read from their beginning."""

NUMBERED: tuple[Kind, ...] = ("db", "traj")
"""Files of one structure or many, of which any can be read by its number, where they lie on a disk."""

# VASP writes these names in capitals; programs about them have others.
_VASP = re.compile(r"POSCAR|CONTCAR")
_ARCHIVE = re.compile(r"^.*?\.(zip|tar|t?(gz|xz|bz2)):", re.IGNORECASE | re.DOTALL)
_ENDING = re.compile(rf"({'|'.join(map(re.escape, _KINDS))})(\.(gz|bz2|xz))?$", re.IGNORECASE)


def kind_of(name: str) -> Kind | None:
    """The format that the name of a file says; None where it says none, or is that of a hidden file."""
    base = base_of(name)
    if base.startswith("."):
        return None
    ending = _ENDING.search(base)
    if ending is not None:
        return _KINDS[ending[1].lower()]
    return "poscar" if _VASP.match(base) else None


def base_of(source: str) -> str:
    """The name of a file or archive member without its folders."""
    return _ARCHIVE.sub("", source).replace("\\", "/").rsplit("/", 1)[-1]


def without_ending(name: str) -> str:
    """A name without the ending of its file, which tables write or not."""
    return _ENDING.sub("", name)


def stem_of(source: str) -> str:
    """The name of a structure alone in its file or archive member.

    A file that is named by its program alone, ``mof-5/CONTCAR``, is named by its folder.
    """
    folder, _, name = _ARCHIVE.sub("", source).replace("\\", "/").rstrip("/").rpartition("/")
    stem, ending = _split(name)
    name = stem if ending.lower() in PACKED else name
    if _VASP.fullmatch(name):
        return PurePosixPath(folder).name.strip(".") or name
    return name if _VASP.match(name) and not _ENDING.search(name) else _split(name)[0]


def _split(name: str) -> tuple[str, str]:
    """A name and its ending with the dot, as ``pathlib`` splits them at a tenth of its cost."""
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")
