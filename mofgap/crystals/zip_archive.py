"""Zip archives of which every member can be read."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

_READ = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA})
_ENCRYPTED = 1


def open_zip(file: Path | IO[bytes]) -> zipfile.ZipFile:
    """Open an archive.

    Raises:
        BadZipFile: If the archive is damaged, or a member is encrypted or packed by a method that Python
            cannot read. One such method is Deflate64, which Windows uses for large archives.
    """
    try:
        archive = zipfile.ZipFile(file)
    except NotImplementedError as error:  # of a later version
        raise zipfile.BadZipFile(str(error)) from error
    for info in archive.infolist():
        if words := unreadable(info):
            raise zipfile.BadZipFile(f"{info.filename} is {words}")
    return archive


def unreadable(info: zipfile.ZipInfo) -> str:
    """Why Python cannot read a member; empty if it can."""
    if info.flag_bits & _ENCRYPTED:
        return "encrypted"
    return "" if info.compress_type in _READ else f"packed by method {info.compress_type}"
