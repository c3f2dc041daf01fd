"""What a process that opens strangers' videos does first: it limits its memory, and ends with its parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading

_MEMORY_BYTES = 4 << 30  # address space (Linux); most of it is never used


def limit_memory() -> None:
    """Refuse memory beyond what any video needs, so that a hostile one ends this process and not the machine."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def exit_with_parent() -> None:
    """End this process of `multiprocessing` when its parent has ended, even if that was killed."""

    def wait() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def exit_with_stdin() -> None:
    """End this process when its stdin is closed, which happens when the parent ends, even if that was killed."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
