"""A member of a zip archive by its place in the file, without the archive's table of contents.

That table names all members, so that each process which opens a large archive spends minutes on it.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from mofgap.crystals.zip_archive import unreadable

Packed = tuple[int, int, int, int, int]
"""Offset, size there, size unpacked, method and CRC-32."""

_HEADER_BYTES, _SIGNATURE = 30, b"PK\x03\x04"
CHANGED = "the archive changed since it was listed; list it again"


def packed(info: zipfile.ZipInfo) -> Packed | None:
    """Where a member lies; None where only `zipfile` can read it."""
    if unreadable(info) or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return None
    return info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC


def read_packed(path: str, where: Packed, check_size: Callable[[int], None]) -> bytes:
    """The bytes of a member.

    Args:
        path: The archive.
        where: See `packed`.
        check_size: Refuses a member that is too large. Its argument is the size in bytes.

    Raises:
        OSError: If the file ``path`` cannot be read, or has changed since ``where`` was found.
    """
    offset, n_packed, n_bytes, method, crc = where
    check_size(max(n_bytes, n_packed))
    with Path(path).open("rb") as file:
        file.seek(offset)
        header = file.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES or not header.startswith(_SIGNATURE):
            raise OSError(CHANGED)
        # The name, and fields that the table of contents does not have.
        file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
        data = file.read(n_packed)
    if method == zipfile.ZIP_DEFLATED:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, n_bytes + 1)
        except zlib.error as error:
            raise OSError(CHANGED) from error
    if len(data) != n_bytes or zlib.crc32(data) != crc:
        raise OSError(CHANGED)
    return data
