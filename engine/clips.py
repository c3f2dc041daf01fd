"""Clips of a video for a model, for Python programs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from vtag.engine.scan.options import ScanOptions, scan_sampling
from vtag.engine.swin.config import ModelSpec
from vtag.engine.video.read.reader import Clip
from vtag.engine.video.read.reader import read_clips as read_library_clips
from vtag.engine.video.read.sampling import View


def read_clips(
    path: str | os.PathLike[str] | bytes,
    spec: ModelSpec,
    *,
    stride_s: float | None = None,
    view: View = "center",
) -> Iterator[Clip]:
    """The clips of a video as a scan gives them to a model, in order; `pixels` of one are what `Backend.run` takes.

    Args:
        path: the video.
        spec: of the model: `open_backend(...).spec`.
        stride_s: seconds from the start of one clip to the next; by default clips follow each other.
        view: center, full (the whole frame), or three (crops; each clip has three entries).

    Times are those that a player shows. Raises VideoError if nothing can be decoded, ModelError if the stride or
    the view cannot be used.
    """
    sampling = scan_sampling(spec, ScanOptions(stride_s=stride_s, view=view))
    reader = read_library_clips(os.fsencode(path), sampling)
    clock = reader.info.clock
    try:
        for clip in reader:
            yield replace(clip, start_ms=clock.player_ms(clip.start_ms), end_ms=clock.player_ms(clip.end_ms))
    finally:
        reader.close()
