"""The C library's allocator."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # malloc.h


def limit_arenas(count: int) -> bool:
    """Let all threads share `count` heaps. False if this C library has no such setting.

    By default glibc gives threads heaps of their own, up to eight for each core, and each keeps what was freed.
    """
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # as on Windows
        return False
    if not hasattr(library, "gnu_get_libc_version") or not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(_M_ARENA_MAX, count))
