"""Reads size, date and inode of a file, clamped to the integers that SQLite can store."""

from __future__ import annotations

import os
from typing import NamedTuple

# SQLite's integers are signed and have 64 bits: in nanoseconds they reach from 1677 to 2262
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1


class StoredStat(NamedTuple):
    """Size, date and inode of a file, as the library stores them."""

    size_bytes: int
    mtime_ns: int  # MIN_INTEGER or MAX_INTEGER stand for all dates before 1677 and after 2262
    inode: int


def file_stat(info: os.stat_result) -> StoredStat:
    """`info` in the range of SQLite's integers, so that a file dated 1601 does not end a scan."""
    return StoredStat(_clamped(info.st_size), _clamped(info.st_mtime_ns), _signed(info.st_ino))


def date_of(mtime_ns: int) -> float | None:
    """Seconds since 1970; None if the file's date was out of range."""
    return mtime_ns / 1e9 if MIN_INTEGER < mtime_ns < MAX_INTEGER else None


def _clamped(value: int) -> int:
    return min(max(value, MIN_INTEGER), MAX_INTEGER)


def _signed(inode: int) -> int:
    """The lowest 64 bits as a signed integer: some file systems use 64 bits for inodes, or more."""
    inode &= 2**64 - 1
    return inode - 2**64 if inode > MAX_INTEGER else inode
