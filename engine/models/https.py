"""Opening an address: https alone, few redirects, five seconds to connect; loopback may be http, for tests."""

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
CONNECT_S = 5.0  # name, connection, proxy and encryption together
READ_S = 30.0  # of silence within an answer


class RefusedAddress(Exception):
    """An address that is not asked, or led nowhere good; the message goes on after the host's name."""


@dataclass(frozen=True)
class Limits:
    """Seconds: to connect in all, and of silence."""

    connect_s: float = CONNECT_S
    read_s: float = READ_S


def host_of(url: str) -> str:
    """The host of an address, fit to be shown."""
    try:
        return printable(urlsplit(url).hostname or "the address")[:100]
    except ValueError:
        return "the address"


def is_allowed(url: str, *, loopback: bool = False) -> bool:
    """Whether `url` is https, or, where `loopback`, http to this very machine; and no trick."""
    try:
        parts = urlsplit(url)
        sound = bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        return False
    if not sound or not url.isascii() or not url.isprintable():
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and loopback and is_loopback(url))


def is_loopback(url: str) -> bool:
    """Whether an address names this very machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_url(url: str, headers: dict[str, str], limits: Limits = Limits()) -> Any:
    """The open answer (http.client.HTTPResponse; its `url` is the last one) to a GET, redirects followed.

    A proxy of the environment is used. Raises RefusedAddress for an address that must not be asked and for too
    many redirects; urllib.error.HTTPError, URLError and OSError as urllib does.
    """
    local = is_loopback(url)
    if not is_allowed(url, loopback=True):
        raise RefusedAddress("is not asked: vtag downloads from https addresses alone")
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler({} if local else None),
        _OverHttp(limits),
        _OverHttps(limits),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(loopback=url.startswith("http:")),
    ):
        opener.add_handler(handler)
    told = {"User-Agent": f"vtag/{version('vtag')}", "Accept-Encoding": "identity", **headers}
    # each of a host's addresses gets half of the time, so that a silent one does not cost the others
    try:
        return opener.open(urllib.request.Request(url, headers=told), timeout=limits.connect_s / 2)
    except ValueError as error:  # urllib's word for an address that cannot be taken apart
        raise RefusedAddress("redirects to what is no address") from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, and never from https to http."""

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


class _Plain(http.client.HTTPConnection):
    def __init__(self, host: str, *, limits: Limits, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._limits = limits

    def connect(self) -> None:
        _connect_within(self, super().connect, self._limits)


class _Encrypted(http.client.HTTPSConnection):
    def __init__(self, host: str, *, limits: Limits, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._limits = limits

    def connect(self) -> None:
        _connect_within(self, super().connect, self._limits)


class _OverHttp(urllib.request.HTTPHandler):
    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Plain, req, limits=self._limits)  # type: ignore[arg-type]


class _OverHttps(urllib.request.HTTPSHandler):
    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Encrypted, req, limits=self._limits)  # type: ignore[arg-type]


def _connect_within(
    connection: http.client.HTTPConnection, connect: Callable[[], None], limits: Limits
) -> None:
    """Connect in so many seconds in all: looking a name up knows no time limit of its own."""
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
