"""The finished rows of a run under way, so that a killed one can go on.

JSON lines next to the output, each with a checksum: a header with everything that decides the numbers, then
one line per input with the sha256 of its bytes. Every line reaches the operating system at once; a killed
process loses none. A last line that was cut off is dropped, and a damaged one is as if it had never been.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mofgap.screening.checked_line import DamagedLineError, content_of, line_of
from mofgap.screening.differences import differences
from mofgap.screening.row import Row, plain_values

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

VERSION = 3


def journal_path(target: Path) -> Path:
    """The path of the journal of a table or of a shard: next to it."""
    return target.with_name(f"{target.name}.partial.jsonl")


class JournalError(ValueError):
    """A journal that cannot be continued, and why."""


class OtherRunError(JournalError):
    """A journal that is damaged, or of a screening with other settings."""


@dataclass(frozen=True)
class Finished:
    """Rows of one input, and the sha256 of the bytes they came from."""

    sha256: str
    rows: tuple[Row, ...]


class Journal:
    """The finished inputs of a run, in an open file.

    Args:
        path: Where it lies.
        header: What decides the numbers, as plain JSON values.
        resume: Continue the journal if it exists; otherwise one that exists is overwritten.

    Attributes:
        finished: The inputs that were done before, by name.
        begun: Name of the input that was begun last and not done, and may have ended the run; or empty.
        n_damaged: How many lines were damaged; their inputs have to be done again.

    Raises:
        JournalError: If the first line of ``path`` is damaged, the journal has another ``header`` or version,
            or another process is writing it.
        OSError: If the file ``path`` cannot be written.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path
        self.finished: dict[str, Finished] = {}
        self.begun = ""
        self.n_damaged = 0
        self._file = self._opened()
        try:
            if not resume or not self._load({"version": VERSION, **header}):
                self._file.truncate(0)
                self._append({"version": VERSION, **header})
        except BaseException:
            self.close()
            raise

    def begin(self, source: str) -> None:
        """Record that an input is begun, in case it ends the process."""
        self._append({"begun": source})

    def stop(self) -> None:
        """Record that a user stopped the run, so that no input is thought to have ended it."""
        with suppress(OSError):  # a full disk must not hide why the run ends
            self.begin("")

    def add(self, source: str, finished: Finished) -> None:
        """Record an input."""
        rows = [plain_values(row) for row in finished.rows]
        self._append({"source": source, "sha256": finished.sha256, "rows": rows})

    def close(self) -> None:
        """Close the file without deleting it."""
        with suppress(OSError):  # what a full disk did not take was told when it was written
            self._file.close()

    def remove(self) -> None:
        """Delete the file, once the table is safe."""
        if fcntl is None:  # Windows deletes no open file
            self.close()
        self.path.unlink(missing_ok=True)  # while it is locked, so that it is that of no other run
        self.close()

    def _opened(self) -> BinaryIO:
        """The file, locked; another run may delete it between the two."""
        while True:
            file: BinaryIO = self.path.open("a+b")
            try:
                self._lock(file)
                if self._is_at_path(file):
                    return file
            except BaseException:
                file.close()
                raise
            file.close()

    def _is_at_path(self, file: BinaryIO) -> bool:
        if fcntl is None:
            return True
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        return False

    def _lock(self, file: BinaryIO) -> None:
        """Keep other runs off a file until it is closed, or this process ends."""
        if fcntl is None:
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalError(
                f"{self.path} is being written by another process; wait for it, or name another output"
            ) from error
        except OSError:
            pass  # some network file systems know no locks

    def _append(self, content: Mapping[str, Any]) -> None:
        self._file.write(line_of(content))
        self._file.flush()

    def _load(self, header: Mapping[str, Any]) -> bool:
        """Read what was done before, and drop damaged lines. False if there is no header."""
        kept, later = 0, list[bytes]()
        self._file.seek(0)
        for line in self._file:
            if not line.endswith(b"\n"):
                self.begun = ""  # the run ended while it wrote, not in an input
                break
            if kept == 0:
                self._compare(self._header(line), header)
            elif not self._take(line):
                self.n_damaged += 1
                continue
            if self.n_damaged:
                later.append(line)
            else:
                kept += len(line)
        self._file.truncate(kept)
        self._file.writelines(later)
        self._file.flush()
        return kept > 0

    def _header(self, line: bytes) -> dict[str, Any]:
        """The header of a journal."""
        try:
            header = content_of(line)
            if not isinstance(header, dict):
                raise DamagedLineError("a header has names")
        except DamagedLineError as error:
            what = "has a damaged first line, or is of an earlier mofgap; --force starts again"
            raise OtherRunError(f"{self.path} {what}") from error
        return header

    def _take(self, line: bytes) -> bool:
        """Read the line of an input. False if it is damaged."""
        try:
            content = content_of(line)
            if "begun" in content:
                self.begun = content["begun"]
                return True
            source, rows = content["source"], tuple(Row(**row) for row in content["rows"])
            self.finished[source] = Finished(content["sha256"], rows)
        except (DamagedLineError, KeyError, TypeError):
            return False
        self.begun = ""
        return True

    def _compare(self, found: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        if was := differences(found, header):
            raise OtherRunError(
                f"{self.path} was begun with other settings ({was}); "
                "give the same ones, or --force to start again"
            )
