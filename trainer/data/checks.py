"""Finds the videos of a list that cannot be decoded: the decode pool reads the first and last frame of each."""

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
_SIDE = 32  # pixels; the frames are thrown away
_STRIDE_MS = 10**9  # longer than any video, which leaves the first window and the one at the end


@dataclass(frozen=True)
class CheckedVideo:
    """One checked video; `problem` is empty if the video can be used."""

    path: Path
    problem: str = ""


def check_videos(paths: Sequence[Path], root: Path) -> Iterator[CheckedVideo]:
    """Yields a result for each of `paths` below `root`, in any order; a video that crashes the decoder is broken."""
    sampling = Sampling(frames=1, rate=1, stride_ms=_STRIDE_MS, short_side=_SIDE, crop=_SIDE)
    with DecodePool(workers=os.cpu_count() or 1, memory_bytes=_MEMORY_BYTES, threads=1) as pool:
        submitted: list[Path] = []
        for path in paths:
            file = root / path
            if file.is_dir():
                yield CheckedVideo(
                    path, "" if is_frame_folder(map(os.fsencode, os.listdir(file))) else "no frames"
                )
            elif not file.is_file():
                yield CheckedVideo(path, "not there")
            else:
                pool.submit(len(submitted), WindowsRequest(file, sampling))
                submitted.append(path)
        for event in pool:
            if isinstance(event, ClipReady):
                event.release()
            elif isinstance(event, DecodeFailed):
                yield CheckedVideo(submitted[event.job_id], event.reason)
            elif isinstance(event, DecodeDone):
                # the decoder skips broken parts, so a video can end without an error and without a clip
                yield CheckedVideo(submitted[event.job_id], "" if event.clips else "no usable picture")
