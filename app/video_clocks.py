"""Reads the clocks of videos that an older vtag scanned."""

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
