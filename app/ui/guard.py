"""The one middleware that every request passes: who asks, from which page, under which name, with which password."""

from __future__ import annotations

import hashlib
import hmac
import html
import secrets
import time
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vtag.engine.paths import make_private_dir
from vtag.engine.system.atomic_write import write_atomically

COOKIE = "vtag_session"
LOGIN = "/login"
# the page needs none of these of Gradio's: uploads, files by path, and requests on another's behalf
_CLOSED = (
    "/gradio_api/upload",
    "/gradio_api/file",
    "/gradio_api/proxy",
    "/file",
    "/proxy",
    "/upload",
    "/openapi",
)
_SLOW_DOWN_S = 1.0  # after a wrong password
_MOST_FORM_BYTES = 4096
# Gradio's scripts are inline and compile templates; nothing comes from or goes to elsewhere
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
)


def session_secret(file: Path) -> bytes:
    """The secret that signs sessions, kept in `file` (its owner's alone), so that they outlive the server."""
    try:
        kept = file.read_bytes()
        if len(kept) == 32:
            return kept
    except FileNotFoundError:
        pass
    make_private_dir(file.parent)
    made = secrets.token_bytes(32)
    write_atomically(file, made, mode=0o600)
    return made


class Guard:
    """Refuses what the page's own visitor did not ask for.

    - Host: only the names that the server was started under (a foreign name that resolves here is refused).
    - Origin and Sec-Fetch-Site: only the page itself (another site's page is refused).
    - Session: a signed cookie that other sites' requests do not carry. Without a password the page hands it out to
      whoever opens it; with one, the login does.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Iterable[str] | None, secret: bytes, password: str | None
    ) -> None:
        """`hosts`: allowed values of the Host header; None allows any, which needs a password."""
        if hosts is None and not password:
            raise ValueError("a page that any host may name needs a password")
        self._app = app
        self._hosts = None if hosts is None else {host.lower() for host in hosts}
        self._password = password
        self._session = hmac.new(secret, (password or "").encode(), hashlib.sha256).hexdigest()
        self._wrong_until = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page uses no web sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope, receive)
        answer = await self._answer(request)
        if answer is not None:
            await answer(scope, receive, _with_headers(send))
            return
        # whoever opens the page gets the session with it, where no password stands before it
        admitted = [] if self._password else [(b"set-cookie", self._cookie().encode())]
        await self._app(scope, receive, _with_headers(send, admitted if request.url.path == "/" else []))

    async def _answer(self, request: Request) -> Response | None:
        """What is said instead of what was asked for; None lets the request pass."""
        host = request.headers.get("host", "").lower()
        if self._hosts is not None and host not in self._hosts:
            return _refusal("this address is not vtag's")
        origin = request.headers.get("origin")
        opens_page = (
            request.method == "GET" and request.headers.get("sec-fetch-mode", "navigate") == "navigate"
        )
        if origin is not None and urlsplit(origin).netloc.lower() != host:
            return _refusal("another page asked")
        if request.headers.get("sec-fetch-site") in ("cross-site", "same-site") and not opens_page:
            return _refusal("another page asked")
        path = request.url.path
        if ".." in path.split("/") or path.startswith(_CLOSED):
            return PlainTextResponse("there is nothing here\n", 404)
        if path == LOGIN and self._password:
            return await self._login(request)
        if self._knows(request):
            return None
        if self._password:
            return RedirectResponse(LOGIN, 303) if opens_page else _refusal("log in first", 401)
        return None if path == "/" and opens_page else _refusal("open the page first")

    def _knows(self, request: Request) -> bool:
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(request.headers.get("cookie", ""))
        except CookieError:
            return False
        given = cookies[COOKIE].value if COOKIE in cookies else ""
        return hmac.compare_digest(given.encode(), self._session.encode())

    def _cookie(self) -> str:
        return f"{COOKIE}={self._session}; HttpOnly; SameSite=Lax; Path=/; Max-Age={30 * 86400}"

    async def _login(self, request: Request) -> Response:
        if request.method != "POST":
            return HTMLResponse(_LOGIN_PAGE.format(said=""))
        if time.monotonic() < self._wrong_until:
            return HTMLResponse(_LOGIN_PAGE.format(said="Too fast: wait a second."), 429)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_FORM_BYTES:
                return _refusal("that is no password", 413)
        given = parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]
        if hmac.compare_digest(given.encode(), (self._password or "").encode()):
            return RedirectResponse("/", 303, {"set-cookie": self._cookie()})
        self._wrong_until = time.monotonic() + _SLOW_DOWN_S
        return HTMLResponse(_LOGIN_PAGE.format(said=html.escape("That was not the password.")), 401)


def _refusal(why: str, status: int = 403) -> Response:
    return PlainTextResponse(f"{why}\n", status)


def _with_headers(send: Send, more: Iterable[tuple[bytes, bytes]] = ()) -> Send:
    """Every answer says what the browser may do with it."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message.get("headers", []),
                *more,
                (b"content-security-policy", _POLICY.encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"referrer-policy", b"no-referrer"),
                (b"cross-origin-resource-policy", b"same-origin"),
            ]
        await send(message)

    return sending


_LOGIN_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>vtag</title>
<style>body{{font:1rem system-ui,sans-serif;max-width:20rem;margin:20vh auto;padding:0 1rem;color-scheme:light dark}}
input,button{{font:inherit;width:100%;box-sizing:border-box;padding:.6rem;margin:.3rem 0}}</style>
<main><h1>vtag</h1><form method="post"><label>Password<input type="password" name="password" autofocus
autocomplete="current-password"></label><button>Open</button></form><p role="alert">{said}</p></main></html>"""
