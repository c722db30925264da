"""A share of a screening, and the whole put together again: the same table, bit for bit.

A shard takes every n-th input and writes their rows, unranked, as JSON lines, each with a checksum: a header
with everything that decides the table, a line an input, and a last line that all shards must agree on.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mofgap.screening.checked_line import WITHOUT_CHECKSUM, content_of, line_of
from mofgap.screening.rank import Duplicates, rank_rows
from mofgap.screening.row import Row, plain_values
from mofgap.screening.table import WriteTable, write_table
from mofgap.whole_file import whole_file

if TYPE_CHECKING:
    from mofgap.screening.reading import Source

VERSION = 2
BESIDE_MODEL = "beside_model_sha256"
"""Of a header, where a second level's predictions stand beside the first's."""

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

    Raises:
        ValueError: The number ``index`` does not lie between 1 and ``count``.
    """

    def __init__(self, index: int, count: int) -> None:
        if not 1 <= index <= count:
            raise ValueError(f"a shard is one of 1/{count} to {count}/{count}, not {index}/{count}")
        self.index = index
        self.count = count
        self.n_inputs = 0
        self._names = hashlib.sha256()

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard from ``i/n``.

        Raises:
            ValueError: The text ``text`` is not of the form ``i/n`` with ``i`` from 1 to ``n``.
        """
        found = _SHARD(text)
        if found is None:
            raise ValueError(f"expected i/n, such as 1/8 for the first of eight, not {text!r}")
        return cls(int(found[1]), int(found[2]))

    def path(self, output: Path) -> Path:
        """Where this share of a table goes: beside it."""
        width = len(str(self.count))
        return output.with_name(f"{output.name}.shard-{self.index:0{width}}-of-{self.count}.jsonl")

    def take(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Every n-th input, so that neighbours, which are often alike in size, go to different shards."""
        for position, source in enumerate(sources):
            self.n_inputs = position + 1
            self._names.update(f"{getattr(source, 'source', '')}\n".encode(errors="surrogateescape"))
            if position % self.count == self.index - 1:
                yield source

    def write(self, path: Path, header: Mapping[str, Any], inputs: Sequence[tuple[Row, ...]]) -> None:
        """Write the rows of each input that `take` gave; the file appears whole or not at all.

        Args:
            path: Where to.
            header: What decides the table, as plain JSON values.
            inputs: Rows of each input, in order.
        """
        whole = {"n_inputs": self.n_inputs, "names_sha256": self._names.hexdigest()}
        with whole_file(path) as partial, partial.open("wb") as file:
            file.write(line_of({"version": VERSION, "shard": [self.index, self.count], **header}))
            file.writelines(line_of([plain_values(row) for row in rows]) for rows in inputs)
            file.write(line_of(whole))


@dataclass(frozen=True, eq=False)
class Gathered:
    """All shards of a screening.

    Attributes:
        header: What decides the table.
        rows: Of all inputs, in their order; none has a rank yet.
    """

    header: dict[str, Any]
    rows: list[Row]

    @property
    def duplicates(self) -> Duplicates:
        """What becomes of them; shards of before kept them."""
        return cast(Duplicates, self.header.get("duplicates", "keep"))

    def write(self, path: Path, write: WriteTable = write_table) -> None:
        """Write the table that one screening would have written.

        Args:
            path: The file.
            write: What writes a table, see `write_table`.

        Raises:
            ValueError: The extension of ``path`` is unknown, or its format cannot hold so many rows.
            OSError: The file ``path`` cannot be written.
        """
        header = self.header
        table = rank_rows(self.rows, header["rank_by"], header["top"], header["novelty"], self.duplicates)
        write(path, table, header["coverage"], BESIDE_MODEL in header)


@dataclass(frozen=True, eq=False)
class _Part:
    """One file: its shard and header, its rows by input, and what all must agree on."""

    path: Path
    index: int
    count: int
    header: dict[str, Any]
    inputs: list[tuple[Row, ...]]
    whole: dict[str, Any]


def gather(paths: Sequence[Path]) -> Gathered:
    """Put shards together.

    Args:
        paths: What ``mofgap screen --shard`` wrote, in any order, each shard once.

    Raises:
        ShardError: A shard is missing, repeated, cut off, of another version, or of another screening.
        OSError: A file of ``paths`` cannot be read.
    """
    parts = [_read(path) for path in paths]
    if not parts:
        raise ShardError("there are no shards")
    first = parts[0]
    by_index: dict[int, _Part] = {}
    for part in parts:
        _compare(first, part)
        if part.index in by_index:
            raise ShardError(f"{part.path} and {by_index[part.index].path} are the same shard")
        by_index[part.index] = part
    missing = [str(i) for i in range(1, first.count + 1) if i not in by_index]
    if missing:
        raise ShardError(f"of {first.count} shards these are missing: {', '.join(missing)}")
    rows: list[Row] = []
    for position in range(first.whole["n_inputs"]):
        place, shard = divmod(position, first.count)
        rows += by_index[shard + 1].inputs[place]
    return Gathered(first.header, rows)


def _read(path: Path) -> _Part:
    try:
        with path.open("rb") as file:
            first = next(file)
            if first.startswith(WITHOUT_CHECKSUM):
                what = "an earlier version of mofgap; gather with that one, or make it again"
                raise ShardError(f"{path}: a shard of {what}")
            header = content_of(first)
            index, count = header.pop("shard")
            found, whole = [], content_of(next(file))
            for line in file:
                found.append(tuple(_row(values) for values in whole))
                whole = content_of(line)
        n_here = len(range(index - 1, whole["n_inputs"], count))
    except ShardError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration) as error:
        what = "damaged, cut off, or nothing that mofgap screen --shard wrote; make it again"
        raise ShardError(f"{path}: {what}") from error
    if header.get("version") != VERSION:
        raise ShardError(f"{path}: shard version {header.get('version')}, this mofgap reads {VERSION}")
    if len(found) != n_here:
        raise ShardError(f"{path}: holds {len(found)} of {n_here} inputs; make it again")
    return _Part(path, index, count, header, found, whole)


def _row(values: dict[str, Any]) -> Row:
    """A row; texts that come again and again are kept once."""
    kept: dict[str, Any] = {k: sys.intern(v) if isinstance(v, str) else v for k, v in values.items()}
    return Row(**kept)


def _compare(first: _Part, other: _Part) -> None:
    """Refuse a shard of another screening."""
    then, now = ({**p.header, **p.whole, "shards": p.count} for p in (first, other))
    differing = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if differing:
        what = ", ".join(f"{n} {then.get(n)} and {now.get(n)}" for n in differing)
        raise ShardError(f"{first.path} and {other.path} are of different screenings: {what}")
