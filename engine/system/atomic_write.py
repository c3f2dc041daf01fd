"""Files that appear complete or not at all: written under another name, flushed to the disk, then renamed.

A rename alone is not enough: after a power failure the new name may lead to an empty file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

PART_SUFFIX = ".part"
_LONGEST_NAME_BYTES = 255


@contextmanager
def atomic_path(target: Path, *, mode: int = 0o666, is_flushed: bool = True) -> Iterator[Path]:
    """An empty file `NAME.part` to write to; it replaces `target` at the end of the block.

    If the block raises, `target` stays as it is and the new file is deleted. A `NAME.part` that a killed process
    left is deleted first, so callers that may write the same target at the same time need a lock.

    Args:
        target: the file to create or replace; its folder exists.
        mode: permissions of the new file, less the umask.
        is_flushed: whether the file is on the disk before it gets its name; a cache needs no such wait.

    Raises:
        OSError: if the file cannot be written.
    """
    part = target.with_name(_part_name(target.name))
    part.unlink(missing_ok=True)
    # O_EXCL: never follow a link that appeared in the meantime
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        try:
            yield part
            if is_flushed:
                os.fsync(descriptor)  # of the file, whichever process wrote into it
        finally:
            os.close(descriptor)  # before the rename: Windows renames no open file
        os.replace(part, target)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _part_name(name: str) -> str:
    """The name of the unfinished file; of a name that nearly fills what a file system allows, a shorter one."""
    part = os.fsencode(name + PART_SUFFIX)
    if len(part) <= _LONGEST_NAME_BYTES:
        return os.fsdecode(part)
    digest = hashlib.blake2b(part, digest_size=8).hexdigest()
    return f"{digest}{PART_SUFFIX}"


def write_atomically(target: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Create or replace `target` with `content`. As `atomic_path` otherwise."""
    with atomic_path(target, mode=mode) as part:
        part.write_bytes(content)


def move_new(source: bytes, target: bytes) -> None:
    """Flush `source` and rename it to `target` without replacing. Raises FileExistsError if `target` exists."""
    with open(source, "rb+") as file:
        flush_file(file)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(17, "is there already") from None
        os.rename(source, target)
    else:
        os.unlink(source)


def replace_folder(source: Path, target: Path, backup: Path) -> None:
    """Rename the folder `source` to `target`; a folder there becomes `backup`, and comes back if that fails."""
    is_replaced = target.exists()
    if is_replaced:
        target.rename(backup)
    try:
        source.rename(target)
    except OSError:
        if is_replaced:
            backup.rename(target)
        raise


def flush_file(file: IO[Any]) -> None:
    """Write to the disk what `file`, open for writing, holds back in buffers."""
    file.flush()
    os.fsync(file.fileno())


def replace_durably(source: Path, target: Path) -> None:
    """Rename `source`, which is flushed, to `target`, and flush the rename, too: later steps may rely on it."""
    os.replace(source, target)
    if os.name == "posix":  # Windows flushes renames by itself
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
