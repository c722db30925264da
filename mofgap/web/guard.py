"""Who may ask: what stands between the network and the pages.

- The header ``Host`` must name this server. Else the page of a stranger, whose name was made to lead here
  (DNS rebinding), could read the answers.
- What changes something must come from a page of this server, or from a program: browsers say so in
  ``Origin`` and ``Sec-Fetch-Site``. Else the page of a stranger could upload (CSRF).
- Where a token is asked for, it comes as ``Authorization: Bearer TOKEN``, or in a cookie that the page sets.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mofgap.web.config import ServeConfig, is_address
from mofgap.web.pages import token_page

SAFE = ("GET", "HEAD", "OPTIONS")
COOKIE = "mofgap"
MAX_LOGIN_BYTES = 4096
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Refuses requests that are not allowed, and adds `HEADERS` to answers.

    Args:
        app: What answers.
        settings: Where the server listens, and its names.
        token: What visitors must know; None asks for none.
    """

    def __init__(self, app: ASGIApp, settings: ServeConfig, token: str | None) -> None:
        self.app = app
        self.token = token
        names = {"localhost", *settings.allow_host}
        self.names = names if settings.is_local else names | {settings.host, socket.gethostname()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope, receive)
        answer = self.refusal(request) or await self._login(request)
        await (answer or self.app)(scope, receive, with_headers)

    def refusal(self, request: Request) -> Response | None:
        """Why a request is refused, whoever sends it; None if it is not."""
        host = request.headers.get("host", "")
        if not self._is_here(host):
            words = f"host {host!r} is not this server; start it with --allow-host if it should be"
            return _error(421, words)
        if request.method not in SAFE and not _is_from_here(request.headers, host):
            return _error(403, "requests from pages of other servers are refused")
        return None

    def _is_here(self, host: str) -> bool:
        """Whether a host is this server: an address always is, since only names can be redirected."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return is_address(name) or name in {each.lower() for each in self.names}

    async def _login(self, request: Request) -> Response | None:
        """The answer to a visitor without the token; None for one with it, or where none is needed."""
        if self.token is None or request.url.path.startswith("/assets/"):
            return None
        given = request.query_params.get("token")
        if request.url.path == "/login" and request.method == "POST":
            if int(request.headers.get("content-length") or MAX_LOGIN_BYTES + 1) > MAX_LOGIN_BYTES:
                return _error(413, "the form is too long")
            try:
                async with request.form(max_files=0, max_fields=1) as form:
                    given = str(form.get("token", "")).strip()
            except (HTTPException, MultiPartException, KeyError):
                return _error(400, "the form cannot be read")
        elif request.url.path != "/" or given is None:
            if self._has_token(request):
                return None
            if request.url.path in ("/", "/docs"):
                return Response(token_page(wrong=False), 401, media_type="text/html")
            answer = _error(401, "send the token: Authorization: Bearer TOKEN")
            answer.headers["www-authenticate"] = "Bearer"
            return answer
        if not _same(given, self.token):
            return Response(token_page(wrong=True), 401, media_type="text/html")
        redirect = RedirectResponse("/", 303)
        redirect.set_cookie(
            self._cookie_name(request), self._cookie_value(), httponly=True, samesite="lax", path="/"
        )
        return redirect

    def _has_token(self, request: Request) -> bool:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(token.strip(), self.token or ""):
            return True
        return _same(request.cookies.get(self._cookie_name(request), ""), self._cookie_value())

    def _cookie_name(self, request: Request) -> str:
        """The name of the cookie, with the port, since browsers share cookies between ports."""
        return f"{COOKIE}-{request.url.port or 80}"

    def _cookie_value(self) -> str:
        """The value of the cookie. The token cannot be computed from it."""
        return hmac.new((self.token or "").encode(), b"mofgap page", hashlib.sha256).hexdigest()


def _is_from_here(headers: Headers, host: str) -> bool:
    """Whether the request comes from a page of this server, or from a program that is no browser."""
    origin = headers.get("origin")
    if origin is not None:
        try:
            return urlsplit(origin).netloc.lower() == host.lower()
        except ValueError:  # of an address in brackets that do not close
            return False
    return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _error(status: int, words: str) -> Response:
    return JSONResponse({"detail": words}, status)
