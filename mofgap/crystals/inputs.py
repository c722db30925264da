"""From what a user names (files, folders, lists, archives) to a stream of CIFs."""

from __future__ import annotations

import glob
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mofgap.crystals.cif import MAX_ATOMS, Entry, ReadFailure, read_cif_bytes
from mofgap.crystals.disorder import Disorder
from mofgap.crystals.sites import CifError

# A CIF of a thousand atoms has 0.1 MB, one with its reflections a few; more is some other file.
MAX_FILE_BYTES = 64 * 2**20
_PLAIN_TAR = (".tar",)
_PACKED_TAR = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_ARCHIVE_ERRORS = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError)


@dataclass(frozen=True)
class InputItem:
    """One CIF to be read, cheap to send to another process.

    Attributes:
        source: The name to show: a path, or ``archive.zip:folder/name.cif``.
        path: The file, or the archive.
        member: Name within a zip archive.
        span: Offset and size in bytes within a plain tar archive.
        data: Its content, where the archive can only be read in sequence.
    """

    source: str
    path: str
    member: str = ""
    span: tuple[int, int] | None = None
    data: bytes | None = None

    def read(self) -> bytes:
        """The bytes of the CIF.

        Raises:
            CifError: the file cannot be read, or is far too large.
        """
        if self.data is not None:
            return self.data
        try:
            if self.member:
                archive = _open_zip(self.path, os.getpid())
                _check_size(archive.getinfo(self.member).file_size)
                return archive.read(self.member)
            with Path(self.path).open("rb") as file:
                if self.span is not None:
                    _check_size(self.span[1])
                    file.seek(self.span[0])
                    return file.read(self.span[1])
                _check_size(os.fstat(file.fileno()).st_size)
                return file.read()
        except (*_ARCHIVE_ERRORS, RuntimeError, KeyError) as error:
            raise CifError(
                f"unreadable-file: {_message(error)}; check the file and its permissions"
            ) from error


def read_input(item: InputItem, *, disorder: Disorder = "refuse", max_atoms: int = MAX_ATOMS) -> list[Entry]:
    """Reads an item of the stream, see `read_cif`; whatever is wrong with it is a `ReadFailure`."""
    try:
        return read_cif_bytes(item.read(), item.source, disorder=disorder, max_atoms=max_atoms)
    except CifError as error:
        reason = str(error)
    except Exception as error:  # one file that no reader was ready for must not cost the others
        reason = f"unreadable: {type(error).__name__}: {error}"
    return [ReadFailure(item.source, Path(item.member or item.path).stem, reason)]


def expand_inputs(
    names: Iterable[str | Path], stdin: Iterable[str] = ()
) -> Iterator[InputItem | ReadFailure]:
    """The CIFs that a command line names, lazily and always in the same order.

    Folders give their ``*.cif`` at any depth, files before subfolders, by name; zip and plain tar archives
    their members by name; compressed tar archives their members as stored, since sorting would need all of
    them at once. ``@list.txt`` holds a name a line (empty lines and ``#`` comments apart), ``-`` takes such
    lines from standard input; relative names count from the working directory.

    Args:
        names: Files, folders, glob patterns, archives, ``@list.txt`` or ``-``.
        stdin: Lines for ``-``.

    Yields:
        An `InputItem` for each CIF, a `ReadFailure` for each name that leads nowhere.
    """
    for name in map(str, names):
        if name == "-":
            yield from _from_lines(stdin)
        elif name.startswith("@") and not Path(name).exists():
            yield from _from_list(name[1:])
        else:
            yield from _from_path(name)


def _from_lines(lines: Iterable[str]) -> Iterator[InputItem | ReadFailure]:
    for line in lines:
        if (name := line.strip()) and not name.startswith("#"):
            yield from _from_path(name)


def _from_list(name: str) -> Iterator[InputItem | ReadFailure]:
    try:
        with Path(name).open(encoding="utf-8-sig") as lines:
            yield from _from_lines(lines)
    except (OSError, UnicodeDecodeError) as error:
        yield ReadFailure(f"@{name}", Path(name).stem, f"unreadable-list: {_message(error)}; check the list")


def _from_path(name: str) -> Iterator[InputItem | ReadFailure]:
    path = Path(name)
    if path.is_dir():
        yield from _nonempty(_from_folder(name), name)
    elif path.exists():
        lower = name.lower()
        if lower.endswith((*_PLAIN_TAR, *_PACKED_TAR, ".zip")):
            yield from _nonempty(_from_archive(name), name)
        else:
            yield InputItem(name, name)
    elif glob.has_magic(name):
        matches = sorted(glob.iglob(name, recursive=True))  # noqa: PTH207 (absolute patterns too)
        if not matches:
            yield ReadFailure(name, path.stem, "no-match: no file matches the pattern; check the pattern")
        for match in matches:
            yield from _from_path(match)
    else:
        yield ReadFailure(name, path.stem, "missing-file: no such file or folder; check the path")


def _nonempty(items: Iterator[InputItem | ReadFailure], name: str) -> Iterator[InputItem | ReadFailure]:
    """The items, or a failure if there are none."""
    empty = True
    for item in items:
        empty = False
        yield item
    if empty:
        yield ReadFailure(name, Path(name).stem, "no-cifs: holds no file ending in .cif; check the path")


def _is_cif(name: str) -> bool:
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    return base.lower().endswith(".cif") and not base.startswith(".")


def _from_folder(name: str) -> Iterator[InputItem | ReadFailure]:
    for folder, subfolders, files in os.walk(name):
        subfolders.sort()
        for file in sorted(filter(_is_cif, files)):
            path = os.path.join(folder, file)  # noqa: PTH118 (a Path for each of many files is slow)
            yield InputItem(path, path)


def _from_archive(name: str) -> Iterator[InputItem | ReadFailure]:
    try:
        if name.lower().endswith(".zip"):
            with zipfile.ZipFile(name) as archive:
                members = sorted(filter(_is_cif, archive.namelist()))
            yield from (InputItem(f"{name}:{member}", name, member) for member in members)
        elif name.lower().endswith(_PLAIN_TAR):
            with tarfile.open(name, "r:") as tar:
                infos = sorted((info for info in tar if _is_tar_cif(info)), key=lambda info: info.name)
            for info in infos:
                yield InputItem(f"{name}:{info.name}", name, span=(info.offset_data, info.size))
        else:
            yield from _from_packed_tar(name)
    except _ARCHIVE_ERRORS as error:
        yield ReadFailure(
            name, Path(name).stem, f"bad-archive: {_message(error)}; the archive is damaged, fetch it again"
        )


def _from_packed_tar(name: str) -> Iterator[InputItem | ReadFailure]:
    with tarfile.open(name, "r|*") as tar:
        for info in tar:
            if not _is_tar_cif(info) or (file := tar.extractfile(info)) is None:
                continue
            source = f"{name}:{info.name}"
            try:
                _check_size(info.size)
            except CifError as error:
                yield ReadFailure(source, Path(info.name).stem, str(error))
                continue
            yield InputItem(source, name, data=file.read())


def _is_tar_cif(info: tarfile.TarInfo) -> bool:
    return info.isfile() and _is_cif(info.name)


def _check_size(n_bytes: int) -> None:
    if n_bytes > MAX_FILE_BYTES:
        raise CifError(
            f"too-large: {n_bytes / 2**20:.0f} MB, the limit is {MAX_FILE_BYTES // 2**20} MB; "
            "give the structure alone"
        )


def _message(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or "ends early"


@lru_cache(maxsize=4)
def _open_zip(path: str, pid: int) -> zipfile.ZipFile:
    """An archive kept open between reads; never shared with a forked process, which has another pid."""
    return zipfile.ZipFile(path)
