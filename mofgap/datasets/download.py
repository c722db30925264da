"""Downloads that continue where they stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from ssl import SSLError
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from mofgap.version import installed_version
from mofgap.whole_file import read_json, sha256_of

_PIECE = 1 << 18
TIMEOUT_SECONDS = 60.0
# A server that says these may answer a moment later.
_PASSING = {408, 425, 429, 500, 502, 503, 504}


class DownloadError(ValueError):
    """A download that did not succeed, and why."""


class _BrokenError(Exception):
    """The connection ended early; the received bytes are kept."""


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    Attributes:
        url: Where it is.
        sha256: It must have; None where that is not known.
        n_bytes: It must have; None where that is not known.
    """

    url: str
    sha256: str | None = None
    n_bytes: int | None = None


@dataclass(frozen=True, eq=False)
class Partial:
    """The part of a file that was received, and which version of the file it belongs to.

    Attributes:
        path: The bytes.
        state: JSON next to them: ``url``, ``tag`` (ETag or date, as the server gave it) and ``n_bytes``.
    """

    path: Path
    state: Path

    @classmethod
    def of(cls, target: Path) -> Partial:
        """The partial file of a download."""
        return cls(target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json"))

    def resumable(self, url: str) -> tuple[int, str]:
        """Bytes that can be kept, and the tag they belong to; 0 where there is nothing to go on from."""
        state = read_json(self.state)
        usable = state.get("url") == url and state.get("tag") and self.path.is_file()
        return (self.path.stat().st_size, str(state["tag"])) if usable else (0, "")

    def is_whole(self, url: str) -> bool:
        """Whether all bytes were received and only the last step is missing."""
        kept, _ = self.resumable(url)
        return kept > 0 and kept == read_json(self.state).get("n_bytes")

    def remove(self) -> None:
        """Delete the part."""
        self.path.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)


def download(
    remote: Remote,
    target: Path,
    *,
    attempts: int = 5,
    pause_seconds: float = 2.0,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> str:
    """Fetch a file. It gets its name when it is complete and has the right checksum.

    A broken download continues where it stopped, in this call or in a later one. The server must be able to
    send a part of the file, and say by ETag or Last-Modified that the file is still the same.

    Args:
        remote: The file.
        target: Its path here.
        attempts: How often to try before giving up.
        pause_seconds: Before the second attempt, doubled before each further one.
        progress: Called with the bytes received and the size, if it is known.

    Returns:
        Its sha256.

    Raises:
        DownloadError: If the server refuses the request, the connection breaks too often, or the bytes have
            the wrong size or sha256.
        OSError: If the file ``target`` cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Partial.of(target)
    for attempt in range(attempts):
        try:
            if not partial.is_whole(remote.url):
                _receive(remote, partial, progress)
            break
        except _BrokenError as broken:
            if attempt + 1 == attempts:
                kept = partial.resumable(remote.url)[0]
                raise DownloadError(
                    f"{remote.url}: {broken}; {kept:,} bytes are kept, run it again to go on"
                ) from broken
            time.sleep(pause_seconds * 2**attempt)
    found = _checked(remote, partial)
    partial.path.replace(target)
    partial.state.unlink(missing_ok=True)
    return found


def _receive(remote: Remote, partial: Partial, progress: Callable[[int, int | None], None]) -> None:
    """Ask for the missing bytes and append them to the partial file.

    Raises:
        _BrokenError: If the connection fails or ends early, or the server's answer allows another attempt.
        DownloadError: If the server refuses the request, or its answer is not the file.
    """
    kept, tag = partial.resumable(remote.url)
    headers = {"User-Agent": f"mofgap/{installed_version('0')}", "Accept-Encoding": "identity"}
    if kept:
        headers |= {"Range": f"bytes={kept}-", "If-Range": tag}
    try:
        with urlopen(Request(remote.url, headers=headers), timeout=TIMEOUT_SECONDS) as answer:
            start, total = _span(answer, kept)
            partial.state.write_text(
                json.dumps({"url": remote.url, "tag": _tag(answer), "n_bytes": total}), encoding="utf-8"
            )
            with partial.path.open("r+b" if start else "wb") as file:
                file.truncate(start)
                file.seek(start)
                _copy(answer, file, total, progress)
    except HTTPError as error:
        if error.code == 416:
            # What is kept does not fit the file on the server: begin again.
            partial.remove()
            raise _BrokenError("the server cannot go on from what is kept") from error
        if error.code in _PASSING:
            raise _BrokenError(f"HTTP {error.code} {error.reason}") from error
        raise DownloadError(f"{remote.url}: HTTP {error.code} {error.reason}; try a browser") from error
    except URLError as error:
        raise _BrokenError(f"no connection: {error.reason}") from error
    except ValueError as error:
        raise DownloadError(f"{remote.url}: {error}") from error
    except (HTTPException, ConnectionError, TimeoutError, SSLError) as error:
        raise _BrokenError(f"the connection broke: {error or type(error).__name__}") from error


def _span(answer: HTTPResponse, kept: int) -> tuple[int, int | None]:
    """Where the answer begins in the file, and the size of the file.

    Raises:
        ValueError: If the answer is not a file, or does not begin at the byte ``kept``.
    """
    length = answer.headers.get("Content-Length")
    if answer.status == 206:
        span, _, size = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if span.split("-")[0] != str(kept):
            raise ValueError(f"asked for the bytes from {kept} on, the server sent {span or 'others'}")
        return kept, int(size) if size.isdigit() else None
    if answer.status != 200:
        raise ValueError(f"the server answers HTTP {answer.status} and sends no file; try a browser")
    if answer.headers.get_content_type() == "text/html":
        raise ValueError("the server sends a web page, not the file; try a browser")
    return 0, int(length) if length else None


def _tag(answer: HTTPResponse) -> str:
    """The tag of a version of a file; weak tags are not used."""
    tag = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _copy(
    answer: HTTPResponse, file: BinaryIO, total: int | None, progress: Callable[[int, int | None], None]
) -> None:
    progress(file.tell(), total)
    while piece := answer.read(_PIECE):
        file.write(piece)
        progress(file.tell(), total)
    if total is not None and file.tell() < total:
        raise _BrokenError(f"the connection ended after {file.tell():,} of {total:,} bytes")


def _checked(remote: Remote, partial: Partial) -> str:
    """The sha256 of the received bytes, which are removed if it is wrong.

    Raises:
        DownloadError: If the downloaded bytes have the wrong sha256 or size.
    """
    n_bytes = partial.path.stat().st_size
    found = sha256_of(partial.path)
    if remote.sha256 not in (None, found):
        reason = f"sha256 is {found}, expected {remote.sha256}"
    elif remote.n_bytes not in (None, n_bytes):
        reason = f"{n_bytes:,} bytes came, expected {remote.n_bytes:,}"
    else:
        return found
    partial.remove()
    raise DownloadError(f"{remote.url}: {reason}; what came was removed")
