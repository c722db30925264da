"""The inputs of a screening, listed once for all of its shards.

A folder with a file for each shard. A shard reads only its own file. It need not search folders, lists or
the tables of contents of archives.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.inputs import Inputs
from mofgap.crystals.item import InputItem
from mofgap.crystals.zip_member import packed
from mofgap.screening.checked_line import line_of
from mofgap.screening.differences import NAMES
from mofgap.screening.shard import Shard, ShardError, ShardFile
from mofgap.whole_file import whole_folder

LISTING = ".inputs"
"""Extension of the folder."""

_VERSION = 1
_BUFFER_BYTES = 2**16
_DEFAULTS = {field.name: field.default for field in fields(InputItem)}


def listing_path(output: Path) -> Path:
    """The path of the listing of a table: next to it."""
    return output.with_name(f"{output.name}{LISTING}")


def is_listing(name: str) -> bool:
    """Whether an input is a listing."""
    return name.rstrip("/").endswith(LISTING) and Path(name).is_dir()


def write_listing(folder: Path, sources: Inputs, n_shards: int) -> int:
    """List inputs; the folder appears whole or not at all.

    Args:
        folder: Where to; one that is there already is replaced.
        sources: The inputs.
        n_shards: For how many shards.

    Returns:
        How many inputs there are.

    Raises:
        OSError: If the folder cannot be written.
    """
    everything = Shard(1, 1)
    with whole_folder(folder) as partial:
        files = [_Buffered(listed_in(partial, Shard(i, n_shards))) for i in range(1, n_shards + 1)]
        for index, file in enumerate(files, start=1):
            file.add(line_of({"version": _VERSION, "shard": [index, n_shards]}))
        for position, source in enumerate(everything.take(sources)):
            files[position % n_shards].add(line_of(_plain(source)))
        for file in files:
            file.add(line_of(everything.whole))
            file.flush()
    return everything.n_inputs


def read_listing(folder: Path, shard: Shard) -> Iterator[InputItem | ReadFailure]:
    """The inputs of a shard. The shard gets the number and names of all inputs.

    Raises:
        ShardError: If the listing in ``folder`` was made for another number of shards, or is damaged. Damage
            after its first line raises the error while the inputs are read.
        OSError: If the listing cannot be read.
    """
    path = listed_in(folder, shard)
    if not path.exists():
        raise ShardError(f"{folder} was not made for {shard.count} shards: list the inputs again")
    file = ShardFile.open(path, _VERSION)
    shard.n_inputs, shard.names_sha256 = file.whole["n_inputs"], file.whole[NAMES]
    return (_source(content) for _, content in file.contents())


def listed_in(folder: Path, shard: Shard) -> Path:
    """The file of a shard."""
    return shard.path(folder / "inputs")


def _plain(source: InputItem | ReadFailure) -> Any:
    """An input as plain JSON values."""
    if isinstance(source, ReadFailure):
        return [source.source, source.structure_id, source.reason]
    if source.member is not None:
        where = packed(_archive(source.path).infolist()[source.member])
        source = source if where is None else replace(source, member=None, packed=where)
    content = {name: value for name, value in vars(source).items() if value != _DEFAULTS[name]}
    if source.data is not None:
        content["data"] = b64encode(source.data).decode()
    return content


def _source(content: Any) -> InputItem | ReadFailure:
    if isinstance(content, list):
        return ReadFailure(*content)
    for name in ("span", "packed"):
        if name in content:
            content[name] = tuple(content[name])
    if "data" in content:
        content["data"] = b64decode(content["data"])
    return InputItem(**content)


@lru_cache(maxsize=2)
def _archive(path: str) -> ZipFile:
    return ZipFile(path)


class _Buffered:
    """A file that is opened only to write. There may be more files than a process can hold open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[bytes] = []
        self.size = 0

    def add(self, line: bytes) -> None:
        self.lines.append(line)
        self.size += len(line)
        if self.size > _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        with self.path.open("ab") as file:
            file.writelines(self.lines)
        self.lines, self.size = [], 0
