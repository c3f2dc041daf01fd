"""The middleware that checks every request: its host, its origin, its session and the password."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vtag.app.ui.html_login import STYLE_HASH, login_page
from vtag.engine.paths import make_private_dir
from vtag.engine.system.atomic_write import write_atomically
from vtag.engine.text import printable

_COOKIE_PREFIX = "vtag_session_"
LOGIN = "/login"
_SECRET_BYTES = 32
# Names of this machine that no other site's name server can give out. The port does not matter: it may be forwarded,
# as by `ssh -L 9000:localhost:7860` or by a container.
_LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?")
_MAX_SHOWN_HOST = 80  # characters
_FOREIGN_PAGE = (
    "A page of another site asked for this, so it was refused. Open the address of vtag itself. If vtag is behind a "
    "proxy, the proxy has to pass on the header Host."
)
_NO_SESSION = "This page has no session any more. Load it again; your browser has to accept its cookie."
_NOT_LOGGED_IN = "Log in first: load the page again, or send the password to /login."
_WRONG_PASSWORD_DELAY_S = 1.0
_MAX_FORM_BYTES = 4096
# Scripts and styles are files of this server, so that text which a stranger wrote can never run. The page loads from
# this server and sends to it only.
_SECURITY_POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {STYLE_HASH}; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; manifest-src 'self'; frame-ancestors 'none'; form-action 'self'; "
    "base-uri 'none'"
)


def session_secret(file: Path) -> bytes:
    """The secret that signs sessions. `file` keeps it, for its owner only, so that sessions outlive the server."""
    try:
        secret = file.read_bytes()
        if len(secret) == _SECRET_BYTES:
            return secret
    except FileNotFoundError:
        pass
    make_private_dir(file.parent)
    secret = secrets.token_bytes(_SECRET_BYTES)
    write_atomically(file, secret, mode=0o600)
    return secret


class Guard:
    """Refuses requests that do not come from the page itself.

    - Host: must name this machine, with any port. This stops DNS rebinding: a name of another site that leads here
      finds nothing. With a password any host is allowed, because a browser has no session for that name.
    - Origin and Sec-Fetch-Site: must be the page's own. This stops requests from other sites.
    - Session: a signed cookie, which requests from other sites do not carry. The page sets it when it is opened; if
      there is a password, the login sets it. Browsers send cookies to all ports of a host, so its name depends on the
      library and the password: two servers on one machine do not overwrite each other's.
    """

    def __init__(self, app: ASGIApp, *, secret: bytes, password: str | None) -> None:
        self._app = app
        self._password = password
        self._session = hmac.new(secret, (password or "").encode(), hashlib.sha256).hexdigest()
        self._cookie_name = _COOKIE_PREFIX + hashlib.sha256(self._session.encode()).hexdigest()[:12]
        self._blocked_until_s = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page uses no web sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope, receive)
        response = await self._check(request)
        if response is not None:
            await response(scope, receive, _add_headers(send))
            return
        # without a password, the session comes with the page
        sets_session = request.url.path == "/" and not self._password
        session_header = [(b"set-cookie", self._cookie().encode())] if sets_session else []
        await self._app(scope, receive, _add_headers(send, session_header))

    async def _check(self, request: Request) -> Response | None:
        """The response to a refused request, or to one about the login; None lets the request pass."""
        host = request.headers.get("host", "").lower()
        if not self._password and not _LOOPBACK_HOST.fullmatch(host):
            return _refusal(_foreign_host(request, host))
        origin = request.headers.get("origin")
        opens_page = (
            request.method == "GET" and request.headers.get("sec-fetch-mode", "navigate") == "navigate"
        )
        if origin is not None and urlsplit(origin).netloc.lower() != host:
            return _refusal(_FOREIGN_PAGE)
        if request.headers.get("sec-fetch-site") in ("cross-site", "same-site") and not opens_page:
            return _refusal(_FOREIGN_PAGE)
        path = request.url.path
        if ".." in path.split("/"):
            return PlainTextResponse("there is nothing here\n", 404)
        if path == LOGIN and self._password:
            return await self._login(request)
        if self._has_session(request):
            return None
        if self._password:
            is_page = opens_page and not path.startswith("/api/")  # a program does not follow to a form
            if not is_page:
                return _refusal(_NOT_LOGGED_IN, 401)
            return RedirectResponse(f"{LOGIN}{_query(request) if path == '/' else ''}", 303)
        return None if path == "/" and opens_page else _refusal(_NO_SESSION)

    def _has_session(self, request: Request) -> bool:
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(request.headers.get("cookie", ""))
        except CookieError:
            return False
        session = cookies[self._cookie_name].value if self._cookie_name in cookies else ""
        return hmac.compare_digest(session.encode(), self._session.encode())

    def _cookie(self) -> str:
        return f"{self._cookie_name}={self._session}; HttpOnly; SameSite=Lax; Path=/; Max-Age={30 * 86400}"

    async def _login(self, request: Request) -> Response:
        if request.method != "POST":
            return HTMLResponse(login_page())
        if time.monotonic() < self._blocked_until_s:
            return HTMLResponse(login_page("Too fast: wait a second."), 429)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_FORM_BYTES:
                return _refusal("that is no password", 413)
        password = parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]
        if hmac.compare_digest(password.encode(), (self._password or "").encode()):
            return RedirectResponse(f"/{_query(request)}", 303, {"set-cookie": self._cookie()})
        self._blocked_until_s = time.monotonic() + _WRONG_PASSWORD_DELAY_S
        return HTMLResponse(login_page("That was not the password."), 401)


def _query(request: Request) -> str:
    """The query of the address with its question mark, or nothing: what the page shows after the login."""
    return f"?{request.url.query}" if request.url.query else ""


def _foreign_host(request: Request, host: str) -> str:
    """Why a host is refused, and what to do."""
    server = request.scope.get("server")
    port = f":{server[1]}" if server and server[1] else ""
    return (
        f"This page does not answer to the name {printable(host[:_MAX_SHOWN_HOST]) or '(none)'}. On the machine that "
        f"runs vtag, open http://localhost{port}/; elsewhere, forward a port to it (ssh -L 9000:localhost{port}) and "
        "open http://localhost:9000/. To use another name, as of a proxy or a container, start vtag with a password: "
        "vtag ui --auth."
    )


def _refusal(reason: str, status: int = 403) -> Response:
    return PlainTextResponse(f"{reason}\n", status)


def _add_headers(send: Send, headers: Iterable[tuple[bytes, bytes]] = ()) -> Send:
    """`send`, which adds `headers` and the security headers to every response."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message.get("headers", []),
                *headers,
                (b"content-security-policy", _SECURITY_POLICY.encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"referrer-policy", b"same-origin"),  # without it, browsers send no origin with the login
                (b"cross-origin-resource-policy", b"same-origin"),
            ]
        await send(message)

    return send_with_headers
