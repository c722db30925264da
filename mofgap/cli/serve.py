"""``mofgap serve``: screenings in a browser, and by HTTP."""

from __future__ import annotations

import os
import secrets
import signal
import socket
from contextlib import suppress
from types import FrameType
from typing import Any
from urllib.parse import quote

from mofgap.cli.exits import NOTHING_DONE, fail, say
from mofgap.cli.options import refused
from mofgap.cli.schema import with_settings
from mofgap.web.config import ServeConfig

TOKEN_VARIABLE = "MOFGAP_TOKEN"
GRACE_S = 5
"""Seconds that requests under way have when the server ends."""


@with_settings(
    ServeConfig,
    panels={
        "Limits": (
            *("max_files", "max_mb", "max_structures", "max_screenings", "max_total_mb"),
            *("expire_minutes", "keep_hours"),
        )
    },
    allow_host="NAME,...",
)
def serve(**settings: Any) -> None:
    """Screen structures in a browser, and by HTTP.

    The page takes CIFs and archives. It shows progress, the ranked table and the report with structures in
    3D. Programs use POST /api/screen, which /docs describes. Uploads are removed once the page is closed.
    """
    settings["token"] = settings["token"] or os.environ.get(TOKEN_VARIABLE) or None
    with refused():
        config = ServeConfig(**settings)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers inherit it
    try:
        import uvicorn

        from mofgap.web.app import make_app
    except ModuleNotFoundError as error:
        fail(f"serve needs {error.name}: pip install 'mofgap[web]'", NOTHING_DONE)
    token = config.token or (None if config.is_local else secrets.token_urlsafe(24))
    try:
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        listening = socket.create_server((config.host, config.port), family=family)
    except OSError as error:
        where = f"{config.host} port {config.port}"
        fail(f"cannot listen on {where}: {error.strerror}; try another --port or --host", NOTHING_DONE)
    address = _address(config, listening, token)
    say("loading the models")
    web = make_app(config, token, ready=lambda: say(f"open {address}"))
    with listening:
        server = uvicorn.Server(
            uvicorn.Config(
                web,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        end = server.handle_exit

        def handle_exit(number: int, frame: FrameType | None) -> None:
            web.state.is_ending = True  # so that who waits for a table is told
            end(number, frame)

        server.handle_exit = handle_exit  # type: ignore[assignment, method-assign]
        # A terminal that is closed ends the server as Ctrl-C does, so that no upload is left, but for nohup.
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, handle_exit)
        with suppress(KeyboardInterrupt, SystemExit):  # the way to end it, and that of uvicorn to give up
            server.run(sockets=[listening])
    if not server.started:
        fail("the server could not start; the reason stands above", NOTHING_DONE)


def _address(config: ServeConfig, listening: socket.socket, token: str | None) -> str:
    """What to open in a browser."""
    anywhere = config.host in ("0.0.0.0", "::")
    host = socket.gethostname() if anywhere else config.host
    host = f"[{host}]" if ":" in host else host
    query = f"?token={quote(token, safe='')}" if token else ""
    return f"http://{host}:{listening.getsockname()[1]}/{query}"
