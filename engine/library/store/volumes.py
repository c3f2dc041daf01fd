"""Volumes: the file system of a path, with a key that stays the same when it is mounted elsewhere."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from functools import cached_property

from vtag.engine.system.mounts import read_mounts
from vtag.engine.system.silent_disks import ask_in_time
from vtag.engine.text import display_path

# file systems that their source identifies on any mount point: shares by host and folder, ZFS by data set
_IDENTIFIED_BY_SOURCE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "ceph", "zfs", "virtiofs"}
)


@dataclass(frozen=True)
class Volume:
    """A mounted file system. `key` stays the same when it is mounted elsewhere, if the system has an id for it."""

    key: str
    mount: bytes

    def relative(self, path: bytes) -> bytes:
        """`path` (absolute, see `real_path`) below the mount point."""
        prefix = self._prefix
        return path[len(prefix) :] if path.startswith(prefix) else os.path.relpath(path, self.mount)

    def absolute(self, relative: bytes) -> bytes:
        """The absolute path of a path below the mount point."""
        return self._prefix + relative

    @cached_property
    def _prefix(self) -> bytes:
        return os.path.join(self.mount, b"")


class Volumes:
    """The volumes of paths; looks up each file system and each folder once."""

    def __init__(self) -> None:
        self._by_folder: dict[bytes, Volume] = {}
        self._by_mount: dict[bytes, Volume] = {}
        self._uuids = _device_uuids()
        self._mounts = read_mounts()

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
        """Whether `volume` is still mounted at its mount point."""
        try:
            is_there = ask_in_time(os.path.isdir, volume.mount)
            return is_there and self.volume_of(os.path.join(volume.mount, b"x")) == volume
        except OSError:
            return False

    def _key(self, mount: bytes) -> str:
        mounted = self._mounts.get(mount)
        part = mounted.root if mounted and mounted.root != "/" else ""
        uuid = self._uuids.get(os.stat(mount).st_dev)
        if (
            uuid is None and mounted and mounted.source.startswith("/")
        ):  # btrfs: st_dev is anonymous, and the source is the device
            with contextlib.suppress(OSError):
                uuid = self._uuids.get(os.stat(mounted.source).st_rdev)
        if uuid:
            return f"uuid:{uuid}{part}"
        if mounted and mounted.kind in _IDENTIFIED_BY_SOURCE:
            return f"share:{mounted.source}{part}"
        return f"mount:{display_path(mount)}"


def real_path(path: bytes) -> bytes:
    """`path` with links in its folders resolved, so that a file has one path; a link at the end stays a link."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def _mount_point(folder: bytes) -> bytes:
    """The topmost folder on the same device as `folder`, or as its nearest existing parent."""
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    device = os.stat(folder).st_dev
    while (parent := os.path.dirname(folder)) != folder and os.stat(parent).st_dev == device:
        folder = parent
    return folder


def _device_uuids() -> dict[int, str]:
    """Device numbers to file system UUIDs; empty if the system does not list them (only Linux does)."""
    try:
        return {os.stat(entry.path).st_rdev: entry.name for entry in os.scandir("/dev/disk/by-uuid")}
    except OSError:
        return {}
