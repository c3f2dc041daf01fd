"""Where the data of a half-downloaded file ends: the space that a download took in advance is full of zeros.

Without that, libav looks for the next packet in gigabytes of zeros, byte by byte.
"""

from __future__ import annotations

import errno
import os

_MIN_GAP = 16 << 20  # bytes of zeros that no video has; also the step in which zeros are looked for
_SAMPLE = 64 << 10  # bytes that are read of each step
_LEAST_SHARE = 0.98  # of a file's size that is on the disk, if it has no gap
# MP4 and QuickTime have an index, so that a gap costs them nothing; and it may be behind the gap
_INDEXED = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


def data_end(path: str | bytes | os.PathLike[str]) -> int:
    """The first byte of the first large gap in a file; its size if it has none. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        info = os.fstat(file.fileno())
        if info.st_size < _MIN_GAP or file.read(8)[4:] in _INDEXED:
            return info.st_size
        end = _end_of_zeros(file.fileno(), info.st_size)
        blocks = getattr(info, "st_blocks", None)
        if blocks is not None and blocks * 512 < end * _LEAST_SHARE:
            end = min(end, _first_hole(file.fileno(), end))
        return end


def _end_of_zeros(descriptor: int, size: int) -> int:
    """Where the zeros at the end of a file begin, if there are many; else `size`."""
    end = size
    while end > 0 and _is_zero(descriptor, max(0, end - _SAMPLE), end):
        end -= _MIN_GAP
    if size - end < 2 * _MIN_GAP:  # less than a gap is certain
        return size
    return min(size, max(0, end) + _MIN_GAP)


def _is_zero(descriptor: int, start: int, end: int) -> bool:
    os.lseek(descriptor, start, os.SEEK_SET)
    data = os.read(descriptor, end - start)
    return data.count(0) == len(data)


def _first_hole(descriptor: int, size: int) -> int:
    """Where the first large part of a file that the file system does not store begins; `size` without one."""
    position = 0
    try:
        while position < size:
            hole = os.lseek(descriptor, position, os.SEEK_HOLE)
            if hole >= size:
                break
            position = _next_data(descriptor, hole, size)
            if position - hole >= _MIN_GAP:
                return max(hole, _SAMPLE)
    except (OSError, AttributeError):  # a system that does not tell
        pass
    return size


def _next_data(descriptor: int, hole: int, size: int) -> int:
    try:
        return os.lseek(descriptor, hole, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but the hole up to the end
            return size
        raise
