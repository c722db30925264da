"""Tar archives read in bounded memory and time, whatever their headers say."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

# A name or other attributes that a header of its own holds; file systems allow names of 4 kB.
MAX_HEADER_BYTES = 16 * 2**10
# CIFs shrink to a fifth or, many alike, to a fiftieth; an archive that unpacks to more is made to do harm.
MAX_RATIO, FREE_BYTES = 200, 256 * 2**20
_HEADERS = frozenset({
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
})  # fmt: skip
# By the first bytes. Each reads all streams of a file; parallel packers write many, and tarfile reads one.
_OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
START_BYTES = max(map(len, _OPENERS))
"""How many bytes of a file tell whether it is packed."""


class _Member(tarfile.TarInfo):
    """A member whose long name is not read into memory at any length."""

    def _proc_member(self, *arguments: Any) -> Any:
        """Refuse a header before what it announces is read; `tarfile` lets a subclass override this."""
        if self.type in _HEADERS and self.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a name or header of {self.size} bytes")
        return super()._proc_member(*arguments)  # type: ignore[misc]

    def _proc_gnusparse_10(self, *_: Any) -> None:
        """A table that Python reads at any length; files with holes are no CIFs."""
        raise tarfile.ReadError("a sparse file")


class Unpacked(io.RawIOBase):
    """The bytes of a packed file, as many as one of its size may have."""

    def __init__(self, file: IO[bytes], n_packed: int) -> None:
        self.file, self.left = file, max(MAX_RATIO * n_packed, FREE_BYTES)

    def readable(self) -> bool:
        """Whether bytes can be read: always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read bytes into a buffer.

        Raises:
            ReadError: If more bytes are unpacked than `MAX_RATIO` times the size of the file, and more than
                `FREE_BYTES`.
        """
        data = self.file.read(len(buffer))
        self.left -= len(data)
        if self.left < 0:
            raise tarfile.ReadError(f"unpacks to more than {MAX_RATIO} times its size")
        buffer[: len(data)] = data
        return len(data)


def open_tar(name: str) -> tarfile.TarFile:
    """A plain archive, whose members can be read in any order.

    Raises:
        TarError: If the archive ``name`` is damaged, or a header in it is far too long. Reading its members
            may raise the same error.
    """
    return tarfile.open(name, "r:", tarinfo=_Member)


def opener_of(start: bytes) -> Callable[..., Any] | None:
    """What opens a file compressed with gzip, bzip2 or xz, by its first bytes; None if it is not."""
    return next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)


def is_packed(name: str) -> bool:
    """Whether a file is compressed, by its first bytes."""
    with Path(name).open("rb") as file:
        return opener_of(file.read(START_BYTES)) is not None


@contextmanager
def open_packed_tar(name: str) -> Iterator[tarfile.TarFile]:
    """Open a tar archive whose first bytes tell its compression, to be read once and in sequence.

    Raises:
        TarError: If the archive ``name`` is damaged, has a header that is far too long, or unpacks to far too
            many bytes.
    """
    path = Path(name)
    with path.open("rb") as file:
        opener = opener_of(file.read(START_BYTES)) or open
    size = path.stat().st_size
    with (
        opener(name, "rb") as file,
        tarfile.open(fileobj=Unpacked(file, size), mode="r|", tarinfo=_Member) as tar,
    ):
        yield tar
