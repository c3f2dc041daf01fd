"""A bounded cache of pictures and playable moments; a separate process renders what is missing."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from types import TracebackType

from vtag.engine.errors import VideoError
from vtag.engine.paths import make_private_dir
from vtag.engine.system.atomic_write import PART_SUFFIX, atomic_path
from vtag.engine.video.write.pictures import render_picture, write_moment

MAX_MOMENT_MS = 60_000
_TIME_LIMIT_S = 60.0
_MEMORY_BYTES = 4 << 30  # address space of the decoding process (Linux); most of it is never used
_SWEEP_INTERVAL = 50  # new files between two checks of the cache's size


class PictureCache:
    """JPEG pictures and MP4 moments in `folder`, at most `max_bytes`; the least recently used are deleted first.

    If a video crashes or hangs the decoder, only its own picture fails: the process is killed and a new one starts.
    A context manager; any thread may call its methods.
    """

    def __init__(self, folder: Path, max_bytes: int = 1 << 30) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._process: ProcessPoolExecutor | None = None
        self._new_files = 0

    def get_picture(self, content_key: str, path: bytes, time_ms: int) -> Path:
        """The JPEG file of the frame of `path` at `time_ms`. Raises VideoError."""
        return self._get(f"{content_key} {time_ms}", ".jpg", partial(_write_picture, path, time_ms))

    def get_moment(self, content_key: str, path: bytes, start_ms: int, end_ms: int) -> Path:
        """The MP4 file of `path` from `start_ms` to `end_ms`, at most one minute. Raises VideoError."""
        end_ms = min(end_ms, start_ms + MAX_MOMENT_MS)
        name = f"{content_key} {start_ms} {end_ms}"
        return self._get(name, ".mp4", partial(_write_moment, path, start_ms, end_ms))

    def _get(self, name: str, suffix: str, render: Callable[[Path], str | None]) -> Path:
        file = self._folder / (hashlib.blake2b(name.encode(), digest_size=16).hexdigest() + suffix)
        with contextlib.suppress(OSError):
            os.utime(file)  # its last use
            return file
        with self._lock:  # one at a time: the machine has other work, too
            if file.is_file():
                return file
            make_private_dir(self._folder)
            try:
                with atomic_path(file, is_flushed=False) as part:
                    self._run(render, part)
            except OSError as error:
                raise VideoError(f"no picture can be kept: {error.strerror}") from error
            self._new_files += 1
            if self._new_files % _SWEEP_INTERVAL == 1:
                self._sweep()
        return file

    def _run(self, render: Callable[[Path], str | None], part: Path) -> None:
        if self._process is None:
            self._process = ProcessPoolExecutor(
                1, mp_context=multiprocessing.get_context("spawn"), initializer=_initialise
            )
        try:
            error_message = self._process.submit(render, part).result(timeout=_TIME_LIMIT_S)
        except (BrokenProcessPool, FutureTimeoutError) as error:
            self._kill()
            raise VideoError("the decoder crashed or hung over this video") from error
        if error_message is not None:
            raise VideoError(error_message)

    def _kill(self) -> None:
        if self._process is not None:
            for child in list((self._process._processes or {}).values()):
                child.kill()
            self._process.shutdown(wait=False, cancel_futures=True)
            self._process = None

    def _sweep(self) -> None:
        """Delete the least recently used files, and incomplete ones that a killed server left."""
        files = []
        for entry in self._folder.iterdir():
            with contextlib.suppress(OSError):
                if entry.suffix == PART_SUFFIX:
                    entry.unlink()
                else:
                    info = entry.stat()
                    files.append((info.st_mtime, info.st_size, entry))
        total = sum(size for _, size, _ in files)
        for _, size, entry in sorted(files):
            if total <= self._max_bytes:
                break
            entry.unlink(missing_ok=True)
            total -= size

    def __enter__(self) -> PictureCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()


def _initialise() -> None:
    """In the decoding process: limit its memory, and end it with its parent, even if that is killed."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _limit_memory()


def _exit_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _write_picture(path: bytes, time_ms: int, part: Path) -> str | None:
    """In the decoding process; returns an error as text, because pickle loses the fields of our errors."""
    try:
        part.write_bytes(render_picture(path, time_ms))
    except (VideoError, MemoryError) as error:
        return str(error) or "too little memory"
    return None


def _write_moment(path: bytes, start_ms: int, end_ms: int, part: Path) -> str | None:
    try:
        write_moment(path, start_ms, end_ms, part)
    except (VideoError, MemoryError) as error:
        return str(error) or "too little memory"
    return None
