"""Reads what a library does not have: clocks that an older vtag did not read, and whether a video has sound."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vtag.engine.errors import VideoError

if TYPE_CHECKING:
    from vtag.engine.video_clock import VideoClock


def read_clock(path: bytes) -> VideoClock | None:
    """The clock of the video at `path`; None if the file is not there or cannot be read."""
    if not os.path.isfile(path):
        return None
    from vtag.engine.video.read.probe import probe

    try:
        return probe(path).clock
    except VideoError:
        return None


def read_has_sound(path: bytes) -> bool:
    """Whether the video at `path` has sound; also if it is not there now, since most videos have."""
    from vtag.engine.video.read.container import open_container

    try:
        with open_container(path) as container:
            return len(container.streams.audio) > 0
    except (VideoError, OSError):
        return True
