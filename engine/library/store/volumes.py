"""Which file system a path lies on, and what to call it so that it is known again when it is mounted elsewhere."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from vtag.engine.text import display_path

# file systems whose source names them wherever they are mounted: shares by host and folder, ZFS by data set
_NAMED_BY_SOURCE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "ceph", "zfs", "virtiofs"}
)


@dataclass(frozen=True)
class Volume:
    """A mounted file system: `key` stays when it is mounted elsewhere, where the system tells."""

    key: str
    mount: bytes

    def relative(self, path: bytes) -> bytes:
        """`path` (absolute, see `real_path`) below the mount point."""
        prefix = self._prefix
        return path[len(prefix) :] if path.startswith(prefix) else os.path.relpath(path, self.mount)

    def absolute(self, relative: bytes) -> bytes:
        """Where a path below the mount point is now."""
        return self._prefix + relative

    @cached_property
    def _prefix(self) -> bytes:
        return os.path.join(self.mount, b"")


class _Mount(NamedTuple):
    root: str  # the part of the file system that is mounted: / but for bind mounts and subvolumes
    kind: str
    source: str


class Volumes:
    """The volumes of paths; each file system and each folder is asked once."""

    def __init__(self) -> None:
        self._by_folder: dict[bytes, Volume] = {}
        self._by_mount: dict[bytes, Volume] = {}
        self._uuids = _device_uuids()
        self._mounts = _mounts()

    def volume_of(self, path: bytes) -> Volume:
        """The volume that holds `path` (absolute)."""
        folder = os.path.dirname(path)
        if folder not in self._by_folder:
            mount = _mount_point(os.path.realpath(folder))
            if mount not in self._by_mount:
                self._by_mount[mount] = Volume(self._key(mount), mount)
            self._by_folder[folder] = self._by_mount[mount]
        return self._by_folder[folder]

    def is_mounted(self, volume: Volume) -> bool:
        """Whether `volume` is mounted where it was seen last."""
        try:
            return os.path.isdir(volume.mount) and self.volume_of(os.path.join(volume.mount, b"x")) == volume
        except OSError:
            return False

    def _key(self, mount: bytes) -> str:
        known = self._mounts.get(mount)
        part = known.root if known and known.root != "/" else ""
        uuid = self._uuids.get(os.stat(mount).st_dev)
        if uuid is None and known and known.source.startswith("/"):  # btrfs: the device is its source's
            with contextlib.suppress(OSError):
                uuid = self._uuids.get(os.stat(known.source).st_rdev)
        if uuid:
            return f"uuid:{uuid}{part}"
        if known and known.kind in _NAMED_BY_SOURCE:
            return f"share:{known.source}{part}"
        return f"mount:{display_path(mount)}"


def real_path(path: bytes) -> bytes:
    """`path` with links in its folders followed, so that a file has one name; its own name stays, link or not."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def _mount_point(folder: bytes) -> bytes:
    """The topmost folder on the same device as `folder`, or as its nearest parent that is there."""
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    device = os.stat(folder).st_dev
    while (parent := os.path.dirname(folder)) != folder and os.stat(parent).st_dev == device:
        folder = parent
    return folder


def _device_uuids() -> dict[int, str]:
    """Device numbers to file system UUIDs, where the system lists them (Linux)."""
    try:
        return {os.stat(entry.path).st_rdev: entry.name for entry in os.scandir("/dev/disk/by-uuid")}
    except OSError:
        return {}


def _mounts(table: str = "/proc/self/mountinfo") -> dict[bytes, _Mount]:
    """What is mounted where (Linux; proc(5)); of several on one folder the last, which hides the others."""
    found = {}
    with contextlib.suppress(OSError, ValueError):
        for line in Path(table).read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            left, right = line.split(" - ", 1)
            root, point = left.split(" ")[3:5]
            kind, source = right.split(" ")[:2]
            found[_bytes(point)] = _Mount(display_path(_bytes(root)), kind, display_path(_bytes(source)))
    return found


def _bytes(field: str) -> bytes:
    """A field of the table without its octal escapes."""
    return re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8) & 0xFF]), os.fsencode(field))
