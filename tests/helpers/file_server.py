"""A real HTTP server on loopback whose responses fail in the ways of real servers and networks."""

from __future__ import annotations

import hashlib
import http.server
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

Handler = http.server.BaseHTTPRequestHandler
Response = Callable[[Handler], None]


@dataclass
class FileServer:
    """A running server: its responses by path, and the path and headers of each request."""

    port: int
    scheme: str = "http"
    responses: dict[str, Response] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/model.pth", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def serve(self, answer: Response, path: str = "/model.pth") -> str:
        self.responses[path] = answer
        return self.url(path)

    def ranges(self) -> list[str | None]:
        """The Range header of every request so far."""
        return [headers.get("Range") for _, headers in self.requests]


@contextmanager
def file_server(certificate: Path | None = None) -> Iterator[FileServer]:
    """A running server; https if there is a `certificate` (PEM with its key)."""
    server: FileServer

    class Request(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.requests.append((self.path, dict(self.headers)))
            answer = server.responses.get(self.path, status_response(404, b"<html>not here</html>"))
            self.close_connection = True
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:  # the tests disconnect clients on purpose
            pass

    with Quiet(("127.0.0.1", 0), Request) as listening:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            listening.socket = context.wrap_socket(listening.socket, server_side=True)
        server = FileServer(listening.server_port, "https" if certificate else "http")
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            listening.shutdown()
            thread.join()


def file_response(
    body: bytes,
    *,
    breaks: list[int] | None = None,
    etag: str | None = "",
    modified: str | None = None,
    ranges: bool = True,
    content_range: str | None = None,
    headers: dict[str, str] | None = None,
    length: int | None = None,
) -> Response:
    """A response with `body` by the rules of HTTP, with Range and If-Range, unless an argument breaks a rule.

    Args:
        breaks: the n-th response ends after this many bytes; later ones are complete.
        etag: empty for the body's hash, None for no header.
        ranges: whether the server obeys a Range header.
        content_range: a false Content-Range header.
        length: a false Content-Length header.
    """
    etag = f'"{hashlib.md5(body).hexdigest()}"' if etag == "" else etag
    remaining_breaks = list(breaks or [])

    def answer(request: Handler) -> None:
        start = 0
        requested_range = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        condition = request.headers.get("If-Range")
        if requested_range and ranges and condition in (None, etag, modified):
            start = int(requested_range[1])
            if start >= len(body):
                return status_response(416, b"", {"Content-Range": f"bytes */{len(body)}"})(request)
        part = body[start:]
        request.send_response(206 if start else 200)
        if start:
            range_header = (
                f"bytes {start}-{len(body) - 1}/{len(body)}" if content_range is None else content_range
            )
            request.send_header("Content-Range", range_header)
        default_headers = {
            "Content-Type": "application/octet-stream",
            "ETag": etag,
            "Last-Modified": modified,
        }
        for name, value in (default_headers | (headers or {})).items():
            if value is not None:
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(part) if length is None else length))
        request.end_headers()
        request.wfile.write(part[: remaining_breaks.pop(0)] if remaining_breaks else part)

    return answer


def chunked_response(
    body: bytes, *, cut: int | None = None, headers: dict[str, str] | None = None
) -> Response:
    """A response in chunks without a length; it ends within a chunk after `cut` bytes."""

    def answer(request: Handler) -> None:
        request.send_response(200)
        for name, value in {"Transfer-Encoding": "chunked", **(headers or {})}.items():
            request.send_header(name, value)
        request.end_headers()
        for start in range(0, len(body), 1000):
            piece = body[start : start + 1000]
            chunk = f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
            if cut is not None and start + len(piece) > cut:
                request.wfile.write(chunk[:-100])
                return
            request.wfile.write(chunk)
        request.wfile.write(b"0\r\n\r\n")

    return answer


def stalled_response(server: FileServer, body: bytes, total: int) -> Response:
    """A response that sends `body` of a file of `total` bytes and then nothing until the server ends."""

    def answer(request: Handler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(total))
        request.send_header("ETag", '"slow"')
        request.end_headers()
        request.wfile.write(body)
        request.wfile.flush()
        server.released.wait(60)

    return answer


def status_response(code: int, body: bytes = b"", headers: dict[str, str] | None = None) -> Response:
    """A response with the status `code`; `body` is HTML."""

    def answer(request: Handler) -> None:
        request.send_response(code)
        default_headers = {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body))}
        for name, value in (default_headers | (headers or {})).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def redirect_response(target: str, code: int = 302) -> Response:
    return status_response(code, b"", {"Location": target})


def responses_in_order(*responses: Response) -> Response:
    """The first response to the first request, and so on; the last one repeats."""
    remaining = list(responses)

    def answer(request: Handler) -> None:
        (remaining.pop(0) if len(remaining) > 1 else remaining[0])(request)

    return answer
