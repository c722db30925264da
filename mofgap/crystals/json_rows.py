"""The rows of a JSON file: a list of JARVIS, a dataframe of matminer, a structure of pymatgen, and others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import chain
from typing import IO, Any

from mofgap.crystals.dictionaries import is_structure
from mofgap.crystals.json_stream import JsonError, JsonStream

Opened = Callable[[], AbstractContextManager[IO[bytes]]]
Row = tuple[str | None, Any]
"""The name of a row, if the file has one for it, and its object."""

_DATAFRAME = ("columns", "index", "data", "index_names", "column_names")
# Names within one structure, or within one object that has one, of which the value may be an object too.
_OF_ONE = ("lattice", "structure", "atoms", "cell", "numbers", "positions", "properties")
_COLUMNS = ("structure", "atoms")
"""Usual names of a dataframe's column of structures."""
_MOST_MEMBERS = 10_000
# Members without a structure after which they are taken for rows.
_MOST_UNDECIDED = 20
_NO_ROWS = ("ids", "nextid")  # of a database of ASE


def json_rows(opened: Opened, most_bytes: int | None = None) -> Iterator[Row]:
    """The rows of a JSON file, one at a time.

    Five shapes are read. A list of objects (JARVIS). Objects one after the other (JSON Lines). An object with
    ``columns`` and ``data`` (a dataframe in the orientation ``split``, as matminer stores it). An object of
    objects by identifier (the orientation ``index``, or a database of ASE). One structure, or one object with
    a structure.

    Args:
        opened: Opens the file; it is called again where the file has to be read twice.
        most_bytes: Of one value of the file; None for no limit.

    Raises:
        JsonError: If the file is not JSON, has an unknown layout, or has a value of more than ``most_bytes``.
            What was read before comes first.
    """
    with opened() as file:
        stream = JsonStream(file, most_bytes)
        if stream.peek() == "[":
            yield from ((None, row) for row in stream.items())
            _check_end(stream)
            return
        if stream.peek() != "{":
            raise JsonError("expected a list of objects, or an object that holds some")
        members = stream.members()
        first = next(members, None)
        if first is None:
            raise JsonError("expected a list of objects, or an object that holds some")
        is_split = first in _DATAFRAME and stream.peek() == "["
        if is_split and (header := _header(opened, most_bytes)) is not None:
            yield from _split_rows(opened, most_bytes, *header)
            return
        yield from _rows_of_object(stream, members, first, most_bytes)
        while stream.peek() == "{":  # JSON Lines
            yield None, stream.value()
        _check_end(stream)


def _check_end(stream: JsonStream) -> None:
    if found := stream.peek():
        raise JsonError(f"{found!r} follows the last value; give one list of objects, or objects alone")


def _rows_of_object(
    stream: JsonStream, members: Iterator[str], first: str, most_bytes: int | None
) -> Iterator[Row]:
    row: dict[str, Any] = {}
    for name in chain([first], members):
        row[name] = _member(stream, name)
        is_one = _is_one(name, row[name])
        if is_one is False and _has_one_structure(row) and None in row.values():
            is_one = None  # a field without a value, or a row without a structure, stands before it
        if is_one is not None or len(row) >= _MOST_UNDECIDED:
            break
    if is_one is None and _has_one_structure(row):
        is_one = True
    if is_one:
        for name in members:
            row[name] = _member(stream, name)
            if len(row) > _MOST_MEMBERS or (most_bytes is not None and stream.n_bytes > 2 * most_bytes):
                raise JsonError("an object of more than one structure could have; give a list of objects")
        yield None, row
        return
    yield from ((name, value) for name, value in row.items() if name not in _NO_ROWS)
    for name in members:
        value = _member(stream, name)
        if name not in _NO_ROWS:
            yield name, value


def _member(stream: JsonStream, name: str) -> Any:
    """The value of a member of an object.

    Raises:
        JsonError: If it is a column of structures.
    """
    value = stream.value()
    if isinstance(value, Mapping):
        keys = [key for key, each in value.items() if is_structure(each)]
        if keys and (name in _COLUMNS or all(map(str.isdigit, keys))):  # pandas counts rows
            raise JsonError("a dataframe by columns, not by rows (orient='records' of DataFrame.to_json)")
    return value


def _has_one_structure(row: Mapping[str, Any]) -> bool:
    """Whether one member is a structure, and the others have no value."""
    return [is_structure(value) for value in row.values() if value is not None] == [True]


def _is_one(name: str, value: Any) -> bool | None:
    """Whether an object with this member is one row, and no rows by identifier; None if it may be both."""
    if name in _NO_ROWS:
        return False
    if value is None and name not in _OF_ONE:
        return None
    if name in _OF_ONE or not (isinstance(value, Mapping) or is_structure(value)):
        return True
    if is_structure(value) or any(map(is_structure, value.values())):
        return False
    return None


def _split_rows(
    opened: Opened, most_bytes: int | None, columns: list[str], index: list[Any]
) -> Iterator[Row]:
    """Rows of a dataframe whose names of columns may stand behind its data."""
    with opened() as file:
        stream = JsonStream(file, most_bytes)
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


def _header(opened: Opened, most_bytes: int | None) -> tuple[list[str], list[Any]] | None:
    """Columns and index of a dataframe; None if the object lacks ``columns`` or ``data``, and has others."""
    columns: list[str] | None = None
    index: list[Any] = []
    has_data = has_others = False
    with opened() as file:
        stream = JsonStream(file, most_bytes)
        for name in stream.members():
            if name == "data" and stream.peek() == "[":
                has_data = True
                if columns is None or not index:
                    deque(stream.items(), maxlen=0)
            else:
                value = stream.value()
                has_others |= name not in _DATAFRAME
                if name in ("columns", "index") and not isinstance(value, list):
                    raise JsonError(f"{name!r} is no list; write the dataframe in the orientation split")
                if name == "columns":
                    columns = [str(column) for column in value]
                elif name == "index":
                    index = value
            if has_data and columns is not None and index:
                break
    if has_data and columns is not None:
        return columns, index
    if has_others:
        return None
    raise JsonError("a dataframe without columns or data; write it in the orientation split")
