"""Decoded clips in the order of the requests: read ahead in the decode pool, cached in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtag.engine.video.decode.messages import (
    ClipReady,
    DecodeDone,
    DecodeFailed,
    SingleWindowRequest,
    TrainingClipRequest,
)
from vtag.engine.video.decode.pool import DecodePool
from vtag.engine.video.read.published import MAX_ASPECT_RATIO
from vtag.engine.video.read.sampling import Sampling

Pixels = NDArray[np.uint8]

_AHEAD_BYTES = 256 << 20  # of clips that are decoded before they are read
_MIN_AHEAD, _AHEAD_PER_WORKER = 2, 3  # clips
_CACHE_SHARE = 0.25  # of the machine's memory
_FALLBACK_CACHE_BYTES = 512 << 20  # if the system does not tell the size of its memory
_MAX_CACHED_POSITIONS = 8  # starts of a clip in its video, if the cache holds all of them
_UNCACHED_POSITIONS = 1000
_MAX_ASPECT = 2  # long side by short side of a picture of the view `full`


@dataclass(frozen=True)
class FrameStepSampling:
    """Clips by frame index, as in the published recipes: `frames` frames, every `step`-th of the video.

    Pictures have the short side `short_side` in pixels; with `crop`, only the centre square of that side is read.
    """

    frames: int
    step: int
    short_side: int
    crop: int | None = None


@dataclass(frozen=True)
class LabelledVideo:
    """A video that shows the label with the index `label`: anywhere, or in the window from `start_ms`."""

    path: Path
    label: int
    start_ms: int | None = None


class ClipRequest(NamedTuple):
    """A clip of the item number `item`, at `position` of the source's positions."""

    item: int
    position: int


class ClipSource:
    """Reads clips of `items`; a context manager. Clips that fit into `cache_bytes` are decoded once.

    A clip starts at one of `positions` that are spread evenly over its video. It is a window of a `Sampling`, or cut
    by frame index (`FrameStepSampling`).

    The cache keeps the first clips. Every epoch reads all clips, so a cache of the most recent ones would drop each
    clip before it is read again. `errors` has the reason for each item that cannot be read.
    """

    def __init__(
        self,
        items: Sequence[LabelledVideo],
        sampling: Sampling | FrameStepSampling,
        *,
        cache_bytes: int | None = None,
        workers: int | None = None,
        positions: int | None = None,
    ) -> None:
        self.items = items
        self.errors: dict[int, str] = {}
        self._sampling = sampling
        clip_bytes = _max_clip_bytes(sampling)
        self._cache_bytes = default_cache_bytes() if cache_bytes is None else cache_bytes
        cached_positions = self._cache_bytes // max(1, clip_bytes * len(items))
        self.positions = positions or (
            min(_MAX_CACHED_POSITIONS, int(cached_positions)) if cached_positions else _UNCACHED_POSITIONS
        )
        workers = workers or os.cpu_count() or 1
        self._ahead = max(_MIN_AHEAD, min(_AHEAD_PER_WORKER * workers, _AHEAD_BYTES // clip_bytes))
        self._cache: dict[ClipRequest, Pixels] = {}
        self._single_window: set[int] = set()  # items that are no longer than a window
        self._jobs: dict[int, ClipRequest] = {}
        self._clips: dict[int, Pixels] = {}  # of jobs that are not finished
        self._results: dict[int, Pixels | None] = {}  # of finished jobs
        self._next_job = 0
        self._pool = DecodePool(workers, (self._ahead + 1) * clip_bytes)

    def __enter__(self) -> ClipSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()

    def read(self, requests: Sequence[ClipRequest]) -> Iterator[Pixels | None]:
        """The clips [T, H, W, 3] of `requests`, in their order; None for an item that cannot be read.

        The arrays may belong to the cache, so callers must not write to them.
        """
        ahead: deque[tuple[ClipRequest, int | None]] = deque()  # and the job that reads it, None if cached
        remaining = iter(requests)
        while True:
            while len(ahead) < self._ahead and (request := next(remaining, None)) is not None:
                ahead.append((request, self._begin(request)))
            if not ahead:
                return
            request, job = ahead.popleft()
            if job is None:
                yield None if request.item in self.errors else self._cache[self._key(request)]
            else:
                yield self._wait_for(job)

    def _key(self, request: ClipRequest) -> ClipRequest:
        fixed = request.item in self._single_window or self.items[request.item].start_ms is not None
        return ClipRequest(request.item, 0) if fixed else request

    def _begin(self, request: ClipRequest) -> int | None:
        """Submit `request` to the pool and return its job; None if its clip is cached or its item cannot be read."""
        if request.item in self.errors or self._key(request) in self._cache:
            return None
        job, self._next_job = self._next_job, self._next_job + 1
        item = self.items[request.item]
        self._jobs[job] = request
        share = (request.position + 0.5) / self.positions
        if isinstance(self._sampling, FrameStepSampling):
            self._pool.submit(job, TrainingClipRequest(item.path, share, **asdict(self._sampling)))
        else:
            self._pool.submit(job, SingleWindowRequest(item.path, self._sampling, item.start_ms, share))
        return job

    def _wait_for(self, job: int) -> Pixels | None:
        while job not in self._results:
            event = self._pool.next_event()
            assert event is not None, "the pool was closed while clips were read"
            if isinstance(event, ClipReady):
                self._clips[event.job_id] = np.array(event.pixels[0])
                event.release()
                continue
            request = self._jobs.pop(event.job_id)
            pixels = self._results[event.job_id] = self._clips.pop(event.job_id, None)
            if isinstance(event, DecodeFailed):
                self.errors[request.item] = event.reason
            elif pixels is None:
                self.errors[request.item] = "no usable picture"
            elif isinstance(event, DecodeDone):
                self._keep(request, event.info.duration_ms, pixels)
        return self._results.pop(job)

    def _keep(self, request: ClipRequest, duration_ms: int, pixels: Pixels) -> None:
        if isinstance(self._sampling, Sampling) and duration_ms <= self._sampling.window_ms:
            self._single_window.add(request.item)
        key = self._key(request)
        if key not in self._cache and pixels.nbytes <= self._cache_bytes:
            self._cache[key] = pixels
            self._cache_bytes -= pixels.nbytes


def _max_clip_bytes(sampling: Sampling | FrameStepSampling) -> int:
    """Size of the largest clip that a sampling can give."""
    if isinstance(sampling, FrameStepSampling):
        side = sampling.short_side
        area = sampling.crop**2 if sampling.crop else side * MAX_ASPECT_RATIO * side
        return sampling.frames * area * 3
    long_side = sampling.crop if sampling.view == "center" else _MAX_ASPECT * sampling.short_side
    short_side = sampling.crop if sampling.view == "center" else sampling.short_side
    return sampling.view_count * sampling.frames * short_side * long_side * 3


def default_cache_bytes() -> int:
    """Size of the cache of decoded clips: a quarter of the machine's memory."""
    try:
        return int(_CACHE_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return _FALLBACK_CACHE_BYTES
