"""Decoded clips in the order that training asks for them: read ahead in the decode pool, kept in bounded memory."""

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

_AHEAD_BYTES = 256 << 20  # decoded, and not asked for yet
_LEAST_AHEAD, _AHEAD_OF_EACH = 2, 3  # clips; and of each worker
_CACHE_SHARE = 0.25  # of the machine's memory
_MOST_PLACES = 8  # where a clip begins, when all of them can be kept
_UNKEPT_PLACES = 1000
_LONGEST = 2  # times its short side is a picture of the view `full` long at most


@dataclass(frozen=True)
class FrameStepSampling:
    """Clips by frame index, as the published recipes cut them: `frames`, every `step`-th, at short side `short_side`.

    The whole picture, or with `crop` its centre.
    """

    frames: int
    step: int
    short_side: int
    crop: int | None = None


@dataclass(frozen=True)
class LabelledVideo:
    """A video that shows `label`; somewhere in it, or in the window that begins at `start_ms`."""

    path: Path
    label: int
    start_ms: int | None = None


class ClipRequest(NamedTuple):
    """One clip of an item: the window at the `place`-th of the source's places."""

    item: int
    position: int


class ClipSource:
    """Reads clips of `items`; a context manager. What fits into `cache_bytes` is decoded once.

    A clip is a window of the `Sampling`, or cut by frame index (`Indexed`), at one of `places` in its video.

    What came first stays: of a data set that is larger than the cache, the most recent would be the next to be thrown
    away. `failed` says of each item that cannot be read why.
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
        self.failed: dict[int, str] = {}
        self._sampling = sampling
        most = _most_bytes(sampling)
        self._cache_bytes = default_cache_bytes() if cache_bytes is None else cache_bytes
        fit = self._cache_bytes // max(1, most * len(items))
        self.positions = positions or (min(_MOST_PLACES, int(fit)) if fit else _UNKEPT_PLACES)
        workers = workers or os.cpu_count() or 1
        self._ahead = max(_LEAST_AHEAD, min(_AHEAD_OF_EACH * workers, _AHEAD_BYTES // most))
        self._cache: dict[ClipRequest, Pixels] = {}
        self._whole: set[int] = set()  # items that are one window, wherever it is asked for
        self._jobs: dict[int, ClipRequest] = {}
        self._clips: dict[int, Pixels] = {}  # by job, which is not finished yet
        self._arrived: dict[int, Pixels | None] = {}  # by job, which is
        self._next_job = 0
        self._pool = DecodePool(workers, (self._ahead + 1) * most)

    def __enter__(self) -> ClipSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()

    def read(self, wants: Sequence[ClipRequest]) -> Iterator[Pixels | None]:
        """The clips [T, H, W, 3] of `wants`, in their order; None for an item that cannot be read.

        The arrays may be the cache's own: they are not to be written to.
        """
        ahead: deque[tuple[ClipRequest, int | None]] = deque()  # with the job that reads it, where one has to
        rest = iter(wants)
        while True:
            while len(ahead) < self._ahead and (want := next(rest, None)) is not None:
                ahead.append((want, self._begin(want)))
            if not ahead:
                return
            want, job = ahead.popleft()
            if job is None:
                yield None if want.item in self.failed else self._cache[self._key(want)]
            else:
                yield self._wait_for(job)

    def _key(self, want: ClipRequest) -> ClipRequest:
        fixed = want.item in self._whole or self.items[want.item].start_ms is not None
        return ClipRequest(want.item, 0) if fixed else want

    def _begin(self, want: ClipRequest) -> int | None:
        """Have `want` decoded; None where that is done already, or in vain."""
        if want.item in self.failed or self._key(want) in self._cache:
            return None
        job, self._next_job = self._next_job, self._next_job + 1
        item = self.items[want.item]
        self._jobs[job] = want
        share = (want.position + 0.5) / self.positions
        if isinstance(self._sampling, FrameStepSampling):
            self._pool.submit(job, TrainingClipRequest(item.path, share, **asdict(self._sampling)))
        else:
            self._pool.submit(job, SingleWindowRequest(item.path, self._sampling, item.start_ms, share))
        return job

    def _wait_for(self, job: int) -> Pixels | None:
        while job not in self._arrived:
            event = self._pool.next_event()
            assert event is not None, "the pool was closed while clips were read"
            if isinstance(event, ClipReady):
                self._clips[event.job_id] = np.array(event.pixels[0])
                event.release()
                continue
            want = self._jobs.pop(event.job_id)
            pixels = self._arrived[event.job_id] = self._clips.pop(event.job_id, None)
            if isinstance(event, DecodeFailed):
                self.failed[want.item] = event.reason
            elif pixels is None:
                self.failed[want.item] = "no usable picture"
            elif isinstance(event, DecodeDone):
                self._keep(want, event.info.duration_ms, pixels)
        return self._arrived.pop(job)

    def _keep(self, want: ClipRequest, duration_ms: int, pixels: Pixels) -> None:
        if isinstance(self._sampling, Sampling) and duration_ms <= self._sampling.window_ms:
            self._whole.add(want.item)
        key = self._key(want)
        if key not in self._cache and pixels.nbytes <= self._cache_bytes:
            self._cache[key] = pixels
            self._cache_bytes -= pixels.nbytes


def _most_bytes(sampling: Sampling | FrameStepSampling) -> int:
    """The largest clip that can come out."""
    if isinstance(sampling, FrameStepSampling):
        side = sampling.short_side
        area = sampling.crop**2 if sampling.crop else side * MAX_ASPECT_RATIO * side
        return sampling.frames * area * 3
    long = sampling.crop if sampling.view == "center" else _LONGEST * sampling.short_side
    short = sampling.crop if sampling.view == "center" else sampling.short_side
    return sampling.view_count * sampling.frames * short * long * 3


def default_cache_bytes() -> int:
    """A quarter of the machine's memory; half a gigabyte where the system does not tell."""
    try:
        return int(_CACHE_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return 512 << 20
