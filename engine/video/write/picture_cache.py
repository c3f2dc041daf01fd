"""A bounded cache of pictures and strips; processes of a pool render what is missing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from vtag.engine.errors import VideoError
from vtag.engine.paths import make_private_dir
from vtag.engine.system.atomic_write import PART_SUFFIX, atomic_path
from vtag.engine.video.write.pictures import render_picture, render_strip
from vtag.engine.video.write.render_pool import Priority, RenderPool

_LOCKS = 256
_STALE_S = 600  # an incomplete file that is older was left by a killed server
_SWEEP_INTERVAL = 50  # new files between two checks of the cache's size


class PictureCache:
    """JPEG pictures in `folder`, at most `max_bytes`; the least recently used are deleted first.

    Any thread may call its methods.
    """

    def __init__(self, folder: Path, pool: RenderPool, max_bytes: int = 1 << 30) -> None:
        self._folder = folder
        self._pool = pool
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._new_files = 0
        self._rendering = [threading.Lock() for _ in range(_LOCKS)]

    def get_picture(self, content_key: str, path: bytes, time_ms: int, tolerance_ms: int = 0) -> Path:
        """The JPEG file of the frame of `path` at `time_ms`, or a key frame before it. Raises VideoError."""
        name = f"{content_key} {time_ms} {tolerance_ms}"
        render = partial(_write_picture, path, time_ms, tolerance_ms)
        return self._get(name, ".jpg", render, Priority.PICTURE)

    def get_strip(self, content_key: str, path: bytes, start_ms: int, end_ms: int) -> Path:
        """The JPEG file of a strip of pictures of `path` from `start_ms` to `end_ms`. Raises VideoError."""
        name = f"{content_key} strip {start_ms} {end_ms}"
        return self._get(name, ".jpg", partial(_write_strip, path, start_ms, end_ms), Priority.STRIP)

    def _get(self, name: str, suffix: str, render: Callable[[Path], None], priority: Priority) -> Path:
        file = self._folder / (hashlib.blake2b(name.encode(), digest_size=16).hexdigest() + suffix)
        with contextlib.suppress(OSError):
            os.utime(file)  # its last use
            return file
        with self._rendering[hash(file) % _LOCKS]:  # who asks for the same file waits for it
            if not file.is_file():
                self._render(file, render, priority)
        return file

    def _render(self, file: Path, render: Callable[[Path], None], priority: Priority) -> None:
        make_private_dir(self._folder)
        try:
            with atomic_path(file, is_flushed=False) as part:
                self._pool.run(partial(render, part), priority)
        except OSError as error:
            raise VideoError(f"no picture can be kept: {error.strerror}") from error
        with self._lock:
            self._new_files += 1
            if self._new_files % _SWEEP_INTERVAL == 1:
                self._sweep()

    def _sweep(self) -> None:
        """Delete the least recently used files, and incomplete ones that a killed server left."""
        files, stale_s = [], time.time() - _STALE_S
        for entry in self._folder.iterdir():
            with contextlib.suppress(OSError):
                info = entry.stat()
                if entry.suffix != PART_SUFFIX:
                    files.append((info.st_mtime, info.st_size, entry))
                elif info.st_mtime < stale_s:
                    entry.unlink()
        total = sum(size for _, size, _ in files)
        for _, size, entry in sorted(files):
            if total <= self._max_bytes:
                break
            entry.unlink(missing_ok=True)
            total -= size


def _write_picture(path: bytes, time_ms: int, tolerance_ms: int, part: Path) -> None:
    """In a process of the pool, as the functions below."""
    part.write_bytes(render_picture(path, time_ms, tolerance_ms=tolerance_ms))


def _write_strip(path: bytes, start_ms: int, end_ms: int, part: Path) -> None:
    part.write_bytes(render_strip(path, start_ms, end_ms))
