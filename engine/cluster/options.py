"""Which cluster a scan uses, and where its nodes find the videos."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

_ADDRESS = re.compile(r"(?:ray://)?([^/:\s]+|\[[0-9A-Fa-f:]+\]):(\d{1,5})")
_MAX_PORT = 65535

PathMap = tuple[tuple[bytes, bytes], ...]  # folders on this machine, and the same on the nodes


@dataclass(frozen=True)
class ClusterOptions:
    """The address of a cluster, `auto`, `ray://HOST:10001` or `HOST:6379`, and its folders.

    Raises ValueError for another address.
    """

    address: str = "auto"
    path_map: PathMap = ()

    def __post_init__(self) -> None:
        if self.address != "auto":
            split_address(self.address)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of an address. Raises ValueError."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[2]) > _MAX_PORT:
        raise ValueError(f"{address!r} is no address of a Ray cluster: write auto or ray://HOST:10001")
    return match[1].strip("[]"), int(match[2])


def parse_path_map(texts: Sequence[str], scanned: Sequence[bytes]) -> PathMap:
    """The folders that `HERE=THERE` names; the longest first, so that the nearest counts.

    Raises ValueError if a text names none, or one that contains none of the `scanned` paths and is in none of them.
    """
    roots = [os.path.realpath(path) for path in scanned]
    pairs = {}
    for text in texts:
        here, separator, there = text.partition("=")
        if not (separator and here.startswith("/") and there.startswith("/")):
            raise ValueError(f"{text!r} maps no folder: write /mnt/videos=/data/videos")
        folder = os.path.realpath(os.fsencode(here))  # as the paths of the videos are
        if not any(_is_below(root, folder) or _is_below(folder, root) for root in roots):
            raise ValueError(f"nothing that is scanned is in {here}")
        pairs[folder] = os.fsencode(os.path.normpath(there))
    return tuple(sorted(pairs.items(), key=lambda pair: -len(pair[0])))


def _is_below(path: bytes, folder: bytes) -> bool:
    return os.path.join(path, b"").startswith(os.path.join(folder, b""))


def map_path(path: bytes, path_map: PathMap) -> bytes:
    """The path on a node of a file at `path` on this machine."""
    for here, there in path_map:
        folder = os.path.join(here, b"")
        if path.startswith(folder):
            return os.path.join(there, path[len(folder) :])
    return path
