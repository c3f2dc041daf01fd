"""Opens files whose paths come from users: only regular ones, and every error names the path."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vtag.engine.errors import ModelError
from vtag.engine.text import display_path, printable

_MAX_MESSAGE_LENGTH = 400


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """The open file and its size in bytes. Raises ModelError for a device, a pipe or a folder."""
    # without O_NONBLOCK, opening a pipe would wait for its writer
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as handle:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError("not a regular file")
        yield handle, status.st_size


@contextmanager
def prefix_errors(path: Path) -> Iterator[None]:
    """Turn errors within into a ModelError that begins with `path`."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{display_path(path)}: {str(error)[:_MAX_MESSAGE_LENGTH]}") from error
    except FileNotFoundError as error:
        missing = Path(error.filename) if error.filename else path
        missing_name = "" if missing == path else f" {display_path(missing.name)}"
        raise ModelError(f"{display_path(path)}: there is no such file{missing_name}") from error
    except (OSError, MemoryError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "not enough memory") or str(error)
        raise ModelError(f"{display_path(path)}: it cannot be used: {printable(reason)}") from error
