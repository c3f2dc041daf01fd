"""Says when any process reads a file, as the kernel tells it by inotify."""

from __future__ import annotations

import ctypes
import os
import select
from pathlib import Path

_ACCESS = 0x1  # IN_ACCESS
_C = ctypes.CDLL(None, use_errno=True)


class ReadWatch:
    """The reads of the file that is at a path now. A context manager."""

    def __init__(self, path: Path) -> None:
        self._events = _C.inotify_init1(os.O_CLOEXEC)
        if self._events < 0 or _C.inotify_add_watch(self._events, os.fsencode(path), _ACCESS) < 0:
            raise OSError(ctypes.get_errno(), "the file cannot be watched", str(path))

    def was_read(self, timeout_s: float) -> bool:
        """Whether the file was read since the last question; waits for it so long."""
        if not select.select([self._events], [], [], timeout_s)[0]:
            return False
        os.read(self._events, 1 << 16)
        return True

    def __enter__(self) -> ReadWatch:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._events)
