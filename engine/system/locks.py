"""A lock between processes: a file beside what it guards. The system releases it when its holder dies."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_POLL_S = 0.1


class LockHeldError(Exception):
    """Another process holds the lock."""


@contextmanager
def lock_file(path: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file at `path`, whose folder exists; the file is removed afterwards.

    Raises LockHeldError if another process, or another call in this one, still holds it after `wait_s` seconds.
    """
    deadline = time.monotonic() + wait_s
    while (descriptor := _try_lock(path)) is None:
        if time.monotonic() >= deadline:
            raise LockHeldError(path)
        time.sleep(_POLL_S)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file: it stays, and does no harm
            path.unlink()
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    """The descriptor of the locked file; None if another holds the lock."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        _lock(descriptor)
        # if the previous holder removed the file after we opened it, the lock guards nothing
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _lock(descriptor: int) -> None:
    """Lock without waiting. Raises OSError if it is locked."""
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
