"""Opens an https address: few redirects, five seconds to connect. Tests may use http on this machine."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import IO, Any
from urllib.parse import urlsplit

from vtag.engine.text import printable

MOST_REDIRECTS = 5
CONNECT_S = 5.0  # name lookup, connection, proxy and encryption together
READ_S = 30.0  # of silence within a response


class RefusedAddress(Exception):
    """An address that is not requested, or redirects to a bad one. The message is a clause after the host's name."""


@dataclass(frozen=True)
class Limits:
    """The longest time to connect, and the longest silence, in seconds."""

    connect_s: float = CONNECT_S
    read_s: float = READ_S


def host_name(url: str) -> str:
    """The host of an address, to show."""
    try:
        return printable(urlsplit(url).hostname or "the address")[:100]
    except ValueError:
        return "the address"


def is_allowed(url: str, *, loopback: bool = False) -> bool:
    """Whether to request `url`: https without a user name; with `loopback` also http to this machine."""
    try:
        parts = urlsplit(url)
        is_valid = bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        return False
    if not is_valid or not url.isascii() or not url.isprintable():
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and loopback and is_loopback(url))


def is_loopback(url: str) -> bool:
    """Whether an address names this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_url(url: str, headers: dict[str, str], limits: Limits = Limits()) -> Any:
    """Send a GET, follow redirects, and return the open http.client.HTTPResponse; its `url` is the last address.

    Uses the proxy of the environment. Raises RefusedAddress for an address that must not be requested and for too
    many redirects; urllib.error.HTTPError, URLError and OSError as urllib does.
    """
    is_local = is_loopback(url)
    if not is_allowed(url, loopback=True):
        raise RefusedAddress("is refused: vtag downloads only from https addresses")
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler({} if is_local else None),
        _HttpHandler(limits),
        _HttpsHandler(limits),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _RedirectHandler(loopback=url.startswith("http:")),
    ):
        opener.add_handler(handler)
    all_headers = {"User-Agent": f"vtag/{version('vtag')}", "Accept-Encoding": "identity", **headers}
    # each IP address of the host gets half of the time, so a silent one leaves time for another
    try:
        return opener.open(urllib.request.Request(url, headers=all_headers), timeout=limits.connect_s / 2)
    except ValueError as error:  # urllib raises it for an address that it cannot parse
        raise RefusedAddress("redirects to an invalid address") from error


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, but never from https to http."""

    def __init__(self, *, loopback: bool) -> None:
        self._loopback = loopback
        self._followed = 0

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        self._followed += 1
        if self._followed > MOST_REDIRECTS:
            raise RefusedAddress(f"redirects more than {MOST_REDIRECTS} times")
        if not is_allowed(newurl, loopback=self._loopback):
            raise RefusedAddress(f"redirects to {printable(newurl)[:200]}, which is not https: not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _HttpConnection(http.client.HTTPConnection):
    def __init__(self, host: str, *, limits: Limits, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._limits = limits

    def connect(self) -> None:
        _connect_within(self, super().connect, self._limits)


class _HttpsConnection(http.client.HTTPSConnection):
    def __init__(self, host: str, *, limits: Limits, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._limits = limits

    def connect(self) -> None:
        _connect_within(self, super().connect, self._limits)


class _HttpHandler(urllib.request.HTTPHandler):
    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, req, limits=self._limits)  # type: ignore[arg-type]


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpsConnection, req, limits=self._limits)  # type: ignore[arg-type]


def _connect_within(
    connection: http.client.HTTPConnection, connect: Callable[[], None], limits: Limits
) -> None:
    """Connect within `limits.connect_s`. It runs in a thread, since a name lookup has no timeout of its own."""
    failure: list[BaseException] = []

    def run() -> None:
        try:
            connect()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True, name="connect")
    thread.start()
    thread.join(limits.connect_s)
    if thread.is_alive():
        raise TimeoutError(f"no connection within {limits.connect_s:g} seconds")
    if failure:
        raise failure[0]
    if isinstance(connection.sock, socket.socket):
        connection.sock.settimeout(limits.read_s)
