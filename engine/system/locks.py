"""Locks between processes: files beside what they guard. The system releases them when their holder dies."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_POLL_S = 0.1
_NAME_BITS = 31  # of a claim's position in its file: what Windows can lock
_PRESENCE = 1 << _NAME_BITS  # the byte that everybody with an open claim file has a shared lock on
# struct flock, to ask who holds a lock
_FLOCK_FORMATS = {"linux": "@hhqqi", "darwin": "@qqihh"}
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class LockHeldError(Exception):
    """Another process holds the lock; `pid` is its id, None if it is unknown."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.pid = _written_pid(path)

    @property
    def holder(self) -> str:
        """`another process`, with its id if that is known."""
        return f"another process ({self.pid})" if self.pid else "another process"


@contextmanager
def lock_file(path: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file at `path`, whose folder exists; it has our process id, and is removed afterwards.

    Raises LockHeldError if another process, or another call in this one, still holds it after `wait_s` seconds, and
    OSError if the file cannot be created or its file system has no locks.
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
        is_locked = _lock(descriptor)
        # if the previous holder removed the file after we opened it, the lock guards nothing
        if is_locked and _is_file(descriptor, path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _is_file(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _written_pid(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):  # released meanwhile, or not written yet
        return None


def _lock(descriptor: int) -> bool:
    """Lock a file without waiting; False if it is locked. Raises OSError if its file system has no locks."""
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _PRESENCE - 1, os.SEEK_SET)  # others can read what is before a locked byte
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


@dataclass
class _OpenFile:
    """A claim file as this process has it open. Closing any descriptor of it would release all claims."""

    path: Path
    descriptor: int
    users: int = 0
    claimed: set[int] = field(default_factory=set)  # positions


_open_files: dict[Path, _OpenFile] = {}
_open_files_lock = threading.Lock()


class ClaimFile:
    """Names that a process claims, so that no other has them at the same time. A context manager.

    Each claim is a lock on one byte of the file, at the name's hash. Names whose hashes meet cannot be claimed at the
    same time, which costs a wait. The file is removed by the last process that closes it.
    """

    def __init__(self, path: Path) -> None:
        """Open the claim file at `path`, whose folder exists. Raises OSError if it cannot be used."""
        self._claimed: set[int] = set()
        with _open_files_lock:
            key = path.resolve()
            if key not in _open_files:
                _open_files[key] = _open_present(key)
            self._file = _open_files[key]
            self._file.users += 1

    def claim(self, name: str) -> bool:
        """Claim `name` until `release` or the end of the process; False if it is claimed already."""
        position = _position(name)
        with _open_files_lock:
            if position in self._file.claimed or not _lock_byte(self._file.descriptor, position):
                return False
            self._file.claimed.add(position)
        self._claimed.add(position)
        return True

    def release(self, name: str) -> None:
        """Give up the claim on `name`, if it is ours."""
        self._release(_position(name))

    def holder(self, name: str) -> int | None:
        """The id of the process that has claimed `name`; None if nobody has, or the system does not tell."""
        position = _position(name)
        with _open_files_lock:
            if position in self._file.claimed:
                return os.getpid()
            return _byte_holder(self._file.descriptor, position)

    def close(self) -> None:
        """Give up all claims."""
        for position in list(self._claimed):
            self._release(position)
        with _open_files_lock:
            self._file.users -= 1
            if not self._file.users:
                del _open_files[self._file.path]
                _close_last(self._file)

    def _release(self, position: int) -> None:
        if position in self._claimed:
            self._claimed.discard(position)
            with _open_files_lock:
                self._file.claimed.discard(position)
                _unlock_byte(self._file.descriptor, position)

    def __enter__(self) -> ClaimFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _position(name: str) -> int:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest) >> (32 - _NAME_BITS)


def _open_present(path: Path) -> _OpenFile:
    """Open a claim file, and say by a shared lock that it is in use."""
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            is_present = _lock_byte(descriptor, _PRESENCE, shared=True) and _is_file(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        if is_present:
            return _OpenFile(path, descriptor)
        os.close(descriptor)  # whoever closed it last removes it just now
        time.sleep(_POLL_S)


def _close_last(file: _OpenFile) -> None:
    """Close a claim file, and remove it if no other process uses it."""
    if sys.platform != "win32":  # it removes no open file: there it stays, and does no harm
        # ours first: of two that close it at the same moment, both would see the other's
        _unlock_byte(file.descriptor, _PRESENCE)
        with suppress(OSError):
            fcntl.lockf(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 0, 0)
            file.path.unlink()
    os.close(file.descriptor)


def _lock_byte(descriptor: int, position: int, *, shared: bool = False) -> bool:
    """Lock one byte without waiting; False if it is locked. Raises OSError if the file system has no locks."""
    try:
        if sys.platform == "win32":
            if not shared:
                os.lseek(descriptor, position, os.SEEK_SET)
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.lockf(descriptor, kind | fcntl.LOCK_NB, 1, position)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def _unlock_byte(descriptor: int, position: int) -> None:
    with suppress(OSError):
        if sys.platform == "win32":
            os.lseek(descriptor, position, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        else:
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, position)


def _byte_holder(descriptor: int, position: int) -> int | None:
    """The process that has locked a byte; None if none has, or the system does not tell."""
    layout = _FLOCK_FORMATS.get(sys.platform)
    if sys.platform == "win32" or layout is None:
        return None
    is_linux = sys.platform == "linux"
    kind, start = fcntl.F_WRLCK, position
    values = (kind, os.SEEK_SET, start, 1, 0) if is_linux else (start, 1, 0, kind, os.SEEK_SET)
    try:
        answer = struct.unpack(layout, fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(layout, *values)))
    except OSError:
        return None
    found_kind, pid = (answer[0], answer[4]) if is_linux else (answer[3], answer[2])
    return pid if found_kind != fcntl.F_UNLCK and pid > 0 else None
