"""From what a user names (files, folders, lists, archives) to a stream of inputs."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import TextIO

from mofgap.choices import MAX_ATOMS, Disorder
from mofgap.counts import counted
from mofgap.crystals.archives import ARCHIVES, members
from mofgap.crystals.entry import Entry, ReadFailure
from mofgap.crystals.formats import KNOWN, base_of, kind_of
from mofgap.crystals.item import MAX_FILE_BYTES, InputItem, failure, message, read_input
from mofgap.crystals.reasons import EMPTY_FOLDER, MISSING, NO_MATCH
from mofgap.crystals.several import holds_crystals, items_in

# The name of a CIF that has none.
STANDARD_INPUT = "stdin"
# Of standard input, lines that tell a list from another file, and characters of a path on Linux.
_FIRST_NAMES, _FEW_NAMES, _LONGEST_PATH = 10, 3, 4096

Inputs = Iterator[InputItem | ReadFailure]
PassedOver = Counter[str]
"""How many files of each ending lay in folders and archives, and were not read."""


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; none has the long name of an archive's member."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def expand_inputs(
    names: Iterable[str | Path], stdin: Iterable[str] = (), passed_over: PassedOver | None = None
) -> Inputs:
    """The structures that a command line names, lazily and always in the same order.

    A file that is named is read, as a CIF if its ending says nothing. Folders give the files of a known
    format at any depth, files before subfolders, by name, then in linked folders not met yet; zip and plain
    tar archives their members by name; compressed tar archives their members as stored, since sorting would
    need all of them at once. ``.xyz`` and ``.json`` may be anything: in folders and archives only those that
    begin with a cell or a structure are taken. A pattern that ends in ``*`` finds files as a folder does.
    ``@list.txt`` holds a name a line (empty lines and ``#`` comments apart), ``-`` takes such lines from
    standard input, or the text of a CIF; relative names count from the working directory.

    Args:
        names: Files, folders, glob patterns, archives, ``@list.txt`` or ``-``.
        stdin: Lines for ``-``.
        passed_over: Gets what was found and is not read.

    Yields:
        An `InputItem` for each CIF and each structure of another format, a `ReadFailure` for each name that
        leads nowhere.
    """
    expansion = _Expansion(PassedOver() if passed_over is None else passed_over)
    for name in map(str, names):
        if name == "-":
            yield from expansion.stdin(stdin)
        elif name.startswith("@") and not os.path.exists(name):  # noqa: PTH110 (a Path may raise)
            yield from expansion.list(name[1:])
        else:
            yield from expansion.path(name)


def items_of_file(path: str | Path, source: str = "") -> Inputs:
    """The structures of one file that is no archive, of the format that its name says, else a CIF.

    Args:
        path: The file.
        source: The name to show for it; by default its path.
    """
    return items_in(InputItem(source or str(path), str(path), kind=kind_of(str(path)) or "cif"))


def read_all(
    name: str | Path, *, disorder: Disorder = "refuse", max_atoms: int = MAX_ATOMS
) -> Iterator[Entry]:
    """The structures of a file, folder or archive as they are, see `expand_inputs` and `read_input`."""
    for item in expand_inputs([name]):
        if isinstance(item, InputItem):
            yield from read_input(item, disorder=disorder, max_atoms=max_atoms)
        else:
            yield item


def passed_over_words(passed_over: PassedOver, cure: str = "name it") -> str:
    """One line on what was not read, by ending: ``skipped 11 files ... (8 .txt, 3 .png) ...``, and a cure."""
    most = passed_over.most_common()
    kinds = ", ".join(f"{n} {ending or 'without ending'}" for ending, n in most[:4])
    more = f", {len(most) - 4} more endings" if len(most) > 4 else ""
    n = passed_over.total()
    what = "holds no structure or is an archive" if n == 1 else "hold no structure or are archives"
    return f"skipped {counted(n, 'file')} that {what} ({kinds}{more}); to read such a file, {cure}"


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
        yield from (each for each in folder_files(name, []) if kind_of(each))
    elif os.path.exists(name):  # noqa: PTH110
        yield name
    else:
        for each in _matches(name):
            yield from _files_of_path(each)


def _matches(pattern: str) -> Iterator[str]:
    """What a pattern matches, in order; what lies in a folder that it matches is left to the folder."""
    folders: set[str] = set()
    for each in sorted(glob.iglob(pattern, recursive=True)):  # noqa: PTH207 (absolute patterns too)
        if folders.isdisjoint(map(str, PurePath(each).parents)):
            if os.path.isdir(each):  # noqa: PTH112
                folders.add(str(PurePath(each)))
            yield each


def _list(name: str) -> TextIO:
    """A list of names, which are bytes: those that are no text must survive."""
    return Path(name).open(encoding="utf-8-sig", errors="surrogateescape")


_UTF16 = re.compile("\0[^\0]\0")


def _names(lines: Iterable[str]) -> Iterator[str]:
    """One name on each line, or from the first zero on between zeros, as ``find -print0`` separates them.

    A line is a comment if it begins with ``#`` and names no file.
    """
    zeros, rest = False, ""
    for line in lines:
        # In UTF-16 each other character is a zero.
        zeros = zeros or ("\0" in line and line.endswith(("\0", "\n")) and not _UTF16.search(line))
        if zeros:
            *whole, rest = (rest + line).split("\0")
            yield from filter(None, whole)
        elif name := _name(line.rstrip("\r\n")):
            yield name
    if rest.strip():
        yield rest.rstrip("\r\n")


def _name(line: str) -> str:
    """The name on a line, without blanks around it unless a file has them; empty for a comment."""
    name = line.strip()
    if name != line or name.startswith("#"):
        name = line if os.path.exists(line) else "" if name.startswith("#") else name  # noqa: PTH110
    return name


class _Expansion:
    """The inputs of names, and a count of what is passed over."""

    def __init__(self, passed_over: PassedOver) -> None:
        self.passed_over = passed_over

    def stdin(self, lines: Iterable[str]) -> Inputs:
        """A list of names, or one CIF."""
        cif, rest = _is_cif_text(iter(lines))
        if not cif:
            names = _names(rest)
            start: list[str] = []
            for name in islice(names, _FIRST_NAMES):
                start.append(name)
                if _leads_somewhere(name):  # and the others may still be to come
                    break
            if _is_list(start):
                for name in chain(start, names):
                    yield from self.path(name)
            else:
                what = "not-a-list: neither a CIF, nor a list of which one of the first names is a file"
                yield failure(STANDARD_INPUT, f"{what}; check the folder, or save it to a file and name that")
            return
        text, size = [], 0
        for line in rest:
            text.append(line)
            size += len(line)
            if size > MAX_FILE_BYTES:
                break
        data = "".join(text).encode("utf-8", "surrogateescape")
        yield InputItem(STANDARD_INPUT, STANDARD_INPUT, data=data)

    def list(self, name: str) -> Inputs:
        try:
            with _list(name) as lines:
                for each in _names(lines):
                    yield from self.path(each)
        except OSError as error:
            yield failure(f"@{name}", f"unreadable-list: {message(error)}; check the list")

    def path(self, name: str, *, named: bool = True) -> Inputs:
        """The inputs of a name; a file that is not ``named`` by the user must look like structures."""
        if not name:
            yield failure(name, f"{MISSING}: the name is empty; check the variable or list that it is from")
            return
        try:
            mode = Path(name).stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            yield from self.pattern(name)
        except (OSError, ValueError) as error:
            yield failure(name, f"unreadable-file: {message(error)}; check the path and its permissions")
        else:
            if stat.S_ISDIR(mode):
                yield from self.nonempty(self.folder(name), name)
            elif stat.S_ISREG(mode) and name.lower().endswith(ARCHIVES):
                yield from self.nonempty(self.archive(name), name)
            elif named:
                yield from items_of_file(name)
            else:
                yield from self.found(InputItem(name, name))

    def found(self, item: InputItem) -> Inputs:
        """A file that the user did not name: read, or passed over."""
        name = item.source
        kind = kind_of(name)
        if kind is not None and holds_crystals(item := replace(item, kind=kind)):
            yield from items_in(item)
        elif not (base := base_of(name)).startswith("."):
            self.passed_over[PurePath(base).suffix.lower()] += 1

    def pattern(self, name: str) -> Inputs:
        if not glob.has_magic(name):
            yield failure(name, f"{MISSING}: no such file or folder; check the path")
            return
        match = None
        for match in _matches(name):
            yield from self.path(match, named=not name.endswith("*"))
        if match is None:
            yield failure(name, f"{NO_MATCH}: no file matches the pattern; check the pattern")

    def folder(self, name: str) -> Inputs:
        unlisted: list[OSError] = []
        for path in folder_files(name, unlisted):
            yield from self.found(InputItem(path, path))
        for error in unlisted:
            yield failure(str(error.filename), f"unreadable-folder: {message(error)}; check its permissions")

    def archive(self, name: str) -> Inputs:
        for each in members(name):
            yield from self.found(each) if isinstance(each, InputItem) else [each]

    def nonempty(self, items: Inputs, name: str) -> Inputs:
        """The items, or a failure if there are none."""
        empty = True
        for item in items:
            empty = False
            yield item
        if empty:
            yield failure(name, f"{EMPTY_FOLDER} ({KNOWN}); check the path, or unpack archives in it")


def _is_list(start: list[str]) -> bool:
    """Whether the first lines of standard input may be names, and are not those of a file of any format."""
    if any(map(_leads_somewhere, start)):
        return True
    if start and (start[0].startswith(("{", "[")) or min(start[0]) < " "):
        return False
    return len(start) < _FEW_NAMES or sum(map(_is_like_a_name, start)) > 1


def _leads_somewhere(name: str) -> bool:
    if os.path.exists(name) or os.path.exists(name.removeprefix("@")):  # noqa: PTH110 (a Path may raise)
        return True
    is_pattern = glob.has_magic(name) and len(name) <= _LONGEST_PATH and "\0" not in name
    return is_pattern and next(_matches(name), None) is not None


def _is_like_a_name(name: str) -> bool:
    """Whether a line has the ending of a file that is read, or looks like a path."""
    known = kind_of(name) is not None or name.lower().endswith(ARCHIVES)
    return known or name.startswith("@") or ("/" in name and not set(name) & set(" <{["))


def _is_cif_text(lines: Iterator[str]) -> tuple[bool, Iterator[str]]:
    """Whether lines are a CIF and not names, and an iterator over all of them.

    The first line of a CIF, except comments, is ``data_NAME`` or a tag, and the next has a tag.
    """
    start: list[str] = []
    words: list[str] = []
    for line in lines:
        start.append(line)
        if word := line.strip().lower() if not line.lstrip().startswith("#") else "":
            words.append(word)
        if len(words) == 2 or (words and not words[0].startswith("data_")):
            break
    return len(words) == 2 and words[1].startswith(("_", "loop_")), chain(start, lines)


def folder_files(name: str, unlisted: list[OSError]) -> Iterator[str]:
    """The files of a folder, hidden ones left out.

    Linked folders come last and no folder is read twice, so that links to folders above them end.

    Args:
        name: The folder.
        unlisted: Gets the errors of folders that cannot be read.
    """
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
            for file in sorted(files):
                if not file.startswith("."):
                    yield os.path.join(folder, file)  # noqa: PTH118 (a Path for each of many files is slow)
