"""Structures and properties from JSON: lists of JARVIS, dataframes of matminer, and the like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mofgap.crystals.cif import ReadFailure
from mofgap.crystals.identifier import IDENTIFIERS
from mofgap.crystals.sites import CifError
from mofgap.datasets.json_stream import JsonError, JsonStream, opened
from mofgap.datasets.label_table import no_column
from mofgap.datasets.record import (
    DatasetError,
    Record,
    Records,
    flattened,
    from_dictionary,
    is_structure,
)


def read_json(path: Path, max_atoms: int, id_name: str | None = None) -> Records:
    """Stream the structures of a JSON file, packed or not.

    Three shapes are read: a list of objects (JARVIS), an object with ``columns`` and ``data`` (a dataframe
    in the orientation ``split``, as matminer stores it), and an object of objects by identifier (the
    orientation ``index``). A structure is a dictionary of pymatgen or JARVIS.

    Args:
        path: The file.
        max_atoms: Largest cell, in atoms, that is accepted.
        id_name: Name of the identifier; the first of `IDENTIFIERS` if None.

    Raises:
        DatasetError: The file ``path`` is not JSON, has another shape, or none of its structures has the key
            ``id_name``.
    """
    names: dict[str, None] = {}
    try:
        for place, (name, row) in enumerate(_rows(path)):
            names |= dict.fromkeys(row if isinstance(row, Mapping) else ())
            yield _record(row, name, place, path, max_atoms, id_name)
    except JsonError as error:
        raise DatasetError(f"{path}: {error}") from error
    if id_name is not None and id_name not in names:
        raise DatasetError(f"{path}: {no_column(id_name, names)}")


def _record(
    row: Any, key: str | None, place: int, path: Path, max_atoms: int, id_name: str | None
) -> Record | ReadFailure:
    source = f"{path}:{place + 1}"
    if not isinstance(row, Mapping):
        return ReadFailure(source, "", f"bad-record: expected an object, found {type(row).__name__}")
    if id_name is None:
        id_name = next((name for name in IDENTIFIERS if row.get(name) is not None), None)
    given = row.get(id_name) if id_name is not None else key
    given = key if given is None else given
    name = f"{path.name.split('.')[0]}-{place + 1}" if given is None else str(given)
    structures = [column for column, value in row.items() if is_structure(value)]
    if len(structures) != 1:
        found = ", ".join(structures) if structures else "none"
        return ReadFailure(source, name, f"bad-record: expected one structure, found {found}")
    try:
        made = from_dictionary(row[structures[0]], name, source, max_atoms)
    except CifError as error:
        return ReadFailure(source, name, str(error))
    return Record(made.crystal, flattened(row), made.atoms, numbered=given is None)


def _rows(path: Path) -> Iterator[tuple[str | None, Any]]:
    """Key, if there is one, and object of each row."""
    with opened(path) as file:
        stream = JsonStream(file)
        if stream.peek() == "[":
            yield from ((None, row) for row in stream.items())
            return
        first = next(stream.members(), None) if stream.peek() == "{" else None
    if first is None:
        raise JsonError("expected a list of objects, or an object that holds some")
    if first in ("columns", "index", "data", "index_names", "column_names"):
        yield from _split_rows(path)
        return
    with opened(path) as file:
        stream = JsonStream(file)
        yield from ((key, stream.value()) for key in stream.members())


def _split_rows(path: Path) -> Iterator[tuple[str | None, Any]]:
    """Rows of a dataframe whose names of columns may stand behind its data."""
    columns, index = _header(path)
    with opened(path) as file:
        stream = JsonStream(file)
        for name in stream.members():
            if name != "data":
                stream.value()
                continue
            for place, values in enumerate(stream.items()):
                if not isinstance(values, list) or len(values) != len(columns):
                    raise JsonError(f"row {place + 1} has not {len(columns)} values, one a column")
                key = index[place] if place < len(index) else None
                # Numbers of rows are no identifiers.
                row = dict(zip(columns, values, strict=True))
                yield (key if isinstance(key, str) else None), row


def _header(path: Path) -> tuple[list[str], list[Any]]:
    columns: list[str] | None = None
    index: list[Any] = []
    with opened(path) as file:
        stream = JsonStream(file)
        for name in stream.members():
            if name == "data":
                for _ in stream.items():
                    pass
                continue
            value = stream.value()
            if name == "columns":
                columns = [str(column) for column in value]
            elif name == "index":
                index = list(value)
            if columns is not None and index:
                break
    if columns is None:
        raise JsonError("a dataframe without columns; write it in the orientation split")
    return columns, index
