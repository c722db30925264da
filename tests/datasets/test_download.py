"""Downloads from a real server on this machine, with its faults."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mofgap.datasets.download import DownloadError, Partial, Remote, download

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Behaviour:
    """What the server does, and what it was asked."""

    content: bytes = CONTENT
    etag: str | None = '"v1"'
    ranges: bool = True
    breaks_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    stops_after: int | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    asked: list[str | None] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    behaviour: Behaviour

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        b = self.behaviour
        asked = self.headers.get("Range")
        b.asked.append(asked)
        if self.path != "/file.zip" or b.statuses:
            self.send_error(b.statuses.pop(0) if b.statuses else 404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and b.ranges else 0
        if start and self.headers.get("If-Range") != b.etag:
            start = 0
        if start >= len(b.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(b.content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(b.content) - 1}/{len(b.content)}")
        if b.etag:
            self.send_header("ETag", b.etag)
        self.end_headers()
        stop = start + b.breaks_after.pop(0) if b.breaks_after else len(b.content)
        for at in range(start, min(stop, len(b.content)), 100_000):
            if b.stops_after is not None and at >= b.stops_after:
                b.stopped.wait(60)
            self.wfile.write(b.content[at : min(at + 100_000, stop)])
        self.close_connection = True


@pytest.fixture
def server() -> Iterator[tuple[str, Behaviour]]:
    behaviour = Behaviour()
    handler = type("Served", (Handler,), {"behaviour": behaviour})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}/file.zip", behaviour
        http.shutdown()


def fetched(url: str, target: Path, sha256: str | None = SHA256, attempts: int = 4) -> str:
    return download(Remote(url, sha256), target, attempts=attempts, pause_seconds=0.01)


def test_a_file_arrives_whole_and_leaves_nothing_else(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "deep" / "file.zip"
    digest = download(Remote(server[0]), target, progress=lambda done, total: seen.append((done, total)))
    assert digest == SHA256
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file.zip"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_broken_connection_is_taken_up_where_it_broke(
    server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    url, behaviour = server
    behaviour.breaks_after = [700_000, 1_100_000]
    fetched(url, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    assert behaviour.asked == [None, "bytes=700000-", "bytes=1800000-"]


def test_a_later_call_goes_on_from_what_an_earlier_one_kept(
    server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    url, behaviour = server
    behaviour.breaks_after = [1_250_000]
    with pytest.raises(DownloadError, match="1,250,000 bytes are kept"):
        fetched(url, tmp_path / "file.zip", attempts=1)
    assert not (tmp_path / "file.zip").exists()
    fetched(url, tmp_path / "file.zip", attempts=1)
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    assert behaviour.asked[-1] == "bytes=1250000-"


def test_a_killed_download_goes_on(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, behaviour = server
    behaviour.stops_after = 1_500_000
    target = tmp_path / "file.zip"
    program = (
        "import sys; from pathlib import Path; from mofgap.datasets.download import Remote, download;"
        "told = lambda done, total: print(done, flush=True);"
        "download(Remote(sys.argv[1]), Path(sys.argv[2]), progress=told)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, url, str(target)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert any(int(line) > 300_000 for line in process.stdout)
    partial = Partial.of(target).path
    process.kill()
    process.wait()
    kept = partial.stat().st_size
    assert 300_000 < kept < len(CONTENT)
    assert not target.exists()
    behaviour.stops_after = None
    behaviour.stopped.set()
    fetched(url, target)
    assert target.read_bytes() == CONTENT
    assert behaviour.asked[-1] == f"bytes={kept}-"


def test_a_file_that_changed_meanwhile_is_fetched_anew(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, behaviour = server
    behaviour.breaks_after = [1_000_000]
    with pytest.raises(DownloadError):
        fetched(url, tmp_path / "file.zip", attempts=1)
    behaviour.content, behaviour.etag = CONTENT[::-1], '"v2"'
    fetched(url, tmp_path / "file.zip", hashlib.sha256(CONTENT[::-1]).hexdigest())
    assert (tmp_path / "file.zip").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(("ranges", "etag"), [(False, '"v1"'), (True, None), (True, 'W/"weak"')])
def test_a_server_that_cannot_go_on_sends_everything_again(
    server: tuple[str, Behaviour], tmp_path: Path, ranges: bool, etag: str | None
) -> None:
    url, behaviour = server
    behaviour.ranges, behaviour.etag, behaviour.breaks_after = ranges, etag, [500_000]
    fetched(url, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    assert len(behaviour.asked) == 2


def test_what_came_whole_is_not_fetched_again(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, behaviour = server
    partial = Partial.of(tmp_path / "file.zip")
    partial.path.write_bytes(CONTENT)
    partial.state.write_text(f'{{"url": "{url}", "tag": "\\"v1\\"", "n_bytes": {len(CONTENT)}}}')
    fetched(url, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    assert behaviour.asked == []


def test_more_than_the_file_is_not_kept(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, behaviour = server
    partial = Partial.of(tmp_path / "file.zip")
    partial.path.write_bytes(CONTENT + b"more")
    partial.state.write_text(f'{{"url": "{url}", "tag": "\\"v1\\"", "n_bytes": null}}')
    fetched(url, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    assert behaviour.asked == [f"bytes={len(CONTENT) + 4}-", None]


def test_a_wrong_checksum_leaves_no_file(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"{SHA256}.*{'0' * 64}"):
        fetched(server[0], tmp_path / "file.zip", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_size_leaves_no_file(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"3,000,000 .*17"):
        download(Remote(server[0], n_bytes=17), tmp_path / "file.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_not_asked_for_twice(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, behaviour = server
    with pytest.raises(DownloadError, match=r"/other: HTTP 404"):
        fetched(url.replace("file.zip", "other"), tmp_path / "file.zip")
    assert len(behaviour.asked) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("status", "words"), [(202, "HTTP 202 and sends no file"), (200, "a web page")])
def test_a_page_in_place_of_the_file_is_not_kept(
    server: tuple[str, Behaviour], tmp_path: Path, status: int, words: str
) -> None:
    url, behaviour = server
    # Made by http.server as a page of HTML.
    behaviour.statuses = [status]
    with pytest.raises(DownloadError, match=words):
        fetched(url, tmp_path / "file.zip", sha256=None)
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    url, behaviour = server
    behaviour.statuses = [503, 429]
    assert fetched(url, tmp_path / "file.zip") == SHA256
    assert len(behaviour.asked) == 3


def test_no_server_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="no connection"):
        fetched("http://127.0.0.1:9/file.zip", tmp_path / "file.zip", attempts=2)


def test_an_address_without_scheme_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="unknown url type"):
        fetched("file.zip", tmp_path / "file.zip")
