"""The shards of a screening, put together again: the table of one screening, bit for bit.

Many rows are read on all cores. They are sorted on disk, so that memory stays the same however many there
are. Only the rows of one formula are held at a time, to find those of one structure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from mofgap.screening.origin import record, write_origin
from mofgap.screening.outcome import N_FAILURES_SHOWN, Outcome
from mofgap.screening.pool import ordered_map
from mofgap.screening.rank import Novelty, RankBy
from mofgap.screening.row import Row, column_names
from mofgap.screening.row_store import RowStore, write_part
from mofgap.screening.shard import DEVICE, SECOND_LEVEL_MODEL, ShardError, ShardFile
from mofgap.screening.table import PAGE, WriteTable, write_parts, write_table
from mofgap.threads import usable_cores

MIN_PARALLEL_BYTES = 50_000_000
"""Size of all shards together from which on several processes read them."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """All shards of a screening.

    Attributes:
        header: What decides the table.
        outcome: How many structures were read, and what holds for all of them.
        store: The rows.
    """

    header: dict[str, Any]
    outcome: Outcome
    store: RowStore

    def rows(self) -> Iterator[Row]:
        """The rows of the table, ranked."""
        yield from self.store.ranked(self.header["top"], self.header["duplicates"])
        yield from self.store.failed()

    def write(self, path: Path, write: WriteTable = write_table, command: str = "") -> None:
        """Write the table that one screening would have written.

        Args:
            path: The file.
            write: What writes a table, see `write_table`.
            command: The command line, which is recorded in a file next to the table; empty records nothing.

        Raises:
            ValueError: If the extension of ``path`` is unknown, or its format cannot hold so many rows.
            OSError: If the file ``path`` cannot be written.
        """
        n_rows = 0

        def counted() -> Iterator[Row]:
            nonlocal n_rows
            for row in self.rows():
                n_rows += 1
                yield row

        write(path, counted(), column_names(self.header["coverage"], SECOND_LEVEL_MODEL in self.header))
        if command and path.suffix.lower() != PAGE:
            write_origin(path, record(command, n_rows, self.header))

    def write_parts(self, folder: Path, part_rows: int, command: str = "") -> None:
        """Write the table as a folder of parquet files, see `mofgap.screening.table.write_parts`.

        Raises:
            ValueError: If the extension of ``folder`` is not ``.parquet``.
            OSError: If the folder ``folder`` cannot be written.
        """
        self.write(folder, partial(write_parts, part_rows=part_rows), command)


def _rows_of(shard: ShardFile, folder: Path, rank_by: RankBy, novelty: Novelty) -> tuple[Path, Outcome]:
    """A file with a shard's rows in a folder, and their counts; for many rows it runs in another process."""
    outcome, part = Outcome(), folder / f"shard-{shard.index}.sqlite"
    write_part(part, outcome.counting(shard.inputs()), rank_by, novelty)
    return part, outcome


@contextmanager
def gather(paths: Sequence[Path], folder: Path | None = None) -> Iterator[Gathered]:
    """Put shards together; their rows lie on disk until the block ends.

    Args:
        paths: What ``mofgap screen --shard`` wrote, in any order, each shard once.
        folder: Where rows lie meanwhile, in a folder that is deleted in the end; the system's own without.

    Raises:
        ShardError: If a shard is missing, repeated or cut off, has another version, or belongs to another
            screening.
        OSError: If a file of ``paths`` cannot be read, or the disk is full.
    """
    shards = _whole([ShardFile.open(path) for path in paths])
    devices = {shard.header[DEVICE] for shard in shards if DEVICE in shard.header}
    header = shards[0].header | ({DEVICE: " and ".join(sorted(devices))} if devices else {})
    outcome = Outcome()
    large = sum(shard.path.stat().st_size for shard in shards) >= MIN_PARALLEL_BYTES
    with closing(RowStore(header["rank_by"], header["novelty"], folder)) as store:
        reading = partial(_rows_of, folder=store.folder, rank_by=store.rank_by, novelty=store.novelty)
        try:
            for part, counted in ordered_map(reading, shards, usable_cores() if large else 1):
                store.take(part)
                outcome.join(counted)
        except BrokenProcessPool as error:
            raise OSError(
                "a process that read a shard was ended, usually for want of memory; close other programs"
            ) from error
        outcome.n_copies = store.find_duplicates()
        outcome.first_failed = list(islice(store.failed(), N_FAILURES_SHOWN))
        yield Gathered(header, outcome, store)


def _whole(shards: Sequence[ShardFile]) -> Sequence[ShardFile]:
    """The shards, if they are all of one screening.

    Raises:
        ShardError: If a shard is missing or repeated, or belongs to another screening.
    """
    if not shards:
        raise ShardError("there are no shards; name files of mofgap screen --shard")
    first = shards[0]
    by_index: dict[int, ShardFile] = {}
    for shard in shards:
        first.check_same_screening(shard)
        if shard.index in by_index:
            raise ShardError(
                f"{shard.path} and {by_index[shard.index].path} are the same shard; name each once"
            )
        by_index[shard.index] = shard
    missing = [str(i) for i in range(1, first.count + 1) if i not in by_index]
    if missing:
        raise ShardError(f"of {first.count} shards these are missing: {', '.join(missing)}; name all")
    return shards
