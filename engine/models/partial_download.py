"""A download that is not complete yet: the bytes received so far, and what the server said of the whole file."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from vtag.engine.system.atomic_write import replace_durably

_MAX_NOTES_BYTES = 16 << 10


@dataclass(frozen=True)
class RemoteFile:
    """The whole file as the server described it. `etag` and `last_modified` show whether it is still the same."""

    url: str
    total_bytes: int | None = None
    etag: str = ""
    last_modified: str = ""

    @property
    def validator(self) -> str:
        """The value for `If-Range`: a strong ETag, else a date; empty if the server sent neither."""
        return self.etag if self.etag.startswith('"') else self.last_modified


class PartialDownload:
    """The file `path` with the bytes received so far, and `path`.json with the RemoteFile that they are of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._notes = path.with_name(path.name + ".json")

    @property
    def size_bytes(self) -> int:
        """How many bytes were received so far."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def resumable(self, url: str) -> RemoteFile | None:
        """The file that an earlier download from `url` began; None if there is nothing to resume."""
        if not self.size_bytes:
            return None
        try:
            with self._notes.open("rb") as stream:
                notes = json.loads(stream.read(_MAX_NOTES_BYTES))
            remote = RemoteFile(**notes)
            texts = (remote.url, remote.etag, remote.last_modified)
            total = remote.total_bytes
            is_valid = all(isinstance(t, str) and t.isprintable() for t in texts) and (
                total is None or (isinstance(total, int) and total >= self.size_bytes)
            )
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        return remote if is_valid and remote.url == url and remote.validator else None

    def create(self, remote: RemoteFile) -> BinaryIO:
        """Start from the first byte; returns the open file."""
        self.discard()
        descriptor = os.open(
            self._notes, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600
        )
        with open(descriptor, "w", encoding="utf-8") as stream:
            json.dump(asdict(remote), stream)
        return self._open(os.O_TRUNC)

    def append(self) -> BinaryIO:
        """The open file, at its end."""
        return self._open(os.O_APPEND)

    def discard(self) -> None:
        """Delete what was received so far."""
        for path in (self.path, self._notes):
            with suppress(FileNotFoundError):
                path.unlink()

    def move_to(self, destination: Path) -> None:
        """Rename the complete file to `destination`, where it appears at once."""
        replace_durably(self.path, destination)
        self.discard()

    def _open(self, flag: int) -> BinaryIO:
        flags = os.O_CREAT | os.O_WRONLY | flag | getattr(os, "O_BINARY", 0)
        # unbuffered, so that received bytes survive if the process is killed
        return open(os.open(self.path, flags, 0o600), "wb", buffering=0)
