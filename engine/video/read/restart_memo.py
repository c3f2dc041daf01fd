"""Remembers where the clock of large files begins anew, since only reading all of a file tells.

A scan reads large files whole. What it found is kept in vtag's home for the commands that open the file later.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import OrderedDict
from dataclasses import astuple
from pathlib import Path
from typing import NamedTuple

from vtag.engine import paths
from vtag.engine.system.atomic_write import write_atomically
from vtag.engine.video.read.restarts import ClockPart, KeyFramePosition, Restarts
from vtag.engine.video_clock import ClockStretch

_KEPT_FILES = 200  # about 20 kB for each hour of video whose clock begins anew, else 20 bytes
_KEPT_IN_MEMORY = 8
_recent: OrderedDict[MemoKey, Restarts | None] = OrderedDict()


class MemoKey(NamedTuple):
    """A video stream of a file, as long as the file does not change."""

    path: bytes
    size_bytes: int
    mtime_ns: int
    stream: int


def recall(key: MemoKey) -> tuple[Restarts | None] | None:
    """What was found in a file, in a tuple; None if nobody has looked."""
    if key in _recent:
        return (_recent[key],)
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
        text = _file(key).read_text("utf-8")
        restarts = _from_json(text)
        _keep(key, restarts)
        return (restarts,)
    return None


def remember(key: MemoKey, restarts: Restarts | None, *, is_on_disk: bool) -> None:
    """Keep what was found in a file: for this process, or for others, too. A disk that is full is no problem."""
    _keep(key, restarts)
    if not is_on_disk:
        return
    with contextlib.suppress(OSError):
        file = _file(key)
        paths.make_private_dir(file.parent)
        write_atomically(file, _to_json(restarts).encode())
        by_age = sorted(file.parent.glob("*.json"), key=lambda each: each.stat().st_mtime)
        for old in by_age[:-_KEPT_FILES]:
            old.unlink(missing_ok=True)


def _keep(key: MemoKey, restarts: Restarts | None) -> None:
    _recent[key] = restarts
    while len(_recent) > _KEPT_IN_MEMORY:
        _recent.popitem(last=False)


def _file(key: MemoKey) -> Path:
    path = os.path.realpath(key.path)
    name = hashlib.blake2b(repr((path, *key[1:])).encode(), digest_size=16).hexdigest()
    return paths.home() / "cache" / "clocks" / f"{name}.json"


def _to_json(restarts: Restarts | None) -> str:
    return json.dumps(restarts and astuple(restarts))


def _from_json(text: str) -> Restarts | None:
    values = json.loads(text)
    if values is None:
        return None
    parts, keys, end_us = values
    return Restarts(
        tuple(ClockPart(position, shift_us, ClockStretch(*stretch)) for position, shift_us, stretch in parts),
        tuple(KeyFramePosition(*key) for key in keys),
        int(end_us),
    )
