"""Shared memory of a fixed size, allocated in ranges. It has no name in the file system that could stay behind."""

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
    """`size_bytes` of shared memory. Its creator allocates ranges; other processes attach and write into them."""

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
        """The offset of a free range of `length` bytes; None if there is none now."""
        length = -(-length // _ALIGNMENT) * _ALIGNMENT
        free_offset = 0
        for offset in sorted(self._used):
            if offset - free_offset >= length:
                break
            free_offset = offset + self._used[offset]
        if self.size_bytes - free_offset < length:
            return None
        self._used[free_offset] = length
        return free_offset

    def free(self, offset: int) -> None:
        """Free the range at `offset`."""
        del self._used[offset]

    def view(self, offset: int, shape: Sequence[int]) -> NDArray[np.uint8]:
        """The range at `offset` as an array."""
        return view(self._memory, offset, shape)

    def close(self) -> None:
        """Close the file descriptor. The memory is freed when the last array on it is."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def attach(handle: str, size_bytes: int) -> mmap.mmap:
    """The memory of an arena, in a child process that inherited its descriptor."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size_bytes, tagname=handle)
    return mmap.mmap(int(handle), size_bytes)


def view(memory: mmap.mmap, offset: int, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Shared memory as uint8 of `shape`, without a copy."""
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(memory, np.uint8, count, offset).reshape(tuple(shape))


def _anonymous_file() -> int:
    """A descriptor of a file without a name: nothing stays behind, however the process ends."""
    if hasattr(os, "memfd_create"):
        try:
            return os.memfd_create("vtag-clips")
        except OSError:
            pass  # an old kernel, or a sandbox that forbids it
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
