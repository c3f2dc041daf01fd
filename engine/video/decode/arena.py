"""One piece of memory that processes share, given out in ranges; its size is its bound, and it leaves no name."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import uuid
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ALIGNMENT = 64


class Arena:
    """`size_bytes` of shared memory. The creator gives ranges out; others attach to it and write into theirs."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = max(mmap.PAGESIZE, size_bytes)
        self._used: dict[int, int] = {}  # offset -> length
        self._fd = -1
        if sys.platform == "win32":
            self.handle = f"vtag-{uuid.uuid4().hex}"
            self._memory = mmap.mmap(-1, self.size_bytes, tagname=self.handle)
        else:
            self._fd = _anonymous_file()
            os.ftruncate(self._fd, self.size_bytes)
            self.handle = str(self._fd)
            self._memory = mmap.mmap(self._fd, self.size_bytes)

    @property
    def inherited(self) -> tuple[int, ...]:
        """The file descriptors that a child process needs in order to attach."""
        return () if self._fd < 0 else (self._fd,)

    @property
    def used_bytes(self) -> int:
        return sum(self._used.values())

    def allocate(self, length: int) -> int | None:
        """The offset of a free range of `length` bytes, or None while there is none."""
        length = -(-length // _ALIGNMENT) * _ALIGNMENT
        at = 0
        for offset in sorted(self._used):
            if offset - at >= length:
                break
            at = offset + self._used[offset]
        if self.size_bytes - at < length:
            return None
        self._used[at] = length
        return at

    def free(self, offset: int) -> None:
        """Give the range at `offset` back."""
        del self._used[offset]

    def view(self, offset: int, shape: Sequence[int]) -> NDArray[np.uint8]:
        """The range at `offset` as an array."""
        return view(self._memory, offset, shape)

    def close(self) -> None:
        """Forget the memory; it is gone when the last array that shows it is."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def attach(handle: str, size_bytes: int) -> mmap.mmap:
    """The memory of an arena, in a process that inherited it."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size_bytes, tagname=handle)
    return mmap.mmap(int(handle), size_bytes)


def view(memory: mmap.mmap, offset: int, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Shared memory as uint8 of `shape`, without a copy."""
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(memory, np.uint8, count, offset).reshape(tuple(shape))


def _anonymous_file() -> int:
    """A descriptor of memory without a name, so that nothing stays behind however the process ends."""
    if hasattr(os, "memfd_create"):
        try:
            return os.memfd_create("vtag-clips")
        except OSError:
            pass  # an old kernel, or a sandbox that forbids it
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
