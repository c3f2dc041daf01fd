"""Which videos of a list cannot be used: each is opened and its first and last second decoded, in the decode pool."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtag.engine.video.decode.messages import ClipReady, DecodeDone, DecodeFailed, WindowsRequest
from vtag.engine.video.decode.pool import DecodePool
from vtag.engine.video.read.frame_folder import is_frame_folder
from vtag.engine.video.read.sampling import Sampling

_MEMORY_BYTES = 16 << 20
_SIDE = 32  # pixels: what is looked at is thrown away
_APART_MS = 10**9  # of the windows: the first, and the one that ends at the end


@dataclass(frozen=True)
class CheckedVideo:
    """One video was looked at; `problem` is empty where it can be used."""

    path: Path
    problem: str = ""


def check_videos(paths: Sequence[Path], root: Path) -> Iterator[CheckedVideo]:
    """Each of `paths` (below `root`) once it was looked at, in any order; what crashes the decoder is broken."""
    sampling = Sampling(frames=1, rate=1, stride_ms=_APART_MS, short_side=_SIDE, crop=_SIDE)
    with DecodePool(workers=os.cpu_count() or 1, memory_bytes=_MEMORY_BYTES, threads=1) as pool:
        submitted: list[Path] = []
        for path in paths:
            place = root / path
            if place.is_dir():
                yield CheckedVideo(
                    path, "" if is_frame_folder(map(os.fsencode, os.listdir(place))) else "no frames"
                )
            elif not place.is_file():
                yield CheckedVideo(path, "not there")
            else:
                pool.submit(len(submitted), WindowsRequest(place, sampling))
                submitted.append(path)
        for event in pool:
            if isinstance(event, ClipReady):
                event.release()
            elif isinstance(event, DecodeFailed):
                yield CheckedVideo(submitted[event.job_id], event.reason)
            elif isinstance(event, DecodeDone):
                # decoding went on past what is broken; a video of which most cannot be decoded is still no video
                yield CheckedVideo(submitted[event.job_id], "" if event.clips else "no usable picture")
