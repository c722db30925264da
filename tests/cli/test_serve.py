from __future__ import annotations

import socket
import sys
from importlib.util import find_spec
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from mofgap.__main__ import app
from mofgap.cli.serve import _address
from mofgap.configuration import ConfigurationError
from mofgap.web.config import ServeConfig

needs_web = pytest.mark.skipif(find_spec("uvicorn") is None, reason="needs mofgap[web]")


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *(("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.0.0.2", True)),
        *(("0.0.0.0", False), ("::", False), ("192.168.1.5", False), ("gaps.example.org", False)),
    ],
)
def test_only_this_machine_is_local(host: str, local: bool) -> None:
    assert ServeConfig(host=host).is_local is local


def test_a_short_token_is_refused() -> None:
    with pytest.raises(ConfigurationError) as found:
        ServeConfig(token="secret")
    assert found.value.problems[0].key == "token"
    assert CliRunner().invoke(app, ["serve", "--token", "secret"]).exit_code == 2


def test_a_token_that_headers_cannot_hold_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="without accents"):
        ServeConfig(token="p\u00e4sswort-ist-lang-genug")


def test_the_address_holds_any_token() -> None:
    token = "ab+cd/ef==#&%0123456789"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = _address(ServeConfig(), listening, token)
    assert parse_qs(urlsplit(address).query) == {"token": [token]}


def test_without_the_extra_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    found = CliRunner().invoke(app, ["serve"])
    assert found.exit_code == 1 and "mofgap[web]" in found.output


@needs_web
def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = CliRunner().invoke(app, ["serve", "--port", port])
    assert found.exit_code == 1 and port in found.output and "--port" in found.output


@needs_web
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_token_is_asked_for_beyond_this_machine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import uvicorn

    import mofgap.web.app

    tokens: list[str | None] = []

    def made(settings: ServeConfig, token: str | None, **_: object) -> object:
        tokens.append(token)
        return object()

    monkeypatch.delenv("MOFGAP_TOKEN", raising=False)
    monkeypatch.setattr(mofgap.web.app, "make_app", made)
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: setattr(self, "started", True))
    assert CliRunner().invoke(app, ["serve", "--host", host, "--port", "0"]).exit_code == 0
    monkeypatch.setenv("MOFGAP_TOKEN", "0123456789abcdef")
    assert CliRunner().invoke(app, ["serve", "--host", host, "--port", "0"]).exit_code == 0
    first, second = tokens
    assert (first is None) is (host == "127.0.0.1") and second == "0123456789abcdef"
    assert first is None or len(first) >= 32
