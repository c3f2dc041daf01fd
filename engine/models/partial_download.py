"""A file that is not whole yet: what came so far, and what the server said of the whole."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from vtag.engine.system.atomic_write import flush_folder

_MOST_NOTES_BYTES = 16 << 10


@dataclass(frozen=True)
class Whole:
    """What an answer said of the whole file; `etag` and `last_modified` tell whether it is still the same."""

    url: str
    total_bytes: int | None = None
    etag: str = ""
    last_modified: str = ""

    @property
    def validator(self) -> str:
        """What `If-Range` asks by: a strong ETag, else a date; empty where nothing tells two files apart."""
        return self.etag if self.etag.startswith('"') else self.last_modified


class Partial:
    """The file `path` that is written piece by piece, and `path`.json, which says what it is a part of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._notes = path.with_name(path.name + ".json")

    @property
    def size_bytes(self) -> int:
        """How much came so far."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def begun(self, url: str) -> Whole | None:
        """What a part that is here is of; None where nothing is here that can be continued from `url`."""
        if not self.size_bytes:
            return None
        try:
            with self._notes.open("rb") as opened:
                said = json.loads(opened.read(_MOST_NOTES_BYTES))
            whole = Whole(**said)
            texts = (whole.url, whole.etag, whole.last_modified)
            total = whole.total_bytes
            sound = all(isinstance(t, str) and t.isprintable() for t in texts) and (
                total is None or (isinstance(total, int) and total >= self.size_bytes)
            )
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        return whole if sound and whole.url == url and whole.validator else None

    def begin(self, whole: Whole) -> BinaryIO:
        """Start anew; the open file."""
        self.discard()
        descriptor = os.open(
            self._notes, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600
        )
        with open(descriptor, "w", encoding="utf-8") as opened:
            json.dump(asdict(whole), opened)
        return self._open(os.O_TRUNC)

    def go_on(self) -> BinaryIO:
        """The open file, at its end."""
        return self._open(os.O_APPEND)

    def discard(self) -> None:
        """Forget what came so far."""
        for path in (self.path, self._notes):
            with suppress(FileNotFoundError):
                path.unlink()

    def move_to(self, destination: Path) -> None:
        """The whole file appears at `destination` in one step."""
        os.replace(self.path, destination)
        self.discard()
        flush_folder(destination.parent)

    def _open(self, flag: int) -> BinaryIO:
        flags = os.O_CREAT | os.O_WRONLY | flag | getattr(os, "O_BINARY", 0)
        # unbuffered: what was received is kept when the process is killed
        return open(os.open(self.path, flags, 0o600), "wb", buffering=0)
