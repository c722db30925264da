"""Rows on disk, in the order of a table: memory stays the same however many there are."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mofgap.screening.duplicates import Features, n_duplicates, originals
from mofgap.screening.rank import Duplicates, Novelty, RankBy, check_order, is_ranked, numbered, sort_key
from mofgap.screening.row import FIELDS, Row

PlacedRows = Iterable[tuple[int, Sequence[Row]]]
"""The rows of some inputs, each with the place of its input among all."""

CACHE_MB = 64
"""Memory of SQLite, which sorts what does not fit in it on disk."""

_KEPT = FIELDS[1:]  # all but the rank, which comes last
_kept = attrgetter(*_KEPT)
_NUMBERS = "rank_late, rank_first, rank_second"
_ORDER = f"{_NUMBERS}, file, structure_id, input, part"
_COLUMNS = f"input, part, is_ranked, {_NUMBERS}, {', '.join(_KEPT)}"
_FEATURES = ", ".join(Features._fields)


class RowStore:
    """The rows of a screening, added in any order and read in the order of the table.

    Args:
        rank_by: What the table is ranked by.
        novelty: What becomes of rows with the warning ``novel``.
        folder: Where the rows lie, in a folder that `close` deletes; the system's own without.

    Raises:
        ValueError: If ``rank_by`` or ``novelty`` is unknown.
        OSError: If the disk is full. Each method can raise it, too.
    """

    def __init__(self, rank_by: RankBy, novelty: Novelty, folder: Path | None = None) -> None:
        check_order(rank_by, novelty, "keep")
        self.rank_by: RankBy = rank_by
        self.novelty: Novelty = novelty
        self._folder = TemporaryDirectory(prefix=".mofgap-rows-", dir=folder)
        with _disk():
            self._rows = _connect(self.folder / "rows.sqlite")
            where = str(self.folder).replace("'", "''")
            self._rows.execute(f"PRAGMA temp_store_directory='{where}'")
            self._rows.execute("CREATE TABLE place (id INTEGER PRIMARY KEY, first, place)")

    @property
    def folder(self) -> Path:
        """The folder, where other processes may put parts."""
        return Path(self._folder.name)

    def take(self, part: Path) -> None:
        """Move the rows of a part, see `write_part`, to the end of these."""
        with _disk():
            self._rows.execute("ATTACH ? AS part", (str(part),))
            self._rows.execute(f"INSERT INTO row SELECT NULL, {_COLUMNS} FROM part.row ORDER BY id")
            self._rows.execute("DETACH part")
        part.unlink()

    def find_duplicates(self) -> int:
        """Find rows of the same structure, after all rows were added; returns the number of duplicates."""
        found = 0
        in_order = f"row_number() OVER (ORDER BY {_ORDER}) AS place"
        wanted = f"SELECT {in_order}, id, {_FEATURES} FROM row WHERE is_ranked ORDER BY formula, place"

        def places() -> Iterator[tuple[int, int, int]]:
            nonlocal found
            for _, group in groupby(self._select(wanted), key=itemgetter(2)):
                rows = list(group)
                firsts = originals([Features(*row[2:]) for row in rows])
                for (place, row_id, *_), first in zip(rows, firsts, strict=True):
                    found += rows[first][0] != place
                    yield row_id, rows[first][0], place

        with _disk():
            self._rows.execute("BEGIN")
            self._rows.executemany("INSERT INTO place VALUES (?, ?, ?)", places())
            self._rows.execute("COMMIT")
        return self._n_duplicates_of_all() if self.novelty == "drop" else found

    def _n_duplicates_of_all(self) -> int:
        """The number of duplicates, with the rows that ``novelty`` drops."""
        wanted = f"SELECT {_FEATURES} FROM row WHERE status != 'failed' ORDER BY formula"
        groups = groupby(self._select(wanted), key=itemgetter(0))
        return sum(n_duplicates([Features(*row) for row in group]) for _, group in groups)

    def ranked(self, top: int | None, duplicates: Duplicates) -> Iterator[Row]:
        """The rows that have a rank, see `rank_rows`; after `find_duplicates`."""
        # All of a row goes through the sorter: a look at each row in the order of ranks would go to and fro.
        columns = ", ".join(f"row.{name}" for name in _KEPT)
        found = self._select(
            f"SELECT place.first, {columns} FROM row CROSS JOIN place ON place.id = row.id "
            "ORDER BY place.first, place.place"
        )
        groups = (map(_row, group) for _, group in groupby(found, key=itemgetter(0)))
        return numbered(groups, top, duplicates)

    def failed(self) -> Iterator[Row]:
        """The failures, in the order of the inputs."""
        columns = ", ".join(_KEPT)
        wanted = f"SELECT NULL, {columns} FROM row WHERE status = 'failed' ORDER BY input, part"
        return map(_row, self._select(wanted))

    def close(self) -> None:
        """Delete the rows."""
        self._rows.close()
        self._folder.cleanup()

    def _select(self, wanted: str) -> Iterator[tuple[Any, ...]]:
        with _disk():
            yield from self._rows.execute(wanted)


def write_part(path: Path, inputs: PlacedRows, rank_by: RankBy, novelty: Novelty) -> None:
    """Write the rows of some inputs into a file of their own, which `RowStore.take` reads.

    Args:
        path: The file, which is not there yet.
        inputs: The place of each among all inputs, and its rows.
        rank_by: What the table is ranked by.
        novelty: What becomes of rows with the warning ``novel``.

    Raises:
        ValueError: If a predicted row lacks the number that rows are ranked by.
        OSError: If the disk is full.
    """

    def values(where: int, part: int, row: Row) -> tuple[Any, ...]:
        wanted = is_ranked(row, novelty)
        numbers = sort_key(row, rank_by, novelty)[:3] if wanted else (None, None, None)
        return where, part, wanted, *numbers, *_kept(row)

    marks = ", ".join("?" * len(_COLUMNS.split(", ")))
    with _disk(), closing(_connect(path)) as rows:
        rows.execute("BEGIN")
        found = (values(where, part, row) for where, own in inputs for part, row in enumerate(own))
        rows.executemany(f"INSERT INTO row VALUES (NULL, {marks})", found)
        rows.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    """A new file of rows. It is not needed after a kill, so that SQLite need not wait for the disk."""
    rows = sqlite3.connect(path, isolation_level=None)
    for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size={-CACHE_MB * 1024}"):
        rows.execute(f"PRAGMA {setting}")
    rows.execute(f"CREATE TABLE row (id INTEGER PRIMARY KEY, {_COLUMNS})")
    return rows


def _row(values: tuple[Any, ...]) -> Row:
    return Row(None, *values[1:])


@contextmanager
def _disk() -> Iterator[None]:
    """Turn SQLite's errors of a full or read-only disk into `OSError`."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OSError(errno.ENOSPC, f"rows cannot be sorted on disk: {error}") from error
