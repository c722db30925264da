"""From a file that may hold several structures to an input for each."""

from __future__ import annotations

import io
import json
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TypeVar

from mofgap.crystals.ase_files import numbers_of, record_of
from mofgap.crystals.entry import ReadFailure, unforeseen
from mofgap.crystals.formats import LONGEST_NAME, NUMBERED, STREAMED, stem_of
from mofgap.crystals.item import MAX_FILE_BYTES, InputItem, failure, message, unpacked
from mofgap.crystals.json_rows import json_rows
from mofgap.crystals.json_stream import JsonError
from mofgap.crystals.reasons import NO_STRUCTURES, StructureError
from mofgap.crystals.tar_archive import START_BYTES, Unpacked, is_packed, opener_of
from mofgap.crystals.xyz import frames

# Of one structure in a JSON; its objects may take ten times as much memory.
MAX_JSON_BYTES = 8 * 2**20
MOST_SMALL = 5_000
LEAST_BYTES = 1_000
"""A file of more structures than `MOST_SMALL` holds so many bytes for each: a MOF of 20 atoms has as many."""
_LOOK_BYTES = 2**16
_LOOKS = {
    "xyz": re.compile(rb"\A[^\n]*\n[^\n]*\blattice\s*=", re.IGNORECASE),
    "json": re.compile(rb'"(sites|lattice|lattice_mat|positions)\\?"\s*:'),
    "db": re.compile(rb"\ASQLite format 3\0"),
    "traj": re.compile(rb"\A- of Ulm"),
}
"""What the first bytes of a file of structures hold."""

T = TypeVar("T")
Part = tuple[str, bytes]
"""A name, empty where there is none, and the bytes of a structure."""


def items_in(item: InputItem) -> Iterator[InputItem | ReadFailure]:
    """The item, or where its file holds several structures, an item for each.

    The structure alone in its file is named by the file; of several, each by its identifier, else by its
    place. What can still be read of a damaged file comes before the failure.
    """
    if item.kind not in (*STREAMED, *NUMBERED):
        yield item
        return
    reason = f"{NO_STRUCTURES}: the file holds no structure; check the path"
    try:
        for each in _numbered(item) if item.kind in NUMBERED else _streamed(item):
            reason = ""
            yield each
    except StructureError as error:
        reason = str(error)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        reason = f"unreadable-file: {message(error)}; check the file and its permissions"
    except Exception as error:
        reason = unforeseen(error)
    if reason:
        yield failure(item.source, reason)


def holds_crystals(item: InputItem) -> bool:
    """Whether a file that was not named looks like structures: many of these endings are those of others."""
    if item.kind not in (*STREAMED, *NUMBERED):
        return True
    with suppress(Exception), _opened(item) as file:  # whatever is wrong with it, it does not look like one
        return _LOOKS[item.kind].search(file.read(_LOOK_BYTES)) is not None
    return False


def _numbered(item: InputItem) -> Iterator[InputItem]:
    with _as_file(item) as path:
        numbers, size = numbers_of(path, item.kind), Path(path).stat().st_size
        for place, number in enumerate(numbers, start=1):
            _check_mean_size(place, size)
            # What is not there for long is read at once.
            data = None if path == item.path else record_of(path, item.kind, number)
            one = replace(item, number=number, data=data, member=None, span=None)
            yield one if len(numbers) == 1 else _one_of_several(one, place, data=data)


def _streamed(item: InputItem) -> Iterator[InputItem]:
    parts = of_some_size(_frames(item) if item.kind == "xyz" else _rows(item), lambda part: len(part[1]))
    first = next(parts, None)
    if first is None:
        return
    try:
        second = next(parts, None)
    except Exception:  # what stands before it is read all the same
        yield _one_of_several(item, 1, *first)
        raise
    if second is None:
        yield replace(item, data=first[1], member=None, span=None, name=stem_of(item.source))
        return
    for place, part in enumerate(chain([first, second], parts), start=1):
        yield _one_of_several(item, place, *part)


def _one_of_several(item: InputItem, place: int, name: str = "", data: bytes | None = None) -> InputItem:
    return replace(
        item,
        source=f"{item.source}:{place}",
        name=name[:LONGEST_NAME] or f"{stem_of(item.source)}-{place}",
        named=True,
        data=data,
        member=None,
        span=None,
    )


def of_some_size(parts: Iterable[T], size_of: Callable[[T], int | None]) -> Iterator[T]:
    """The structures of a file or archive, as long as they are not too many and too small.

    Args:
        parts: The structures.
        size_of: Size of one in bytes; None for what is no structure, and is not counted.

    Raises:
        StructureError: If there are more than `MOST_SMALL` structures, and their mean size is below
            `LEAST_BYTES`.
    """
    n = n_bytes = 0
    for part in parts:
        if (size := size_of(part)) is not None:
            n, n_bytes = n + 1, n_bytes + size
            _check_mean_size(n, n_bytes)
        yield part


def _check_mean_size(n_structures: int, n_bytes: int) -> None:
    """Refuse a file of few bytes with structures that would take minutes.

    Raises:
        StructureError: If ``n_structures`` exceeds `MOST_SMALL` and their mean size is below `LEAST_BYTES`.
    """
    if n_structures > MOST_SMALL and n_bytes < n_structures * LEAST_BYTES:
        raise StructureError(
            f"too-many-structures: more than {n_structures - 1} structures, of less than {LEAST_BYTES} bytes "
            f"on average; give files of at most {MOST_SMALL} structures"
        )


def _frames(item: InputItem) -> Iterator[Part]:
    with _opened(item) as file:
        yield from (("", frame) for frame in frames(file, MAX_FILE_BYTES))


def _rows(item: InputItem) -> Iterator[Part]:
    try:
        for name, row in json_rows(lambda: _opened(item), MAX_JSON_BYTES):
            if not isinstance(row, dict | str | None):  # a missing structure costs no other
                raise JsonError("expected objects, found another value")
            # ASE counts the rows of a database.
            yield "" if name is None or name.isdigit() else name, json.dumps(row).encode()
    except JsonError as error:
        raise StructureError(f"bad-json: {error}; write the file again") from error


@contextmanager
def _opened(item: InputItem) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked if need be, in bounded memory.

    Raises:
        StructureError: If the file is a pipe, or the member of an archive cannot be read.
    """
    if not _on_disk(item):
        yield io.BytesIO(unpacked(item.read()))
        return
    _check_regular(item.path)
    path = Path(item.path)
    with path.open("rb") as file:
        opener = opener_of(file.read(START_BYTES))
        file.seek(0)
        if opener is None:
            yield file
            return
        with opener(file) as packed:
            yield io.BufferedReader(Unpacked(packed, path.stat().st_size))


@contextmanager
def _as_file(item: InputItem) -> Iterator[str]:
    """The path of a file, or of a copy of what lies in an archive or is packed."""
    if _on_disk(item):
        _check_regular(item.path)
        if not is_packed(item.path):
            yield item.path
            return
    with TemporaryDirectory(prefix="mofgap-") as folder:
        copy = Path(folder) / f"copy.{item.kind}"
        copy.write_bytes(unpacked(item.read()))
        yield str(copy)


def _on_disk(item: InputItem) -> bool:
    return item.data is None and item.member is None and item.span is None


def _check_regular(path: str) -> None:
    if not Path(path).is_file():  # a pipe without a writer would block for ever
        raise StructureError("unreadable-file: not a regular file; check the path")
