"""One file over https: bounded, continued after a break, held against what is known of it, in place at once."""

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
from vtag.engine.models.https import Limits, RefusedAddress, host_of, open_url
from vtag.engine.models.partial_download import Partial, Whole
from vtag.engine.paths import make_private_dir
from vtag.engine.system.atomic_write import flush_file
from vtag.engine.system.locks import LockHeldError, lock_file
from vtag.engine.text import display_path, printable

MOST_BYTES = 4 << 30  # no published Video Swin comes near
_SLACK = (
    0.05  # how far a file may be from its published size: sizes are rounded, and megabytes are of two kinds
)
_CHUNK = 1 << 18
_HEAD_BYTES = 512
_SPARE_BYTES = 64 << 20  # what a download leaves free on the disk
_MOST_BREAKS = 50  # in all, of a server that gives a little each time
_LONGEST_PAUSE_S = 10.0

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Fetched:
    """A file that was downloaded whole."""

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class _Wanted:
    """What is asked for; makes the errors, which all say where from and what to do instead."""

    url: str
    by_hand: str
    most_bytes: int
    expected_bytes: int | None
    room_bytes: int

    def failed(self, what: str) -> DownloadError:
        by_hand = f"; by hand: {self.by_hand}" if self.by_hand else ""
        return DownloadError(f"{host_of(self.url)} {what}{by_hand}")


class _Broken(Exception):
    """The connection ended before the file did: what came is kept, and asking again may bring the rest."""


class _Unreachable(_Broken):
    """There was no connection at all."""


def fetch(
    url: str,
    destination: Path,
    *,
    sha256_prefix: str | None = None,
    expected_bytes: int | None = None,
    most_bytes: int = MOST_BYTES,
    room_bytes: int = 0,
    by_hand: str = "",
    on_progress: Progress | None = None,
    attempts: int = 4,
    pause_s: float = 1.0,
    limits: Limits = Limits(),
) -> Fetched:
    """Download `url` to `destination`, which appears whole or not at all.

    What came of an interrupted download lies in `destination`.part, and the next call goes on from there if
    the server still has the same file.

    Args:
        sha256_prefix: the first hex digits of the file's SHA-256, as far as they are known.
        expected_bytes: the size as published; an answer 5 % away from it is refused.
        most_bytes: no answer longer than this is taken, whatever it says of itself.
        room_bytes: what has to be free on the disk beside the file itself.
        by_hand: what to do where this fails, for the end of the error.
        on_progress: told of the bytes that are here, and of the file's size where the server said it.
        attempts: how often in a row it is tried without a byte of progress; `pause_s` before the second, then
            twice as long each time.

    Raises DownloadError, one sentence with the host and `by_hand`.
    """
    wanted = _Wanted(url, by_hand, most_bytes, expected_bytes, room_bytes)
    try:
        make_private_dir(destination.parent)
        with lock_file(destination.with_name(destination.name + ".lock")):
            partial = Partial(destination.with_name(destination.name + ".part"))
            _ask_until_whole(wanted, partial, on_progress or _nobody, attempts, pause_s, limits)
            fetched = _checked(wanted, partial, destination, sha256_prefix or "")
            partial.move_to(destination)
            return fetched
    except LockHeldError:
        raise DownloadError(
            f"another vtag is downloading {host_of(url)}'s {printable(destination.name)} right now"
        ) from None
    except OSError as error:
        raise DownloadError(
            f"{display_path(destination)} cannot be written: {printable(error.strerror or str(error))}"
        ) from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises OSError."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _ask_until_whole(
    wanted: _Wanted,
    partial: Partial,
    on_progress: Progress,
    attempts: int,
    pause_s: float,
    limits: Limits,
) -> None:
    failures = 0
    connected = False
    for _ in range(_MOST_BREAKS):
        before = partial.size_bytes
        try:
            return _ask(wanted, partial, on_progress, limits)
        except _Broken as error:
            if isinstance(error, _Unreachable) and not connected:
                raise wanted.failed(f"cannot be reached ({error})") from error
            connected = True
            reason = str(error)
            failures = 1 if partial.size_bytes > before else failures + 1
        if failures >= attempts:
            break
        time.sleep(min(pause_s * 2 ** (failures - 1), _LONGEST_PAUSE_S))
    if had := partial.size_bytes:
        raise wanted.failed(
            f"broke off after {_megabytes(had)} ({reason}): the same command goes on from there"
        )
    raise wanted.failed(f"gives no answer ({reason})")


def _ask(wanted: _Wanted, partial: Partial, on_progress: Progress, limits: Limits) -> None:
    """Ask once for what is missing, and keep what comes."""
    begun = partial.begun(wanted.url)
    have = partial.size_bytes if begun else 0
    if begun and begun.total_bytes == have:
        return
    headers = {"Range": f"bytes={have}-", "If-Range": begun.validator} if begun else {}
    try:
        answer = open_url(wanted.url, headers, limits)
    except RefusedAddress as error:
        raise wanted.failed(str(error)) from error
    except urllib.error.HTTPError as error:
        with closing(error):
            _explain_status(wanted, partial, error)
    except urllib.error.URLError as error:
        raise _unreachable(wanted, error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_reason(error)) from error  # connected, but answered with nothing
    with closing(answer):
        _refuse_pages(wanted, answer)
        if begun and answer.status == 206:
            whole = _continued(wanted, partial, begun, have, answer)
            head = b""
        else:
            have, whole = 0, _announced(wanted, answer)
            head = _head(wanted, answer)
        _refuse_size(wanted, whole.total_bytes)
        _refuse_full_disk(wanted, partial, whole.total_bytes, have)
        with partial.go_on() if have else partial.begin(whole) as file:
            _write(file, head)
            have = _receive(wanted, answer, file, have + len(head), whole.total_bytes, on_progress)
    if have > _most(wanted):
        partial.discard()
        raise wanted.failed(f"sends more than {_megabytes(_most(wanted))}: that is not the file")


def _nobody(_have: int, _total: int | None) -> None:
    """Whom progress is told where nobody asked."""


def _explain_status(wanted: _Wanted, partial: Partial, error: urllib.error.HTTPError) -> None:
    """Raise what an answer means that is neither 200 nor 206."""
    if error.code == 416:  # there is no such rest: the file is another one now
        partial.discard()
        raise _Broken("the file has changed there")
    if error.code == 511:
        raise wanted.failed("was not reached: the network asks for a login first (511)")
    if error.code in (404, 410):
        raise wanted.failed(f"has no such file any more ({error.code})")
    if error.code in (401, 403, 407, 451):
        raise wanted.failed(f"does not give the file ({error.code})")
    if error.code in (408, 425, 429) or error.code >= 500:
        raise _Broken(f"it answers {error.code}")
    if 300 <= error.code < 400:
        raise wanted.failed(f"redirects to where no file is ({error.code})")
    raise wanted.failed(f"answers {error.code} instead of the file")


def _unreachable(wanted: _Wanted, reason: object) -> Exception:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return wanted.failed(
            "shows a certificate that is not trusted here (a wrong clock, a network that reads along, or no "
            f"certificates installed: {_reason(reason)})"
        )
    return _Unreachable(_reason(reason))


def _refuse_pages(wanted: _Wanted, answer: Any) -> None:
    if answer.status not in (200, 206):
        raise wanted.failed(f"answers {answer.status} instead of the file")
    if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise _page(wanted, answer)
    coding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise wanted.failed(
            f"sends the file in another coding ({printable(coding)[:20]!r}) than was asked for"
        )


def _page(wanted: _Wanted, answer: Any) -> DownloadError:
    last = host_of(answer.url)
    if urlsplit(answer.url).netloc != urlsplit(wanted.url).netloc:
        return wanted.failed(
            f"was not reached: a web page of {last} came instead, as networks send that want a login first"
        )
    return wanted.failed(
        "answered with a web page instead of the file (does the network want a login first?)"
    )


def _announced(wanted: _Wanted, answer: Any) -> Whole:
    """What an answer says of the file that it brings from the start."""
    if answer.status != 200:
        raise wanted.failed("sent a part of the file where all of it was asked for")
    length = answer.headers.get("Content-Length", "")
    chunked = answer.headers.get("Transfer-Encoding", "")
    total = int(length) if re.fullmatch(r"\d{1,18}", length) and not chunked else None
    etag, modified = (_short(answer.headers.get(name)) for name in ("ETag", "Last-Modified"))
    return Whole(wanted.url, total, etag, modified)


def _continued(wanted: _Wanted, partial: Partial, begun: Whole, have: int, answer: Any) -> Whole:
    """What is known of the whole, held against the part that an answer says it brings."""
    told = re.fullmatch(
        r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", answer.headers.get("Content-Range", "").strip()
    )
    start, end, total = map(int, told.groups()) if told else (-1, -1, -1)
    same = _short(answer.headers.get("ETag")) in ("", begun.etag) or not begun.etag
    if start != have or end + 1 != total or begun.total_bytes not in (None, total) or not same:
        partial.discard()
        raise wanted.failed(
            "was asked for the rest of the file and sent another part; ask again from the start"
        )
    return Whole(begun.url, total, begun.etag, begun.last_modified)


def _head(wanted: _Wanted, answer: Any) -> bytes:
    """The first bytes, before anything is written, unless they are something else than a model."""
    head = b""
    while len(head) < _HEAD_BYTES and (piece := _read(answer, _HEAD_BYTES - len(head))):
        head += piece
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        raise _page(wanted, answer)
    if text.startswith(b"version https://git-lfs"):
        raise wanted.failed("sent a Git LFS pointer instead of the file itself")
    return head


def _refuse_size(wanted: _Wanted, total: int | None) -> None:
    if total is None:
        return
    if total > wanted.most_bytes:
        raise wanted.failed(
            f"would send {_megabytes(total)}, and at most {_megabytes(wanted.most_bytes)} are taken"
        )
    expected = wanted.expected_bytes
    if total == 0 or (expected and abs(total - expected) > _SLACK * expected):
        instead = f", not {_megabytes(expected)} as published" if expected else ""
        raise wanted.failed(f"would send {_megabytes(total)}{instead}: that is not the file")


def _refuse_full_disk(wanted: _Wanted, partial: Partial, total: int | None, have: int) -> None:
    missing = (total or wanted.expected_bytes or 0) - have
    needed = missing + wanted.room_bytes + _SPARE_BYTES
    free = shutil.disk_usage(partial.path.parent).free
    if free < needed:
        raise DownloadError(
            f"the disk at {display_path(partial.path.parent)} has {_megabytes(free)} free, and "
            f"{_megabytes(needed)} are needed: make room, or move everything with VTAG_HOME"
        )


def _receive(
    wanted: _Wanted, answer: Any, file: BinaryIO, have: int, total: int | None, on_progress: Progress
) -> int:
    """Write the answer to `file`, which has `have` bytes; how many it has then, at most one more than is taken.

    Raises _Broken where the answer ends before `total`.
    """
    end = total if total is not None else _most(wanted) + 1
    on_progress(have, total)
    while have < end and (piece := _read(answer, min(_CHUNK, end - have))):
        _write(file, piece)
        have += len(piece)
        on_progress(have, total)
    if total is not None and have < total:
        raise _Broken(f"the answer ended {_megabytes(total - have)} early")
    return have


def _write(file: BinaryIO, piece: bytes) -> None:
    """All of `piece`: the file is unbuffered, and such a write may be short where a disk is nearly full."""
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]


def _most(wanted: _Wanted) -> int:
    if wanted.expected_bytes:
        return min(wanted.most_bytes, int(wanted.expected_bytes * (1 + _SLACK)))
    return wanted.most_bytes


def _read(answer: Any, size: int) -> bytes:
    try:
        return bytes(answer.read1(size))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Broken(_reason(error)) from error


def _checked(wanted: _Wanted, partial: Partial, destination: Path, prefix: str) -> Fetched:
    """The partial file, whole and as it should be; one that is not is thrown away."""
    size = partial.size_bytes
    digest = file_sha256(partial.path)
    expected = wanted.expected_bytes
    if not size or (expected and abs(size - expected) > _SLACK * expected):
        partial.discard()
        raise wanted.failed(f"sent {_megabytes(size)}: that is not the file")
    if not digest.startswith(prefix.lower()):
        partial.discard()
        raise wanted.failed(
            f"sent another file than the one that is known (SHA-256 {digest[:16]}..., not {prefix[:16]}...)"
        )
    with partial.go_on() as file:
        flush_file(file)
    return Fetched(destination, digest, size)


def _short(value: str | None) -> str:
    """A header's value that is kept: what is long or strange is as good as none."""
    return value.strip() if value and len(value) < 200 and value.isprintable() and value.isascii() else ""


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return str(error) if "within" in str(error) else "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return printable(error.strerror)[:120]
    return printable(str(error) or type(error).__name__)[:120]


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MB" if size_bytes >= 100_000 else f"{size_bytes} bytes"
