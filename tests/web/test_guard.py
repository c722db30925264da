from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

TOKEN = "0123456789abcdef-token"


@pytest.fixture
def guarded(serving: Callable[..., TestClient]) -> TestClient:
    return serving(TOKEN, allow_host=("gaps.example.org",))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost:8000", 200),
        ("[::1]:8000", 200),
        ("evil.example.org", 421),
        ("127.0.0.1.example.org:8000", 421),
        ("localhost.:8000", 421),
        ("[", 421),
        ("", 421),
    ],
)
def test_only_names_of_this_server_are_served(client: TestClient, host: str, status: int) -> None:
    assert client.get("/", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"origin": "http://127.0.0.1:8000"}, False),
        ({"origin": "http://127.0.0.1:9000"}, True),
        ({"origin": "http://evil.example.org"}, True),
        ({"origin": "null"}, True),
        ({"origin": "http://[bad"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "same-origin"}, False),
    ],
)
def test_pages_of_others_cannot_upload(client: TestClient, headers: dict[str, str], refused: bool) -> None:
    answer = client.post("/api/screen", files={"files": ("a.cif", b"x")}, headers=headers)
    assert (answer.status_code == 403) is refused


def test_answers_forbid_frames_and_whatever_comes_from_elsewhere(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert "access-control-allow-origin" not in client.get("/api/models").headers


def test_nothing_but_its_own_page_is_shown_without_the_token(guarded: TestClient) -> None:
    for path in ("/api/models", "/openapi.json", "/api/screenings/x", "/docs", "/"):
        answer = guarded.get(path)
        assert answer.status_code == 401 and TOKEN not in answer.text
    assert guarded.post("/api/screen", files={"files": ("a.cif", b"x")}).status_code == 401
    assert guarded.get("/assets/serve.css").status_code == 200
    for wrong in ("", "0", TOKEN[:-1], f"{TOKEN}x"):
        assert guarded.get("/api/models", headers={"authorization": f"Bearer {wrong}"}).status_code == 401
        assert guarded.get("/", params={"token": wrong}).status_code == 401
        assert guarded.post("/login", data={"token": wrong}).status_code == 401


def test_a_program_sends_the_token(guarded: TestClient) -> None:
    assert guarded.get("/api/models", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("form", [False, True])
def test_a_browser_shows_the_token_once(guarded: TestClient, form: bool) -> None:
    if form:
        answer = guarded.post("/login", data={"token": TOKEN}, follow_redirects=False)
    else:
        answer = guarded.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert TOKEN not in cookie and "HttpOnly" in cookie and "samesite=lax" in cookie.lower()
    assert guarded.get("/").status_code == guarded.get("/api/models").status_code == 200


def test_a_proxy_may_have_a_name(guarded: TestClient) -> None:
    headers = {"host": "gaps.example.org", "authorization": f"Bearer {TOKEN}"}
    assert guarded.get("/", headers=headers).status_code == 200
    headers |= {"origin": "https://gaps.example.org"}
    assert guarded.post("/api/screen", files={"files": ("a.cif", b"x")}, headers=headers).status_code == 200


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_a_login_that_is_no_form_is_refused(guarded: TestClient, kind: str) -> None:
    file = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nx\r\n--x--\r\n'
    assert guarded.post("/login", content=file, headers={"content-type": kind}).status_code == 400


def test_a_long_login_is_not_read(guarded: TestClient) -> None:
    assert guarded.post("/login", data={"token": "x" * 10_000}).status_code == 413
