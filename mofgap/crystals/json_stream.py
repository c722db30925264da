"""Reading JSON of any size piece by piece, with Python's own decoder.

Streaming parsers refuse the ``NaN`` that pandas, monty and Python itself write for missing numbers.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from mofgap.crystals.formats import kind_of
from mofgap.crystals.zip_archive import open_zip

_AFTER = frozenset(" \t\r\n,]}:")
_SPACE = re.compile(r"[ \t\r\n]*")
_PIECE = 1 << 20
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


class JsonError(ValueError):
    """A text that is no JSON, or not the JSON expected."""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a JSON file, unpacked from gz, bz2, xz, or a zip that holds one JSON file.

    Raises:
        JsonError: If the zip archive ``path`` does not hold exactly one JSON file that is not hidden, or the
            compressed data is damaged. Damaged data raises the error while the bytes are read.
    """
    try:
        if path.suffix.lower() == ".zip":
            with open_zip(path) as archive:
                names = [n for n in archive.namelist() if n.lower().endswith(".json") and kind_of(n)]
                if len(names) != 1:
                    raise JsonError(f"the archive holds {len(names)} JSON files, not one")
                with archive.open(names[0]) as file:
                    yield file  # type: ignore[misc]
        else:
            with _OPENERS.get(path.suffix.lower(), open)(path, "rb") as file:
                yield file
    except (EOFError, OSError, lzma.LZMAError, zipfile.BadZipFile, zlib.error) as error:
        if getattr(error, "errno", None) is not None:  # of the file system
            raise
        raise JsonError(f"damaged: {error}") from error


class JsonStream:
    """A cursor in a JSON text; the file is read as far as needed, one value at a time.

    Args:
        file: Bytes in UTF-8.
        most_bytes: Of one value; None for no limit.
    """

    def __init__(self, file: IO[bytes], most_bytes: int | None = None) -> None:
        self._file = file
        self._most_bytes = most_bytes
        self._decoder = json.JSONDecoder()
        self._text_of = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._ended = False
        self.n_bytes = 0
        """Read so far."""

    def peek(self) -> str:
        """The next character that is no space, empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(_PIECE):
                return ""

    def take(self, expected: str) -> None:
        """Step over a character.

        Raises:
            JsonError: If the next character is not ``expected``, or the text is not UTF-8.
        """
        if self.peek() != expected:
            raise JsonError(f"expected {expected!r}, found {self.peek()!r}")
        self._at += 1

    def value(self) -> Any:
        """The next value, whole.

        Raises:
            JsonError: If the text ahead is not a JSON value, is too long or too deeply nested, or is not
                UTF-8.
        """
        self.peek()
        piece = _PIECE
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise JsonError("no JSON of structures: too deeply nested") from error
            except ValueError as error:
                if self._most_bytes is not None and len(self._text) - self._at > self._most_bytes:
                    size = f"more than {self._most_bytes // 2**20} MB"
                    what = f"a value of {size} is no single structure (a dataframe needs orient='records')"
                    raise JsonError(what) from error
                if not self._more(piece):
                    raise JsonError(f"no JSON: {error}") from error
            else:
                n_read = end - self._at
                # Only a number may go on.
                is_whole = not isinstance(value, int | float) or self._text[end : end + 1] in _AFTER
                if is_whole or not self._more(piece):
                    self._at += n_read
                    return value
            piece *= 2

    def items(self) -> Iterator[Any]:
        """The values of an array, one after the other."""
        self.take("[")
        if self.peek() != "]":
            yield self.value()
            while self.peek() == ",":
                self.take(",")
                yield self.value()
        self.take("]")

    def members(self) -> Iterator[str]:
        """The names of an object; take the value of each, or its `items` or `members`, before the next."""
        self.take("{")
        if self.peek() != "}":
            yield self._name()
            while self.peek() == ",":
                self.take(",")
                yield self._name()
        self.take("}")

    def _name(self) -> str:
        name = self.value()
        self.take(":")
        return str(name)

    def _more(self, n_bytes: int) -> bool:
        if self._ended:
            return False
        try:
            data = self._file.read(n_bytes)
            self._ended = not data
            self.n_bytes += len(data)
            self._text = self._text[self._at :] + self._text_of.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise JsonError("no text in UTF-8") from error
        self._at = 0
        return not self._ended
