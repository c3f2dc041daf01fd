"""The system's table of mounted file systems."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from vtag.engine.text import display_path


class Mount(NamedTuple):
    """A mounted file system."""

    root: str  # the part of the file system that is mounted: / but for bind mounts and subvolumes
    kind: str
    source: str


def read_mounts(table: str = "/proc/self/mountinfo") -> dict[bytes, Mount]:
    """Mount points to mounts (Linux; proc(5)); of several on one folder the last, which hides the others.

    Empty where the system has no such table.
    """
    mounts = {}
    with contextlib.suppress(OSError, ValueError):
        for line in Path(table).read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            mount_fields, source_fields = line.split(" - ", 1)
            root, point = mount_fields.split(" ")[3:5]
            kind, source = source_fields.split(" ")[:2]
            mounts[_bytes(point)] = Mount(display_path(_bytes(root)), kind, display_path(_bytes(source)))
    return mounts


def longest_mount_point(path: bytes, mount_points: Iterable[bytes]) -> bytes:
    """Where the file system of `path` is mounted, as far as text tells: to follow links would ask it.

    `mount_points` are all of them, the longest first.
    """
    for mount_point in mount_points:
        if os.path.join(path, b"").startswith(os.path.join(mount_point, b"")):
            return mount_point
    drive, rest = os.path.splitdrive(path)  # no table: the drive, or such as /Volumes/NAME
    return drive or b"/".join(rest.split(b"/")[:3])


def _bytes(field: str) -> bytes:
    """A field of the table, with its octal escapes decoded."""
    return re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8) & 0xFF]), os.fsencode(field))
