"""The finished rows of a run under way, so that a killed one can go on.

JSON lines beside the output: a header with everything that decides the numbers, then one line an input with
the sha256 of its bytes. Every line reaches the operating system at once; a killed process loses none, and a
last line that was cut off is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mofgap.screening.row import Row, plain_values

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

VERSION = 2


def journal_path(target: Path) -> Path:
    """Where the journal of a table, or of a share of one, lies: beside it."""
    return target.with_name(f"{target.name}.partial.jsonl")


class JournalError(ValueError):
    """A journal that cannot be continued, and why."""


@dataclass(frozen=True)
class Finished:
    """Rows of one input, and the sha256 of the bytes they came from."""

    sha256: str
    rows: tuple[Row, ...]


class Journal:
    """An open journal.

    Args:
        path: Where it lies.
        header: What decides the numbers, as plain JSON values.
        resume: Continue the journal if it exists; otherwise one that exists is overwritten.

    Attributes:
        finished: The inputs that were done before, by name.

    Raises:
        JournalError: The file ``path`` is damaged, has another ``header``, or is being written by another
            process.
        OSError: The file ``path`` cannot be written.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path
        self.finished: dict[str, Finished] = {}
        self._file: BinaryIO = path.open("a+b")
        try:
            self._lock()
            kept = self._load({"version": VERSION, **header}) if resume else 0
            self._file.truncate(kept)
            if not kept:
                self._append({"version": VERSION, **header})
        except BaseException:
            self.close()
            raise

    def add(self, source: str, finished: Finished) -> None:
        """Record an input."""
        rows = [plain_values(row) for row in finished.rows]
        self._append({"source": source, "sha256": finished.sha256, "rows": rows})

    def close(self) -> None:
        """Close the file, and leave it."""
        with suppress(OSError):  # what a full disk did not take was told when it was written
            self._file.close()

    def remove(self) -> None:
        """Delete the file, once the table is safe."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _lock(self) -> None:
        """Keep other runs off the file until it is closed, or this process ends."""
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalError(
                f"{self.path} is being written by another process; wait for it, or name another output"
            ) from error
        except OSError:
            pass  # some network file systems know no locks

    def _append(self, content: Mapping[str, Any]) -> None:
        # ASCII: names that are no valid Unicode survive as escapes.
        self._file.write(json.dumps(content, separators=(",", ":")).encode("ascii") + b"\n")
        self._file.flush()

    def _load(self, header: Mapping[str, Any]) -> int:
        """Fill `finished`; returns the length in bytes of the whole lines, 0 for a file without any."""
        kept = 0
        self._file.seek(0)
        for line in self._file:
            content = self._parse(line)
            if content is None:
                break
            if kept == 0:
                self._compare(content, json.loads(json.dumps(header)))
            else:
                rows = tuple(Row(**row) for row in content["rows"])
                self.finished[content["source"]] = Finished(content["sha256"], rows)
            kept += len(line)
        return kept

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        """A line's content; None for one that was cut off."""
        if not line.endswith(b"\n"):
            return None
        try:
            content: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise JournalError(f"{self.path} is damaged; --force starts again") from error
        return content

    def _compare(self, found: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        differing = [name for name in {**header, **found} if found.get(name) != header.get(name)]
        if differing:
            was = ", ".join(f"{name} {found.get(name)} then, {header.get(name)} now" for name in differing)
            raise JournalError(
                f"{self.path} was begun with other settings ({was}); "
                "give the same ones, or --force to start again"
            )
