"""Windows of a person's own videos, as a scan sees them: what a model's other forms are held against."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtag.engine.errors import ModelError
from vtag.engine.library import page_queries
from vtag.engine.library.database import open_reader
from vtag.engine.scan.discover import discover
from vtag.engine.swin.config import ModelSpec
from vtag.engine.text import display_path
from vtag.engine.video.decode.messages import ClipReady, WindowsRequest
from vtag.engine.video.decode.pool import DecodePool
from vtag.engine.video.read.sampling import Sampling

_MEMORY_BYTES = 64 << 20
_WORKERS = 2


def windows_of(paths: Sequence[bytes], spec: ModelSpec, most: int) -> list[NDArray[np.uint8]]:
    """At most `most` windows uint8 [T, H, W, 3] of the videos at and below `paths`, of as many videos as there are.

    Raises ModelError where a path leads to no window at all.
    """
    files = [found.path for found in discover(list(paths)).files][:most]
    sampling = Sampling.create(spec.frames, spec.rate, short_side=spec.short_side, crop=spec.crop)
    each = -(-most // max(1, len(files)))
    windows: list[NDArray[np.uint8]] = []
    with DecodePool(_WORKERS, _MEMORY_BYTES) as pool:
        for number, path in enumerate(files):
            starts = [i * sampling.stride_ms for i in range(each)]
            pool.submit(number, WindowsRequest(path, sampling, only_starts=starts))
        for event in pool:
            if isinstance(event, ClipReady):
                windows.append(event.pixels[0].copy())
                event.release()
            if len(windows) >= most:
                break
    if not windows:
        named = ", ".join(display_path(path) for path in paths) or "nothing"
        raise ModelError(f"no window of a video could be read of {named}")
    return windows


def videos_of_library(library: Path, most: int) -> list[bytes]:
    """Paths of at most `most` videos that a library has seen and that are there now, the shortest first."""
    if not library.is_file():
        return []
    with closing(open_reader(library)) as reader:
        ids = page_queries.videos_by_length(reader)
        paths = (page_queries.find_video(reader, content_id) for content_id in ids)
        found = (video.path for video in paths if video and video.path and os.path.isfile(video.path))
        return [path for path, _ in zip(found, range(most), strict=False)]
