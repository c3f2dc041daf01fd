"""Pictures and playable moments out of a bounded cache; what is missing is made in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from types import TracebackType

from vtag.engine.errors import VideoError
from vtag.engine.paths import make_private_dir
from vtag.engine.system.atomic_write import PART_SUFFIX, atomic_path
from vtag.engine.video.write.pictures import render_picture, write_moment

LONGEST_MOMENT_MS = 60_000
_LIMIT_S = 60.0
_MEMORY_BYTES = 4 << 30  # address space of the process that decodes (Linux), most of it never touched
_SWEEP_EVERY = 50  # files made between two looks at the cache's size


class PictureCache:
    """JPEG pictures and MP4 moments below `folder`, at most `most_bytes` of them; the longest unused go first.

    A file that crashes or hangs the decoder costs its own picture: the process is killed and started anew. A
    context manager; its methods may be called from any thread.
    """

    def __init__(self, folder: Path, most_bytes: int = 1 << 30) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._process: ProcessPoolExecutor | None = None
        self._made = 0

    def get_picture(self, content_key: str, path: bytes, at_ms: int) -> Path:
        """The JPEG of the frame of `path` at `at_ms`. Raises VideoError."""
        return self._get(f"{content_key} {at_ms}", ".jpg", partial(_write_picture, path, at_ms))

    def get_moment(self, content_key: str, path: bytes, start_ms: int, end_ms: int) -> Path:
        """The MP4 of what `path` shows from `start_ms` to `end_ms`, cut at a minute. Raises VideoError."""
        end_ms = min(end_ms, start_ms + LONGEST_MOMENT_MS)
        name = f"{content_key} {start_ms} {end_ms}"
        return self._get(name, ".mp4", partial(_write_moment, path, start_ms, end_ms))

    def _get(self, name: str, ending: str, make: Callable[[Path], str | None]) -> Path:
        wanted = self._folder / (hashlib.blake2b(name.encode(), digest_size=16).hexdigest() + ending)
        with contextlib.suppress(OSError):
            os.utime(wanted)  # used now
            return wanted
        with self._lock:  # one at a time: the machine has other work, too
            if wanted.is_file():
                return wanted
            make_private_dir(self._folder)
            try:
                with atomic_path(wanted) as part:
                    self._run(make, part)
            except OSError as error:
                raise VideoError(f"no picture can be kept: {error.strerror}") from error
            self._made += 1
            if self._made % _SWEEP_EVERY == 1:
                self._sweep()
        return wanted

    def _run(self, make: Callable[[Path], str | None], part: Path) -> None:
        if self._process is None:
            self._process = ProcessPoolExecutor(
                1, mp_context=multiprocessing.get_context("spawn"), initializer=_begin
            )
        try:
            refused = self._process.submit(make, part).result(timeout=_LIMIT_S)
        except (BrokenProcessPool, TookTooLong) as error:
            self._kill()
            raise VideoError("the decoder crashed or hung over this video") from error
        if refused is not None:
            raise VideoError(refused)

    def _kill(self) -> None:
        if self._process is not None:
            for child in list((self._process._processes or {}).values()):
                child.kill()
            self._process.shutdown(wait=False, cancel_futures=True)
            self._process = None

    def _sweep(self) -> None:
        """Delete what was not used for longest, and what a killed server left half-made."""
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
            if total <= self._most_bytes:
                break
            entry.unlink(missing_ok=True)
            total -= size

    def __enter__(self) -> PictureCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()


def _begin() -> None:
    """In the other process: so much memory at most, and an end with whoever began it, also where that is killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _bound_memory()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _bound_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _write_picture(path: bytes, at_ms: int, part: Path) -> str | None:
    """In the other process; what went wrong, as text (an error with fields does not survive the way back)."""
    try:
        part.write_bytes(render_picture(path, at_ms))
    except (VideoError, MemoryError) as error:
        return str(error) or "too little memory"
    return None


def _write_moment(path: bytes, start_ms: int, end_ms: int, part: Path) -> str | None:
    try:
        write_moment(path, start_ms, end_ms, part)
    except (VideoError, MemoryError) as error:
        return str(error) or "too little memory"
    return None
