"""Windows of the user's own videos as a scan decodes them, to compare the exports of a model on."""

from __future__ import annotations

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


def sample_windows(paths: Sequence[bytes], spec: ModelSpec, max_windows: int) -> list[NDArray[np.uint8]]:
    """At most `max_windows` windows uint8 [T, H, W, 3] of the videos at and below `paths`, of many different videos.

    Raises ModelError if there is no window.
    """
    files = [file.path for file in discover(list(paths)).files][:max_windows]
    sampling = Sampling.create(spec.frames, spec.rate, short_side=spec.short_side, crop=spec.crop)
    windows_per_video = -(-max_windows // max(1, len(files)))
    windows: list[NDArray[np.uint8]] = []
    with DecodePool(_WORKERS, _MEMORY_BYTES) as pool:
        for number, path in enumerate(files):
            starts = [i * sampling.stride_ms for i in range(windows_per_video)]
            pool.submit(number, WindowsRequest(path, sampling, only_starts=starts))
        for event in pool:
            if isinstance(event, ClipReady):
                windows.append(event.pixels[0].copy())
                event.release()
            if len(windows) >= max_windows:
                break
    if not windows:
        names = ", ".join(display_path(path) for path in paths) or "nothing"
        raise ModelError(f"no window could be read from the videos of {names}")
    return windows


def library_videos(library: Path, max_videos: int) -> list[bytes]:
    """Paths of at most `max_videos` scanned videos whose files exist now, the shortest first."""
    if not library.is_file():
        return []
    with closing(open_reader(library)) as reader:
        ids = page_queries.videos_by_length(reader)
        videos = (page_queries.find_video(reader, content_id) for content_id in ids)
        paths = (video.path for video in videos if video and video.path)
        return [path for path, _ in zip(paths, range(max_videos), strict=False)]
