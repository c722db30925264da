"""A share of a screening, as a file; `mofgap.screening.gather` puts the whole together again.

A shard takes every n-th input and writes their rows, unranked, as JSON lines, each with a checksum: a header
with everything that decides the table, one line per input, and a last line that all shards must agree on.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mofgap.screening.checked_line import content_of, line_of
from mofgap.screening.differences import NAMES, differences
from mofgap.screening.row import Row, plain_values
from mofgap.whole_file import whole_file

if TYPE_CHECKING:
    from mofgap.screening.reading import Source

VERSION = 3
SECOND_LEVEL_MODEL = "second_level_sha256"
"""Key of a header that has the sha256 of the model of a second level of theory."""
DEVICE = "device"
"""Key of a header that has the device; another one may change the last digits."""

T = TypeVar("T", bound="Source")

_LAST_LINE_BYTES = 1024
_SHARD = re.compile(r"([1-9][0-9]*)/([1-9][0-9]*)").fullmatch


class ShardError(ValueError):
    """Shards that do not make a whole, and why."""


class Shard:
    """One of ``count`` shares of the inputs.

    Args:
        index: Which one, from 1.
        count: How many there are.

    Attributes:
        n_inputs: How many inputs all shards have together, as far as `take` has come.
        names_sha256: Digest of the names of all inputs, where it is known beforehand.

    Raises:
        ValueError: If ``index`` is not between 1 and ``count``.
    """

    def __init__(self, index: int, count: int) -> None:
        if not 1 <= index <= count:
            raise ValueError(f"a shard is one of 1/{count} to {count}/{count}, not {index}/{count}")
        self.index = index
        self.count = count
        self.n_inputs = 0
        self.names_sha256 = ""
        self._names = hashlib.sha256()

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard from ``i/n``.

        Raises:
            ValueError: If ``text`` does not have the form ``i/n`` with ``i`` from 1 to ``n``.
        """
        found = _SHARD(text)
        if found is None:
            raise ValueError(f"expected i/n, such as 1/8 for the first of eight, not {text!r}")
        return cls(int(found[1]), int(found[2]))

    def path(self, output: Path) -> Path:
        """The path of this shard of a table: next to it."""
        width = len(str(self.count))
        return output.with_name(f"{output.name}.shard-{self.index:0{width}}-of-{self.count}.jsonl")

    def take(self, sources: Iterable[T]) -> Iterator[T]:
        """Every n-th input. Neighbours are often of similar size and then go to different shards."""
        for position, source in enumerate(sources):
            self.n_inputs = position + 1
            self._names.update(f"{source.source}\n".encode(errors="surrogateescape"))
            if position % self.count == self.index - 1:
                yield source

    @property
    def whole(self) -> dict[str, Any]:
        """What all shards must agree on, once all inputs were taken."""
        return {"n_inputs": self.n_inputs, NAMES: self.names_sha256 or self._names.hexdigest()}

    def write(self, path: Path, header: Mapping[str, Any], inputs: Iterable[tuple[Row, ...]]) -> None:
        """Write the rows of each input that `take` gave; the file appears whole or not at all.

        Args:
            path: Where to.
            header: What decides the table, as plain JSON values.
            inputs: Rows of each input, in order.
        """
        with whole_file(path) as partial, partial.open("wb") as file:
            file.write(line_of({"version": VERSION, "shard": [self.index, self.count], **header}))
            file.writelines(line_of([plain_values(row) for row in rows]) for rows in inputs)
            file.write(line_of(self.whole))


@dataclass(frozen=True, eq=False)
class ShardFile:
    """A file that `Shard.write` wrote.

    Attributes:
        path: The file.
        index: Which shard it is, from 1.
        count: How many there are.
        header: What decides the table.
    """

    path: Path
    index: int
    count: int
    header: dict[str, Any]

    @classmethod
    def open(cls, path: Path, version: int = VERSION) -> ShardFile:
        """The shard in a file, of which only the first line is read.

        Args:
            path: The file.
            version: Version of its format.

        Raises:
            ShardError: If the file ``path`` has another version, or its first line is not that of a shard.
            OSError: If the file ``path`` cannot be read.
        """
        with path.open("rb") as file, _intact(path):
            header = content_of(next(file))
            index, count = header.pop("shard")
        if (found := header.pop("version", None)) != version:
            raise ShardError(f"{path}: shard version {found}, this mofgap reads {version}; make it again")
        return cls(path, index, count, header)

    def inputs(self) -> Iterator[tuple[int, list[Row]]]:
        """The index among all inputs, and the rows, of each input of the shard.

        Raises:
            ShardError: If the file is damaged or cut off.
            OSError: If the file cannot be read.
        """
        for place, content in self.contents():
            with _intact(self.path):
                rows = [Row(**values) for values in content]
            yield place, rows

    def contents(self) -> Iterator[tuple[int, Any]]:
        """The index among all inputs, and the content, of each input of the shard.

        Raises:
            ShardError: If the file is damaged or cut off.
            OSError: If the file cannot be read.
        """
        n = 0
        for content in islice(self._lines(), 1, None):
            yield self.index - 1 + n * self.count, content
            n += 1
        n_here = len(range(self.index - 1, self.whole["n_inputs"], self.count))
        if n != n_here:
            raise ShardError(f"{self.path}: holds {n} of {n_here} inputs; make it again")

    @cached_property
    def whole(self) -> dict[str, Any]:
        """What all shards must agree on, of the last line.

        Raises:
            ShardError: If the file is cut off.
            OSError: If the file cannot be read.
        """
        with self.path.open("rb") as file, _intact(self.path):
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_LINE_BYTES))
            whole: dict[str, Any] = content_of(file.read().splitlines(keepends=True)[-1])
            if whole.keys() != {"n_inputs", NAMES}:
                raise ValueError("not the last line of a shard")
        return whole

    def _lines(self) -> Iterator[Any]:
        """All lines but the last."""
        with self.path.open("rb") as file, _intact(self.path):
            line = next(file)
            for following in file:
                yield content_of(line)
                line = following

    def check_same_screening(self, other: ShardFile) -> None:
        """Refuse a shard of another screening. It may have been computed on another device.

        Raises:
            ShardError: If ``other`` has other settings or inputs.
        """
        one, two = ({**s.header, **s.whole, "shards": s.count, DEVICE: None} for s in (self, other))
        if differing := differences(one, two, "{then} and {now}"):
            raise ShardError(
                f"{self.path} and {other.path} are of different screenings: {differing}; give shards of one"
            )


@contextmanager
def _intact(path: Path) -> Iterator[None]:
    """Turn errors of damaged content into a `ShardError` that names the file."""
    try:
        yield
    except ShardError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, StopIteration) as error:
        what = "damaged, cut off, of an earlier mofgap, or nothing that mofgap screen wrote; make it again"
        raise ShardError(f"{path}: {what}") from error
