"""Size, date and inode of a file in the ranges that the library can keep. The one place that reads them."""

from __future__ import annotations

import os
from typing import NamedTuple

# SQLite's integers are signed and have 64 bits: in nanoseconds they reach from 1677 to 2262
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1


class StoredStat(NamedTuple):
    """Size, date and number of a file."""

    size_bytes: int
    mtime_ns: (
        int  # MIN_INTEGER or MAX_INTEGER if the file's date is earlier or later than any that can be kept
    )
    inode: int


def file_stat(info: os.stat_result) -> StoredStat:
    """`info` in the ranges of SQLite: a file dated 1601 loses its date and ends no scan."""
    return StoredStat(_clamped(info.st_size), _clamped(info.st_mtime_ns), _signed(info.st_ino))


def date_of(mtime_ns: int) -> float | None:
    """Seconds since 1970; None if the file's date could not be kept."""
    return mtime_ns / 1e9 if MIN_INTEGER < mtime_ns < MAX_INTEGER else None


def _clamped(value: int) -> int:
    return min(max(value, MIN_INTEGER), MAX_INTEGER)


def _signed(inode: int) -> int:
    """The lowest 64 bits as a signed number: some file systems number with all of them, or more."""
    inode &= 2**64 - 1
    return inode - 2**64 if inode > MAX_INTEGER else inode
