"""Structures and properties from JSON: lists of JARVIS, dataframes of matminer, and the like."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mofgap.crystals.dictionaries import structures_in
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.json_rows import json_rows
from mofgap.crystals.json_stream import JsonError, opened
from mofgap.crystals.reasons import StructureError
from mofgap.datasets.label_table import no_column
from mofgap.datasets.record import DatasetError, Record, Records, flattened, from_dictionary, identifier


def read_json(path: Path, max_atoms: int, id_name: str | None = None) -> Records:
    """Stream the structures of a JSON file, packed or not.

    Its shape is one of those of `json_rows`; a structure is a dictionary of pymatgen or JARVIS.

    Args:
        path: The file.
        max_atoms: Largest cell, in atoms, that is accepted.
        id_name: Name of the identifier; the first of `IDENTIFIERS` if None.

    Raises:
        DatasetError: If the file ``path`` is not JSON, has an unknown layout, or none of its structures has
            the key ``id_name``.
    """
    names: dict[str, None] = {}
    try:
        for place, (name, row) in enumerate(json_rows(partial(opened, path))):
            names |= dict.fromkeys(row if isinstance(row, Mapping) else ())
            yield _record(row, name, place, path, max_atoms, id_name)
    except JsonError as error:
        raise DatasetError(f"{path}: {error}; write the file again") from error
    if id_name is not None and id_name not in names:
        raise DatasetError(f"{path}: {no_column(id_name, names)}")


def _record(
    row: Any, key: str | None, place: int, path: Path, max_atoms: int, id_name: str | None
) -> Record | ReadFailure:
    source = f"{path}:{place + 1}"
    if not isinstance(row, Mapping):
        return ReadFailure(source, "", f"bad-record: expected an object, found {type(row).__name__}")
    given = identifier(row, id_name, key)
    name = f"{path.name.split('.')[0]}-{place + 1}" if given is None else str(given)
    structures = structures_in(row)
    if len(structures) != 1:
        found = ", ".join(structures) if structures else "none"
        return ReadFailure(source, name, f"bad-record: expected one structure, found {found}")
    try:
        made = from_dictionary(row[structures[0]], name, source, max_atoms)
    except StructureError as error:
        return ReadFailure(source, name, str(error))
    return Record(made.crystal, flattened(row), made.atoms, numbered=given is None)
