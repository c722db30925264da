"""Structures and properties from the files of ASE: databases and (extended) xyz."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mofgap.crystals.ase_files import crystal_of_atoms
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.formats import stem_of
from mofgap.crystals.reasons import StructureError
from mofgap.datasets.label_table import no_column
from mofgap.datasets.record import DatasetError, Record, Records, flattened, identifier

DATABASES = (".db", ".json")
_UNREADABLE = (OSError, sqlite3.Error, ValueError, LookupError, AttributeError, TypeError)


def read_ase(path: Path, max_atoms: int, id_name: str | None = None) -> Records:
    """Stream the structures of an ASE database (``.db``, ``.json``) or of the frames of another file.

    Values are the key-value pairs and data of a database, or the ``info`` of a frame; those of a calculator
    come under their own names, such as ``energy``.

    Args:
        path: The file.
        max_atoms: Largest cell, in atoms, that is accepted.
        id_name: Key of the identifier; the first of `IDENTIFIERS` if None, else the database's unique_id.

    Raises:
        DatasetError: If ASE cannot read the file ``path``, or none of its structures has the key ``id_name``.
    """
    from ase.io.formats import UnknownFileTypeError

    rows = _database_rows(path) if path.suffix.lower() in DATABASES else _frames(path)
    place, names = 0, dict[str, None]()
    try:
        for atoms, values, unique_id in rows:
            place += 1
            names |= dict.fromkeys(values)
            yield _record(atoms, values, unique_id, path, place, max_atoms, id_name)
    except (*_UNREADABLE, UnknownFileTypeError) as error:
        raise DatasetError(
            f"{path}: ASE cannot read structure {place + 1}: {error}; write the file again"
        ) from error
    if id_name is not None and id_name not in names:
        raise DatasetError(f"{path}: {no_column(id_name, names)}")


def _record(
    atoms: Any,
    values: Mapping[str, Any],
    unique_id: str | None,
    path: Path,
    place: int,
    max_atoms: int,
    id_name: str | None,
) -> Record | ReadFailure:
    source, given = f"{path}:{place}", identifier(values, id_name, unique_id)
    name = f"{stem_of(path.name)}-{place}" if given is None else str(given)
    try:
        crystal = crystal_of_atoms(atoms, name, source, max_atoms)
    except StructureError as error:
        return ReadFailure(source, name, str(error))
    return Record(crystal, values, numbered=given is None)


def _database_rows(path: Path) -> Iterator[tuple[Any, dict[str, Any], str | None]]:
    from ase.db import connect

    with connect(path) as database:
        for row in database.select():
            values = flattened(row.data) | flattened(row.key_value_pairs)
            yield row.toatoms(), values, str(row.unique_id)


def _frames(path: Path) -> Iterator[tuple[Any, dict[str, Any], None]]:
    from ase.io import iread

    for atoms in iread(path, index=":"):
        results = atoms.calc.results if atoms.calc is not None else {}
        plain = {
            key: value.item() if hasattr(value, "item") and getattr(value, "size", 0) == 1 else value
            for key, value in {**results, **atoms.info}.items()
        }
        yield atoms, flattened(plain), None
