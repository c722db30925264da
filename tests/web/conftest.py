"""The server with tiny models, which compute in threads: processes would take seconds to start."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

# Without mofgap[web] there is nothing to test.
collect_ignore_glob = [] if find_spec("fastapi") and find_spec("uvicorn") else ["test_*.py"]
HERE = "http://127.0.0.1:8000"


def app_of(token: str | None = None, **settings: Any) -> FastAPI:
    from mofgap.web.app import make_app
    from mofgap.web.config import ServeConfig
    from mofgap.web.worker_queue import WorkerQueue

    return make_app(ServeConfig(device="cpu", **settings), token, WorkerQueue(1, ThreadPoolExecutor))


@pytest.fixture
def serving(levels: None) -> Iterator[Callable[..., TestClient]]:
    """Starts a server of other settings."""
    from fastapi.testclient import TestClient

    with ExitStack() as stack:
        yield lambda *token, **settings: stack.enter_context(
            TestClient(app_of(*token, **settings), base_url=HERE)
        )


@pytest.fixture
def client(serving: Callable[..., TestClient]) -> TestClient:
    return serving()


@dataclass(frozen=True)
class Server:
    """A server that listens."""

    url: str
    app: FastAPI

    @property
    def folder(self) -> Path:
        return Path(self.app.state.jobs.root)


@pytest.fixture
def listening(levels: None) -> Iterator[Callable[..., Server]]:
    """Starts a server that listens on a port of its own."""
    with ExitStack() as stack:
        yield lambda *token, **settings: stack.enter_context(_listening(app_of(*token, **settings)))


@pytest.fixture
def server(listening: Callable[..., Server]) -> Server:
    return listening(max_files=200)


@contextmanager
def _listening(app: FastAPI) -> Iterator[Server]:
    import uvicorn

    running = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    ready = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as port:
        thread = threading.Thread(target=_run, args=(running, port, ready))
        thread.start()
        assert ready.wait(60)
        try:
            yield Server(f"http://127.0.0.1:{port.getsockname()[1]}", app)
        finally:
            running.should_exit = True
            thread.join(30)
    assert not app.state.jobs.root.exists()


def _run(server: uvicorn.Server, listening: socket.socket, ready: threading.Event) -> None:
    inner = server.startup

    async def startup(*arguments: Any, **named: Any) -> None:
        await inner(*arguments, **named)
        ready.set()

    server.startup = startup  # type: ignore[method-assign]
    server.run(sockets=[listening])
