"""From what a user names (files, folders, lists, archives) to a stream of CIFs."""

from __future__ import annotations

import glob
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TextIO

from mofgap.choices import Disorder
from mofgap.crystals.cif import MAX_ATOMS, Entry, ReadFailure, read_cif_bytes, stem_of, unforeseen
from mofgap.crystals.sites import CifError
from mofgap.crystals.tar_archive import open_packed_tar, open_tar

# A CIF of a thousand atoms has 0.1 MB, one with its reflections a few; more is some other file. Its words may
# take sixteen times as much memory.
MAX_FILE_BYTES = 32 * 2**20
# The name of a CIF that has none.
STANDARD_INPUT = "stdin"
_PLAIN_TAR = (".tar",)
_PACKED_TAR = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_ARCHIVE_ERRORS = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError)


@dataclass(frozen=True)
class InputItem:
    """One CIF to be read, cheap to send to another process.

    Attributes:
        source: The name to show: a path, or ``archive.zip:folder/name.cif``.
        path: The file, or the archive.
        member: Place in the list of a zip archive, whose names may occur twice.
        span: Offset and size in bytes within a plain tar archive.
        data: Its content, where the archive can only be read in sequence.
    """

    source: str
    path: str
    member: int | None = None
    span: tuple[int, int] | None = None
    data: bytes | None = None

    def read(self) -> bytes:
        """The bytes of the CIF.

        Raises:
            CifError: The file or archive member cannot be read, or is larger than `MAX_FILE_BYTES`.
        """
        if self.data is not None:
            _check_size(len(self.data))
            return self.data
        try:
            if self.member is not None:
                now = Path(self.path).stat()
                archive = _open_zip(self.path, os.getpid(), (now.st_ino, now.st_size, now.st_mtime_ns))
                info = archive.infolist()[self.member]
                _check_size(info.file_size)
                return archive.read(info)
            if not stat.S_ISREG(os.stat(self.path).st_mode):  # noqa: PTH116 (a Path for each file is slow)
                raise OSError("not a regular file")  # a pipe without a writer would block for ever
            with Path(self.path).open("rb") as file:
                if self.span is not None:
                    _check_size(self.span[1])
                    file.seek(self.span[0])
                    return file.read(self.span[1])
                _check_size(os.fstat(file.fileno()).st_size)
                return file.read()
        except CifError:
            raise
        except Exception as error:  # a damaged archive may lead its reader to any
            raise CifError(
                f"unreadable-file: {_message(error)}; check the file and its permissions"
            ) from error


def read_input(item: InputItem, *, disorder: Disorder = "refuse", max_atoms: int = MAX_ATOMS) -> list[Entry]:
    """Reads an item of the stream, see `read_cif`; whatever is wrong with it is a `ReadFailure`."""
    try:
        return read_cif_bytes(_unpacked(item.read()), item.source, disorder=disorder, max_atoms=max_atoms)
    except CifError as error:
        reason = str(error)
    except Exception as error:  # one file that no reader was ready for must not cost the others
        reason = unforeseen(error)
    return [_failure(item.source, reason)]


def read_cif_file(
    path: str | Path, *, disorder: Disorder = "refuse", max_atoms: int = MAX_ATOMS
) -> list[Entry]:
    """Reads one CIF file, see `read_input`."""
    return read_input(InputItem(str(path), str(path)), disorder=disorder, max_atoms=max_atoms)


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; none has the long name of an archive's member."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def expand_inputs(
    names: Iterable[str | Path], stdin: Iterable[str] = ()
) -> Iterator[InputItem | ReadFailure]:
    """The CIFs that a command line names, lazily and always in the same order.

    Folders give their ``*.cif`` and ``*.cif.gz`` at any depth, files before subfolders, by name, then in
    linked folders not met yet; zip and plain tar archives their members by name; compressed tar
    archives their members as stored, since sorting would need all of them at once. ``@list.txt`` holds a name
    a line (empty lines and ``#`` comments apart), ``-`` takes such lines from standard input, or the text of
    a CIF; relative names count from the working directory.

    Args:
        names: Files, folders, glob patterns, archives, ``@list.txt`` or ``-``.
        stdin: Lines for ``-``.

    Yields:
        An `InputItem` for each CIF, a `ReadFailure` for each name that leads nowhere.
    """
    for name in map(str, names):
        if name == "-":
            yield from _from_stdin(stdin)
        elif name.startswith("@") and not os.path.exists(name):  # noqa: PTH110 (a Path may raise)
            yield from _from_list(name[1:])
        else:
            yield from _from_path(name)


def files_of(name: str) -> Iterator[str]:
    """The files that a name of `expand_inputs` leads to, none of them opened but a list of names."""
    if name.startswith("@") and not os.path.exists(name):  # noqa: PTH110 (a Path may raise)
        with _list(name[1:]) as lines:
            for each in _names(lines):
                yield from _files_of_path(each)  # a list in a list is none
    else:
        yield from _files_of_path(name)


def _files_of_path(name: str) -> Iterator[str]:
    if os.path.isdir(name):  # noqa: PTH112
        yield from (item.path for item in _from_folder(name) if isinstance(item, InputItem))
    elif os.path.exists(name):  # noqa: PTH110
        yield name
    else:
        for each in sorted(glob.iglob(name, recursive=True)):  # noqa: PTH207 (absolute patterns too)
            yield from _files_of_path(each)


def _list(name: str) -> TextIO:
    """A list of names, which are bytes: those that are no text must survive."""
    return Path(name).open(encoding="utf-8-sig", errors="surrogateescape")


def _names(lines: Iterable[str]) -> Iterator[str]:
    return (name for line in lines if (name := line.strip()) and not name.startswith("#"))


def _from_lines(lines: Iterable[str]) -> Iterator[InputItem | ReadFailure]:
    for name in _names(lines):
        yield from _from_path(name)


def _from_stdin(lines: Iterable[str]) -> Iterator[InputItem | ReadFailure]:
    """A list of names, or one CIF: its first line but comments is ``data_NAME``, and the next has a tag."""
    stream = iter(lines)
    start: list[str] = []
    words: list[str] = []
    for line in stream:
        start.append(line)
        if word := line.strip().lower() if not line.lstrip().startswith("#") else "":
            words.append(word)
        if len(words) == 2 or (words and not words[0].startswith("data_")):
            break
    rest = chain(start, stream)
    if len(words) < 2 or not words[1].startswith(("_", "loop_")):
        yield from _from_lines(rest)
        return
    text, size = [], 0
    for line in rest:
        text.append(line)
        size += len(line)
        if size > MAX_FILE_BYTES:
            break
    data = "".join(text).encode("utf-8", "surrogateescape")
    yield InputItem(STANDARD_INPUT, STANDARD_INPUT, data=data)


def _from_list(name: str) -> Iterator[InputItem | ReadFailure]:
    try:
        with _list(name) as lines:
            yield from _from_lines(lines)
    except OSError as error:
        yield _failure(f"@{name}", f"unreadable-list: {_message(error)}; check the list")


def _from_path(name: str) -> Iterator[InputItem | ReadFailure]:
    try:
        mode = Path(name).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        yield from _from_pattern(name)
    except (OSError, ValueError) as error:
        yield _failure(name, f"unreadable-file: {_message(error)}; check the path and its permissions")
    else:
        if stat.S_ISDIR(mode):
            yield from _nonempty(_from_folder(name), name)
        elif stat.S_ISREG(mode) and name.lower().endswith((*_PLAIN_TAR, *_PACKED_TAR, ".zip")):
            yield from _nonempty(_from_archive(name), name)
        else:
            yield InputItem(name, name)


def _from_pattern(name: str) -> Iterator[InputItem | ReadFailure]:
    if not glob.has_magic(name):
        yield _failure(name, "missing-file: no such file or folder; check the path")
        return
    matches = sorted(glob.iglob(name, recursive=True))  # noqa: PTH207 (absolute patterns too)
    if not matches:
        yield _failure(name, "no-match: no file matches the pattern; check the pattern")
    for match in matches:
        yield from _from_path(match)


def _nonempty(items: Iterator[InputItem | ReadFailure], name: str) -> Iterator[InputItem | ReadFailure]:
    """The items, or a failure if there are none."""
    empty = True
    for item in items:
        empty = False
        yield item
    if empty:
        yield _failure(name, "no-cifs: holds no file ending in .cif; check the path")


def _is_cif(name: str) -> bool:
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    return base.lower().endswith((".cif", ".cif.gz")) and not base.startswith(".")


def _from_folder(name: str) -> Iterator[InputItem | ReadFailure]:
    """Linked folders come last and no folder is read twice, so that links to folders above them end."""
    unlisted: list[OSError] = []
    met: set[str] = set()
    starts = [name]
    for start in starts:
        for folder, subfolders, files in os.walk(start, onerror=unlisted.append):
            if (real := os.path.realpath(folder)) in met:
                subfolders.clear()
                continue
            met.add(real)
            # Hidden ones hold checkpoints of editors and snapshots of file servers.
            subfolders[:] = sorted(each for each in subfolders if not each.startswith("."))
            paths = (os.path.join(folder, each) for each in subfolders)  # noqa: PTH118
            starts += filter(os.path.islink, paths)  # os.walk does not enter these
            for file in sorted(filter(_is_cif, files)):
                path = os.path.join(folder, file)  # noqa: PTH118 (a Path for each of many files is slow)
                yield InputItem(path, path)
    for error in unlisted:
        yield _failure(str(error.filename), f"unreadable-folder: {_message(error)}; check its permissions")


def _from_archive(name: str) -> Iterator[InputItem | ReadFailure]:
    try:
        if name.lower().endswith(".zip"):
            with zipfile.ZipFile(name) as archive:
                names = sorted(
                    (each, place) for place, each in enumerate(archive.namelist()) if _is_cif(each)
                )
            yield from (InputItem(f"{name}:{each}", name, place) for each, place in names)
        elif name.lower().endswith(_PLAIN_TAR):
            with open_tar(name) as tar:
                for info in sorted(filter(_is_tar_cif, tar), key=lambda info: info.name):
                    if info.isfile():
                        yield InputItem(f"{name}:{info.name}", name, span=(info.offset_data, info.size))
                    else:
                        yield _from_tar_member(tar, info, name)
        else:
            with open_packed_tar(name) as tar:
                yield from (_from_tar_member(tar, info, name) for info in tar if _is_tar_cif(info))
    except _ARCHIVE_ERRORS as error:
        yield _failure(name, f"bad-archive: {_message(error)}; the archive is damaged, fetch it again")


def _from_tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo, name: str) -> InputItem | ReadFailure:
    """A member with its content, a link with that of the member it leads to."""
    source = f"{name}:{info.name}"
    try:
        _check_size(info.size)
        file = tar.extractfile(info)
        data = file.read(MAX_FILE_BYTES + 1) if file else b""
        _check_size(len(data))  # a link says nothing of it
    except CifError as error:
        return _failure(source, str(error))
    except (KeyError, RecursionError, tarfile.StreamError):  # leads out of the archive, to itself, or back
        reason = f"unreadable-file: a link to {info.linkname}, not followed here; unpack the archive"
        return _failure(source, reason)
    return InputItem(source, name, data=data)


def _is_tar_cif(info: tarfile.TarInfo) -> bool:
    return (info.isfile() or info.islnk() or info.issym()) and _is_cif(info.name)


def _unpacked(data: bytes) -> bytes:
    """The bytes of a CIF that may be compressed with gzip."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        with gzip.open(io.BytesIO(data)) as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except EOFError as error:
        raise CifError("unreadable-file: ends early; the file is damaged, fetch it again") from error
    except (OSError, zlib.error) as error:
        raise CifError(f"unreadable-file: {_message(error)}; the file is damaged, fetch it again") from error
    _check_size(len(text))
    return text


def _failure(source: str, reason: str) -> ReadFailure:
    return ReadFailure(source, stem_of(source), reason)


def _check_size(n_bytes: int) -> None:
    if n_bytes > MAX_FILE_BYTES:
        raise CifError(
            f"too-large: {n_bytes / 2**20:.0f} MB, the limit is {MAX_FILE_BYTES // 2**20} MB; "
            "give the structure alone"
        )


def _message(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or "ends early"


@lru_cache(maxsize=4)
def _open_zip(path: str, pid: int, state: tuple[int, int, int]) -> zipfile.ZipFile:
    """An archive kept open while it stays as it is; a forked process has another pid, and opens its own."""
    return zipfile.ZipFile(path)
