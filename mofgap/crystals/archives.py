"""The members of zip and tar archives as inputs."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter

from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.formats import PACKED, kind_of
from mofgap.crystals.item import MAX_FILE_BYTES, InputItem, check_size, failure, message
from mofgap.crystals.reasons import StructureError
from mofgap.crystals.several import of_some_size
from mofgap.crystals.tar_archive import is_packed, open_packed_tar, open_tar

_PLAIN_TAR = (".tar",)
_PACKED_TAR = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
TARS = (*_PLAIN_TAR, *_PACKED_TAR)
ARCHIVES = (*TARS, ".zip")
_SHRUNK = 5
"""How many times smaller compression makes a CIF."""
_ERRORS = (
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError),
    NotImplementedError,  # a zip archive of a later version
    UnicodeDecodeError,  # a name in a zip archive that is not in the code it says
)


def members(name: str) -> Iterator[InputItem | ReadFailure]:
    """The files of an archive, those of no known format without content; a damaged archive is a failure.

    Where two have one name, the second is ``archive.zip:2/NAME``: rows are found again by their names.
    """
    places: dict[int, int] = {}  # by hashes, since the names themselves would fill the memory
    for item in _members(name):
        member, source = item.source.removeprefix(f"{name}:"), item.source
        key, place = hash(source), places.get(hash(source), 0) + 1
        while place > 1 and hash(source := f"{name}:{place}/{member}") in places:
            place += 1
        places[key] = places[hash(source)] = place
        yield item if place == 1 else replace(item, source=source)


def _members(name: str) -> Iterator[InputItem | ReadFailure]:
    try:
        if name.lower().endswith(".zip"):
            with zipfile.ZipFile(name) as archive:
                infos = of_some_size(archive.infolist(), lambda info: _size_of(info.filename, info.file_size))
                names = sorted(
                    (each.filename, place)
                    for place, each in enumerate(infos)
                    if not each.filename.endswith("/")
                )
            yield from (InputItem(f"{name}:{each}", name, place) for each, place in names)
        elif name.lower().endswith(_PLAIN_TAR) and not is_packed(name):
            with open_tar(name) as tar:
                for info in sorted(_files(tar), key=attrgetter("name")):
                    if info.isfile():
                        yield _in_tar(tar, info, name)
                    else:
                        yield _from_tar(tar, info, name)
        else:
            with open_packed_tar(name) as tar:
                yield from (_from_tar(tar, info, name) for info in _files(tar))
    except StructureError as error:
        yield failure(name, f"{str(error).partition(';')[0]}; unpack it, or leave out what is no structure")
    except _ERRORS as error:
        yield failure(name, f"bad-archive: {message(error)}; the archive is damaged, fetch it again")


def _in_tar(tar: tarfile.TarFile, info: tarfile.TarInfo, name: str) -> InputItem:
    """A member by its place, with the checksum of its header: another member may lie there later."""
    assert tar.fileobj is not None
    tar.fileobj.seek(info.offset_data - tarfile.BLOCKSIZE)
    crc = zlib.crc32(tar.fileobj.read(tarfile.BLOCKSIZE))
    return InputItem(f"{name}:{info.name}", name, span=(info.offset_data, info.size), header_crc=crc)


def _from_tar(tar: tarfile.TarFile, info: tarfile.TarInfo, name: str) -> InputItem | ReadFailure:
    """A member with its content, a link with that of the member it leads to."""
    source = f"{name}:{info.name}"
    if kind_of(info.name) is None:
        return InputItem(source, name, data=b"")
    try:
        check_size(info.size)
        file = tar.extractfile(info)
        data = file.read(MAX_FILE_BYTES + 1) if file else b""
        check_size(len(data))  # a link says nothing of it
    except StructureError as error:
        return failure(source, str(error))
    except (KeyError, RecursionError, tarfile.StreamError):  # leads out of the archive, to itself, or back
        reason = f"unreadable-file: a link to {info.linkname}, not followed here; unpack the archive"
        return failure(source, reason)
    return InputItem(source, name, data=data)


def _files(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    files = (info for info in tar if info.isfile() or info.islnk() or info.issym())
    return of_some_size(files, lambda info: _size_of(info.name, info.size) if info.isfile() else None)


def _size_of(name: str, n_bytes: int) -> int | None:
    """The size of a member, unpacked if need be; None of one that need not be a structure."""
    if kind_of(name) not in ("cif", "poscar"):
        return None
    return n_bytes * (_SHRUNK if name.lower().endswith(PACKED) else 1)
