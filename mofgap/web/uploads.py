"""Uploads: from the bytes of a request to files in a folder, and from these to inputs.

The names that a visitor gives are shown and never used as paths. On the disk each file has a folder of its
own. Its name there has letters, digits, points, dashes and underscores; the ending gives the format.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from mofgap.crystals.archives import ARCHIVES
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.formats import stem_of
from mofgap.crystals.inputs import PassedOver, expand_inputs, items_of_file
from mofgap.crystals.item import InputItem, unpacked
from mofgap.crystals.reasons import StructureError
from mofgap.screening.row import printable
from mofgap.web.config import MB, ServeConfig

FIELDS = ("window", "level")
MAX_FIELD_BYTES = 1000
STALL_S = 60.0
"""Seconds that an upload may pause."""

MAX_NAME = 200
"""Characters of a file's name that are shown."""

_MAX_STEM = 80
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]")
_BLOCK = re.compile(rb"^data_\S", re.MULTILINE | re.IGNORECASE)


class RequestError(ValueError):
    """A request that is not served, and why.

    Args:
        status: The status code of HTTP.
        words: What is wrong and what helps.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


@dataclass(frozen=True)
class UploadedFile:
    """A file that was sent.

    Attributes:
        shown: The name to show.
        path: Where it lies.
        in_folder: Whether the visitor named a folder, in which there may be other files than structures.
    """

    shown: str
    path: Path
    in_folder: bool


@dataclass
class Upload:
    """The files and fields of a request.

    Attributes:
        folder: Where its files lie.
        files: Each of them.
        fields: The other fields of the form.
        n_bytes: Number of bytes of the request, and of what was unpacked since.
        is_stopped: Whether nothing more is to be unpacked.
        passed_over: Files of its folders and archives that are not read, by ending.
    """

    folder: Path
    files: list[UploadedFile] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    n_bytes: int = 0
    is_stopped: bool = False
    passed_over: PassedOver = field(default_factory=PassedOver)


async def receive(
    chunks: AsyncIterator[bytes], content_type: str, folder: Path, limits: ServeConfig
) -> Upload:
    """Write the files of a form to the disk as they come, so that memory does not grow with them.

    Raises:
        RequestError: If the request is not a form, is too large, has no files or too many, or has an unknown
            field.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise RequestError(415, "send a form: multipart/form-data with the structures as “files”")
    form = _Form(Upload(folder), limits.max_files)
    try:
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
        while chunk := await _next(chunks):
            form.upload.n_bytes += len(chunk)
            if form.upload.n_bytes > limits.max_mb * MB:
                raise RequestError(413, too_large(limits))
            await run_in_threadpool(parser.write, chunk)
        parser.finalize()
        if not form.is_whole:
            raise RequestError(400, "the form ends early; send it again")
    except FormParserError as error:
        raise RequestError(400, f"the form cannot be read: {error}; send it again") from error
    finally:
        form.close()
    if not form.upload.files:
        raise RequestError(422, "files: there are none; send at least one CIF or archive")
    return form.upload


async def _next(chunks: AsyncIterator[bytes]) -> bytes:
    """The next piece that is not empty; empty at the end.

    Raises:
        RequestError: If nothing arrives for `STALL_S` seconds, or the visitor is gone.
    """
    try:
        async with asyncio.timeout(STALL_S):
            async for chunk in chunks:
                if chunk:
                    return chunk
    except ClientDisconnect as error:  # as of a tab that is closed
        raise RequestError(400, "the upload was broken off; send it again") from error
    except TimeoutError as error:
        raise RequestError(408, f"nothing came for {STALL_S:.0f} s; send it again") from error
    return b""


def too_large(limits: ServeConfig) -> str:
    """What to say of an upload that is too large."""
    return f"the upload is larger than {limits.max_mb} MB; send it in parts, or use mofgap screen"


class _Form:
    """What the parser of a form calls; one file is open at a time."""

    def __init__(self, upload: Upload, max_files: int) -> None:
        self.upload = upload
        self.max_files = max_files
        self._shown: set[str] = set()
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._field = ""
        self._text = b""
        self._file: BinaryIO | None = None
        self.is_whole = False

    def callbacks(self) -> dict[str, object]:
        names = ("part_begin", "header_field", "header_value", "header_end", "headers_finished")
        return {f"on_{name}": getattr(self, name) for name in (*names, "part_data", "part_end", "end")}

    def end(self) -> None:
        self.is_whole = True

    def part_begin(self) -> None:
        self._headers = {}
        self._text = b""

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        # Browsers and curl escape these characters alone.
        name = options.get(b"filename", b"").replace(b"%22", b'"').decode("utf-8", "replace")
        if self._field not in ("files", *FIELDS):
            raise RequestError(422, f"{self._field or 'a field'}: not known; send files, {', '.join(FIELDS)}")
        if self._field == "files":
            if len(self.upload.files) == self.max_files:
                raise RequestError(413, f"more than {self.max_files} files; send an archive, or fewer files")
            self._file = self._path(name).open("xb")

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
        elif len(self._text) + end - start > MAX_FIELD_BYTES:
            raise RequestError(422, f"{self._field}: longer than {MAX_FIELD_BYTES} bytes")
        else:
            self._text += data[start:end]

    def part_end(self) -> None:
        if self._field == "files":
            self.close()
        else:
            self.upload.fields[self._field] = self._text.decode("utf-8", "replace").strip()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _path(self, name: str) -> Path:
        """A new place for a file, whose name is shown as it came; a name that came before is numbered."""
        number = len(self.upload.files) + 1
        shown = printable(name.replace("\\", "/"))[-MAX_NAME:] or f"file-{number}"
        in_folder = "/" in shown
        while shown in self._shown:
            shown = f"{number}/{shown}"
        self._shown.add(shown)
        folder = self.upload.folder / f"{number}"
        folder.mkdir()
        path = folder / plain_name(shown)
        self.upload.files.append(UploadedFile(shown, path, in_folder))
        return path


def plain_name(name: str) -> str:
    """The last part of a name, without characters that are special in a file system or a glob pattern."""
    base = _NOT_PLAIN.sub("_", name.rsplit("/", 1)[-1])[-_MAX_STEM:]
    return base.lstrip(".") or "file"


def inputs_of(upload: Upload, limits: ServeConfig) -> list[InputItem | ReadFailure]:
    """The structures of an upload, archives looked into, under the names that the visitor gave.

    Raises:
        RequestError: If there are no structures or too many, the unpacked files are too large, or the upload
            was stopped meanwhile.
    """
    found: list[InputItem | ReadFailure] = []
    n_structures = 0
    for file in upload.files:
        for item in _items(file, upload.passed_over):
            if upload.is_stopped:
                raise RequestError(410, "the screening was stopped")
            n_structures += _n_structures(item)
            if n_structures > limits.max_structures:
                words = f"more than {limits.max_structures} structures"
                raise RequestError(413, f"{words}; send them in parts, or use mofgap screen")
            if isinstance(item, InputItem):
                item = _on_disk(item, upload, limits, len(found))
            found.append(item)
    if not found:
        raise RequestError(422, "files: none of them is a structure; send CIFs, or archives of them")
    return found


def _n_structures(item: InputItem | ReadFailure) -> int:
    """Data blocks of a CIF; every other item is one structure."""
    if isinstance(item, ReadFailure) or item.kind != "cif":
        return 1
    try:
        return max(1, len(_BLOCK.findall(unpacked(item.read()))))
    except StructureError:  # its row will say why
        return 1


def _items(file: UploadedFile, passed_over: PassedOver) -> Iterator[InputItem | ReadFailure]:
    """The structures of a file. In a folder other and hidden files are passed over, as by `expand_inputs`."""
    folder = str(file.path.parent)
    if file.in_folder and any(part[:1] == "." and part.strip(".") for part in file.shown.split("/")):
        return
    if file.in_folder and any(item.source == folder for item in islice(expand_inputs([folder]), 1)):
        passed_over[file.path.suffix.lower()] += 1
        return
    if not file.path.name.lower().endswith(ARCHIVES):
        yield from items_of_file(file.path, file.shown)
        return
    for item in expand_inputs([file.path], passed_over=passed_over):
        source = file.shown + item.source.removeprefix(str(file.path))
        if isinstance(item, ReadFailure):
            yield replace(item, source=source, structure_id=stem_of(source))
        else:
            yield replace(item, source=source)


def _on_disk(item: InputItem, upload: Upload, limits: ServeConfig, place: int) -> InputItem:
    """The input with what it has in memory, from an archive read in sequence, written to the disk."""
    if item.data is None:
        return item
    upload.n_bytes += len(item.data)
    if upload.n_bytes > limits.max_mb * MB:
        raise RequestError(413, f"unpacked, {too_large(limits)}")
    path = upload.folder / f"unpacked-{place}"
    path.write_bytes(item.data)
    return replace(item, path=str(path), data=None, member=None, span=None, number=None)
