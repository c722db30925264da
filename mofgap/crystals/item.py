"""One input: a file, or one structure of a file or archive of several; and what it holds."""

from __future__ import annotations

import io
import json
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from mofgap.choices import MAX_ATOMS, Disorder
from mofgap.crystals.ase_files import record_of
from mofgap.crystals.cif import decode, read_cif_bytes
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dictionaries import crystal_of_dictionary, identifier_in, is_structure, structures_in
from mofgap.crystals.entry import Entry, ReadFailure, unforeseen
from mofgap.crystals.formats import LONGEST_NAME, Kind, stem_of
from mofgap.crystals.poscar import read_poscar
from mofgap.crystals.reasons import StructureError
from mofgap.crystals.tar_archive import opener_of
from mofgap.crystals.unit_cell import check_apart, check_usable
from mofgap.crystals.xyz import read_xyz
from mofgap.crystals.zip_archive import unreadable
from mofgap.crystals.zip_member import CHANGED, Packed, read_packed

# A CIF of a thousand atoms has 0.1 MB, one with its reflections a few; more is some other file. Its words may
# take sixteen times as much memory.
MAX_FILE_BYTES = 32 * 2**20


@dataclass(frozen=True)
class InputItem:
    """One input to be read, cheap to send to another process.

    Attributes:
        source: The name to show: a path, ``archive.zip:folder/name.cif``, or ``frames.xyz:2``.
        path: The file, or the archive.
        member: Place in the list of a zip archive, whose names may occur twice.
        span: Offset and size in bytes within a plain tar archive.
        header_crc: CRC-32 of the header before it there; None where the archive cannot have changed.
        packed: Where it lies in a zip archive, in place of ``member``.
        data: Its content, where the file or archive can only be read in sequence.
        kind: Its format.
        number: Of the structure in a database or trajectory.
        name: Of the structure; empty for the stem of the file.
        named: Whether an identifier in its content comes before ``name``, as where a file holds several.
    """

    source: str
    path: str
    member: int | None = None
    span: tuple[int, int] | None = None
    header_crc: int | None = None
    packed: Packed | None = None
    data: bytes | None = None
    kind: Kind = "cif"
    number: int | None = None
    name: str = ""
    named: bool = False

    @property
    def structure_id(self) -> str:
        """The name of its structure, as far as it is known before it is read."""
        return self.name or stem_of(self.source)

    def read(self) -> bytes:
        """Its bytes; of a structure in a database or trajectory, a JSON that says the same.

        Raises:
            StructureError: If the file or archive member cannot be read, or is larger than `MAX_FILE_BYTES`.
        """
        if self.data is not None:
            check_size(len(self.data))
            return self.data
        try:
            if self.number is not None:
                return record_of(self.path, self.kind, self.number)
            if self.packed is not None:
                return read_packed(self.path, self.packed, check_size)
            if self.member is not None:
                now = Path(self.path).stat()
                archive = _open_zip(self.path, os.getpid(), (now.st_ino, now.st_size, now.st_mtime_ns))
                info = archive.infolist()[self.member]
                check_size(info.file_size)
                if words := unreadable(info):
                    raise StructureError(f"unreadable-file: it is {words}; unpack the archive first")
                return archive.read(info)
            if not stat.S_ISREG(os.stat(self.path).st_mode):  # noqa: PTH116 (a Path for each file is slow)
                raise OSError("not a regular file")  # a pipe without a writer would block for ever
            with Path(self.path).open("rb") as file:
                if self.span is not None:
                    return self._of_tar(file, *self.span)
                check_size(os.fstat(file.fileno()).st_size)
                return file.read()
        except StructureError:
            raise
        except Exception as error:  # a damaged archive may lead its reader to any
            raise StructureError(
                f"unreadable-file: {message(error)}; check the file and its permissions"
            ) from error

    def _of_tar(self, file: BinaryIO, offset: int, size: int) -> bytes:
        """A member of a plain tar archive.

        Raises:
            OSError: If the archive has changed since the member was found.
        """
        check_size(size)
        file.seek(offset - tarfile.BLOCKSIZE)
        header = file.read(tarfile.BLOCKSIZE)
        if self.header_crc not in (None, zlib.crc32(header)):
            raise OSError(CHANGED)
        return file.read(size)


def read_input(item: InputItem, *, disorder: Disorder = "refuse", max_atoms: int = MAX_ATOMS) -> list[Entry]:
    """Reads an input, see `read_cif` for CIFs; whatever is wrong with it is a `ReadFailure`."""
    name = item.structure_id
    try:
        data = unpacked(item.read())
        if item.kind == "cif":
            return read_cif_bytes(data, item.source, disorder=disorder, max_atoms=max_atoms)
        if item.kind in ("json", "db", "traj"):
            row = json.loads(data)
            name = _name_in(row, item)
            crystal = crystal_of_dictionary(_structure_in(row), name, item.source, max_atoms)
        else:
            crystal = _of_text(item, data, max_atoms)
            name = crystal.structure_id
        check_usable(crystal)
        check_apart(crystal)
        return [crystal]
    except StructureError as error:
        reason = str(error)
    except Exception as error:  # one file that no reader was ready for must not cost the others
        reason = unforeseen(error)
    return [failure(item.source, reason, name)]


def _of_text(item: InputItem, data: bytes, max_atoms: int) -> Crystal:
    """The structure of a POSCAR or xyz file.

    Raises:
        StructureError: If ``data`` are no structure in the format of ``item``.
    """
    name, source = item.structure_id, item.source
    text, _ = decode(data)
    if item.kind == "poscar":
        return read_poscar(text, name, source, max_atoms)
    return read_xyz(text, name, source, max_atoms, named=item.named)


def _name_in(row: Any, item: InputItem) -> str:
    """The identifier that an object of a JSON file has, where its file holds several; else the item's."""
    if not item.named or not isinstance(row, Mapping):
        return item.structure_id
    values = {**row, **(row.get("key_value_pairs") or {})}  # where ASE keeps what users say
    given = identifier_in(values)
    return item.structure_id if given is None else str(values[given])[:LONGEST_NAME]


def _structure_in(row: Any) -> Any:
    """The dictionary of the one structure of an object of a JSON file.

    Raises:
        StructureError: If the object holds no structure, or several.
    """
    if not isinstance(row, Mapping) or is_structure(row):
        return row
    found = structures_in(row)
    if len(found) != 1:
        what = f"{len(found)} structures ({', '.join(found)})" if found else "no structure"
        raise StructureError(f"bad-record: the object holds {what}; give one of pymatgen, JARVIS or ASE")
    return row[found[0]]


def unpacked(data: bytes) -> bytes:
    """The bytes of a file that may be compressed with gzip, bzip2 or xz.

    Raises:
        StructureError: If the compressed ``data`` are damaged, or unpack to more than `MAX_FILE_BYTES`.
    """
    opener = opener_of(data)
    if opener is None:
        return data
    try:
        with opener(io.BytesIO(data)) as file:
            text: bytes = file.read(MAX_FILE_BYTES + 1)
    except EOFError as error:
        raise StructureError("unreadable-file: ends early; the file is damaged, fetch it again") from error
    except (OSError, zlib.error, lzma.LZMAError) as error:
        raise StructureError(
            f"unreadable-file: {message(error)}; the file is damaged, fetch it again"
        ) from error
    check_size(len(text))
    return text


def failure(source: str, reason: str, name: str = "") -> ReadFailure:
    """An input that gave no structure, named by the stem of its file where it has no name of its own."""
    return ReadFailure(source, name or stem_of(source), reason)


def check_size(n_bytes: int) -> None:
    """Refuse a file that is too large for one structure.

    Raises:
        StructureError: If ``n_bytes`` exceeds `MAX_FILE_BYTES`.
    """
    if n_bytes > MAX_FILE_BYTES:
        raise StructureError(
            f"too-large: {n_bytes / 2**20:.1f} MB, the limit is {MAX_FILE_BYTES // 2**20} MB; "
            "split the file, or give the structure alone"
        )


def message(error: Exception) -> str:
    """The message of an exception; for errors of the file system, the system's own words."""
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or "ends early"


@lru_cache(maxsize=4)
def _open_zip(path: str, pid: int, state: tuple[int, int, int]) -> zipfile.ZipFile:
    """An archive kept open while it stays as it is; a forked process has another pid, and opens its own."""
    return zipfile.ZipFile(path)
