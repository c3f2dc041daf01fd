"""Downloads one file over https: limited in size, resumed after a break, checked, and complete or not there.

Every error says which host it is about and what to do instead.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import ssl
import time
import urllib.error
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from vtag.engine.errors import DownloadError
from vtag.engine.models.https import Limits, RefusedAddress, host_name, open_url
from vtag.engine.models.partial_download import PartialDownload, RemoteFile
from vtag.engine.paths import make_private_dir
from vtag.engine.system.atomic_write import flush_file
from vtag.engine.system.locks import LockHeldError, lock_file
from vtag.engine.text import display_path, printable

MAX_BYTES = 4 << 30  # much larger than any published Video Swin
# relative distance to the published size: sizes are rounded, and a megabyte may have 10**6 or 2**20 bytes
_SIZE_TOLERANCE = 0.05
_CHUNK_BYTES = 1 << 18
_HEAD_BYTES = 512  # enough to recognise a web page
_RESERVE_BYTES = 64 << 20  # what a download leaves free on the disk
_MAX_BREAKS = 50  # in all; a server may send a few bytes each time and break off
_MAX_PAUSE_S = 10.0

ProgressCallback = Callable[[int, int | None], None]  # bytes received so far, bytes in total if known


@dataclass(frozen=True)
class DownloadedFile:
    """A complete download."""

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class _Request:
    """What to download, and its limits."""

    url: str
    manual_steps: str
    max_bytes: int
    expected_bytes: int | None
    spare_bytes: int

    def error(self, reason: str) -> DownloadError:
        """The error for `reason`, a clause that follows the host's name."""
        manual_steps = f"; by hand: {self.manual_steps}" if self.manual_steps else ""
        return DownloadError(f"{host_name(self.url)} {reason}{manual_steps}")


class _ConnectionLost(Exception):
    """The connection ended before the file was complete. A new request may bring the rest."""


class _Unreachable(_ConnectionLost):
    """No connection could be made."""


def fetch(
    url: str,
    destination: Path,
    *,
    sha256_prefix: str | None = None,
    expected_bytes: int | None = None,
    max_bytes: int = MAX_BYTES,
    spare_bytes: int = 0,
    manual_steps: str = "",
    on_progress: ProgressCallback | None = None,
    attempts: int = 4,
    pause_s: float = 1.0,
    limits: Limits = Limits(),
) -> DownloadedFile:
    """Download `url` to `destination`, which is complete or not there.

    The bytes of an interrupted download stay in `destination`.part. The next call resumes it if the server still has
    the same file.

    Args:
        sha256_prefix: the known first hex digits of the file's SHA-256.
        expected_bytes: the published size; a file that is more than 5 % larger or smaller is refused.
        max_bytes: a longer file is refused, whatever size the server announces.
        spare_bytes: what has to be free on the disk besides the file itself.
        manual_steps: how to get the file without this function, for the end of the error.
        on_progress: called with the bytes received so far, and with the file's size if the server announced it.
        attempts: how many times in a row to try without receiving a byte.
        pause_s: the pause before the second attempt; it doubles with each further one, up to 10 s.

    Raises DownloadError with one sentence: the host, the reason, and `manual_steps`.
    """
    request = _Request(url, manual_steps, max_bytes, expected_bytes, spare_bytes)
    try:
        make_private_dir(destination.parent)
        with lock_file(destination.with_name(destination.name + ".lock")):
            partial = PartialDownload(destination.with_name(destination.name + ".part"))
            _download_with_retries(
                request, partial, on_progress or _ignore_progress, attempts, pause_s, limits
            )
            downloaded = _verify(request, partial, destination, sha256_prefix or "")
            partial.move_to(destination)
            return downloaded
    except LockHeldError as error:
        raise DownloadError(
            f"{error.holder} is downloading {host_name(url)}'s {printable(destination.name)} right now"
        ) from None
    except OSError as error:
        raise DownloadError(
            f"{display_path(destination)} cannot be written: {printable(error.strerror or str(error))}"
        ) from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download_with_retries(
    request: _Request,
    partial: PartialDownload,
    on_progress: ProgressCallback,
    attempts: int,
    pause_s: float,
    limits: Limits,
) -> None:
    failures = 0
    connected = False
    for _ in range(_MAX_BREAKS):
        size_before = partial.size_bytes
        try:
            return _download_rest(request, partial, on_progress, limits)
        except _ConnectionLost as error:
            if isinstance(error, _Unreachable) and not connected:
                raise request.error(f"cannot be reached ({error})") from error
            connected = True
            reason = str(error)
            failures = 1 if partial.size_bytes > size_before else failures + 1
        if failures >= attempts:
            break
        time.sleep(min(pause_s * 2 ** (failures - 1), _MAX_PAUSE_S))
    if received := partial.size_bytes:
        raise request.error(
            f"broke off after {_format_size(received)} ({reason}): the same command goes on from there"
        )
    raise request.error(f"does not respond ({reason})")


def _download_rest(
    request: _Request, partial: PartialDownload, on_progress: ProgressCallback, limits: Limits
) -> None:
    """Request the missing bytes once, and write them to `partial`."""
    resumed = partial.resumable(request.url)
    received = partial.size_bytes if resumed else 0
    if resumed and resumed.total_bytes == received:
        return
    headers = {"Range": f"bytes={received}-", "If-Range": resumed.validator} if resumed else {}
    try:
        response = open_url(request.url, headers, limits)
    except RefusedAddress as error:
        raise request.error(str(error)) from error
    except urllib.error.HTTPError as error:
        with closing(error):
            _explain_status(request, partial, error)
    except urllib.error.URLError as error:
        raise _unreachable(request, error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise _ConnectionLost(_reason(error)) from error  # connected, but no response
    with closing(response):
        _check_response(request, response)
        if resumed and response.status == 206:
            remote = _resumed_file(request, partial, resumed, received, response)
            head = b""
        else:
            received, remote = 0, _remote_file(request, response)
            head = _read_head(request, response)
        _check_size(request, remote.total_bytes)
        _check_free_space(request, partial, remote.total_bytes, received)
        with partial.append() if received else partial.create(remote) as file:
            _write(file, head)
            received = _receive(
                request, response, file, received + len(head), remote.total_bytes, on_progress
            )
    if received > _max_size(request):
        partial.discard()
        raise request.error(f"sends more than {_format_size(_max_size(request))}: that is not the file")


def _ignore_progress(_received: int, _total: int | None) -> None:
    """The default for `on_progress`."""


def _explain_status(request: _Request, partial: PartialDownload, error: urllib.error.HTTPError) -> None:
    """Raise the error that a status other than 200 and 206 means."""
    if error.code == 416:  # range not satisfiable: the file is another one now
        partial.discard()
        raise _ConnectionLost("the file has changed there")
    if error.code == 511:
        raise request.error("was not reached: the network requires a login first (511)")
    if error.code in (404, 410):
        raise request.error(f"has no such file any more ({error.code})")
    if error.code in (401, 403, 407, 451):
        raise request.error(f"does not give the file ({error.code})")
    if error.code in (408, 425, 429) or error.code >= 500:
        raise _ConnectionLost(f"status {error.code}")
    if 300 <= error.code < 400:
        raise request.error(f"redirects, but to no file ({error.code})")
    raise request.error(f"answers {error.code} instead of the file")


def _unreachable(request: _Request, reason: object) -> Exception:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return request.error(
            "has a certificate that is not trusted here (a wrong clock, a network that intercepts, or no "
            f"certificates installed: {_reason(reason)})"
        )
    return _Unreachable(_reason(reason))


def _check_response(request: _Request, response: Any) -> None:
    if response.status not in (200, 206):
        raise request.error(f"answers {response.status} instead of the file")
    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise _web_page_error(request, response)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise request.error(
            f"sends the file in an encoding ({printable(encoding)[:20]!r}) that was not requested"
        )


def _web_page_error(request: _Request, response: Any) -> DownloadError:
    redirected_to = host_name(response.url)
    if urlsplit(response.url).netloc != urlsplit(request.url).netloc:
        return request.error(
            f"was not reached: a web page of {redirected_to} came instead; does the network require a login?"
        )
    return request.error("answered with a web page instead of the file (does the network require a login?)")


def _remote_file(request: _Request, response: Any) -> RemoteFile:
    """The file that a response with status 200 announces."""
    if response.status != 200:
        raise request.error("sent a part of the file instead of all of it")
    length = response.headers.get("Content-Length", "")
    chunked = response.headers.get("Transfer-Encoding", "")
    total = int(length) if re.fullmatch(r"\d{1,18}", length) and not chunked else None
    etag, modified = (_header_value(response.headers.get(name)) for name in ("ETag", "Last-Modified"))
    return RemoteFile(request.url, total, etag, modified)


def _resumed_file(
    request: _Request, partial: PartialDownload, resumed: RemoteFile, received: int, response: Any
) -> RemoteFile:
    """The file that a response with status 206 continues. Raises DownloadError if it is not the missing part."""
    match = re.fullmatch(
        r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", response.headers.get("Content-Range", "").strip()
    )
    start, end, total = map(int, match.groups()) if match else (-1, -1, -1)
    is_same_file = _header_value(response.headers.get("ETag")) in ("", resumed.etag) or not resumed.etag
    if start != received or end + 1 != total or resumed.total_bytes not in (None, total) or not is_same_file:
        partial.discard()
        raise request.error(
            "sent another part of the file than the missing one; the same command starts over"
        )
    return RemoteFile(resumed.url, total, resumed.etag, resumed.last_modified)


def _read_head(request: _Request, response: Any) -> bytes:
    """The first bytes of the file. Raises DownloadError if they are a web page or a Git LFS pointer."""
    head = b""
    while len(head) < _HEAD_BYTES and (piece := _read(response, _HEAD_BYTES - len(head))):
        head += piece
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        raise _web_page_error(request, response)
    if text.startswith(b"version https://git-lfs"):
        raise request.error("sent a Git LFS pointer instead of the file itself")
    return head


def _check_size(request: _Request, total: int | None) -> None:
    if total is None:
        return
    if total > request.max_bytes:
        raise request.error(
            f"would send {_format_size(total)}, and at most {_format_size(request.max_bytes)} are taken"
        )
    expected = request.expected_bytes
    if total == 0 or (expected and abs(total - expected) > _SIZE_TOLERANCE * expected):
        instead = f", not {_format_size(expected)} as published" if expected else ""
        raise request.error(f"would send {_format_size(total)}{instead}: that is not the file")


def _check_free_space(request: _Request, partial: PartialDownload, total: int | None, received: int) -> None:
    missing_bytes = (total or request.expected_bytes or 0) - received
    needed = missing_bytes + request.spare_bytes + _RESERVE_BYTES
    free = shutil.disk_usage(partial.path.parent).free
    if free < needed:
        raise DownloadError(
            f"the disk at {display_path(partial.path.parent)} has {_format_size(free)} free, and "
            f"{_format_size(needed)} are needed: make room, or move everything with VTAG_HOME"
        )


def _receive(
    request: _Request,
    response: Any,
    file: BinaryIO,
    received: int,
    total: int | None,
    on_progress: ProgressCallback,
) -> int:
    """Append the response to `file`, which has `received` bytes; returns how many it has afterwards.

    Reads at most one byte more than the limit. Raises _ConnectionLost if the response ends before `total`.
    """
    end = total if total is not None else _max_size(request) + 1
    on_progress(received, total)
    while received < end and (piece := _read(response, min(_CHUNK_BYTES, end - received))):
        _write(file, piece)
        received += len(piece)
        on_progress(received, total)
    if total is not None and received < total:
        raise _ConnectionLost(f"the answer ended {_format_size(total - received)} early")
    return received


def _write(file: BinaryIO, piece: bytes) -> None:
    """Write all of `piece`. The file is unbuffered, and on a nearly full disk a write may be short."""
    unwritten = memoryview(piece)
    while unwritten:
        unwritten = unwritten[file.write(unwritten) :]


def _max_size(request: _Request) -> int:
    if request.expected_bytes:
        return min(request.max_bytes, int(request.expected_bytes * (1 + _SIZE_TOLERANCE)))
    return request.max_bytes


def _read(response: Any, size: int) -> bytes:
    try:
        return bytes(response.read1(size))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _ConnectionLost(_reason(error)) from error


def _verify(request: _Request, partial: PartialDownload, destination: Path, prefix: str) -> DownloadedFile:
    """Check size and hash of the complete file, and flush it to the disk. A wrong file is deleted."""
    size = partial.size_bytes
    digest = file_sha256(partial.path)
    expected = request.expected_bytes
    if not size or (expected and abs(size - expected) > _SIZE_TOLERANCE * expected):
        partial.discard()
        raise request.error(f"sent {_format_size(size)}: that is not the file")
    if not digest.startswith(prefix.lower()):
        partial.discard()
        raise request.error(
            f"sent another file than before or than published (SHA-256 {digest[:16]}..., not {prefix[:16]}...)"
        )
    with partial.append() as file:
        flush_file(file)
    return DownloadedFile(destination, digest, size)


def _header_value(value: str | None) -> str:
    """A header's value, to be stored; empty if it is missing, very long or not plain text."""
    return value.strip() if value and len(value) < 200 and value.isprintable() and value.isascii() else ""


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return str(error) if "within" in str(error) else "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return printable(error.strerror)[:120]
    return printable(str(error) or type(error).__name__)[:120]


def _format_size(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MB" if size_bytes >= 100_000 else f"{size_bytes} bytes"
