"""How long a scan will take, before it begins: the total length of its videos, and the model's speed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from vtag.engine.backends.protocol import Backend
from vtag.engine.scan.plan import ScanTask
from vtag.engine.swin.config import ModelSpec
from vtag.engine.video.decode.messages import DecodeEvent, DurationRead, DurationRequest
from vtag.engine.video.decode.pool import DecodePool
from vtag.engine.video.read.sampling import Sampling
from vtag.engine.video.read.views import clip_size

_MAX_REQUESTS = 256  # containers that are opened for their length, which takes milliseconds each
_MAX_WAIT_S = 5.0  # longest wait for their lengths: a sleeping disk needs seconds to spin up
_LONG_CALL_S = 1.0  # a call that takes longer is not repeated to get a better measure
_TYPICAL_SIZE = (1920, 1080)  # width and height in pixels of a video, for the speed of unknown videos


class VideoLengths:
    """The lengths of a scan's videos in milliseconds. An unknown length is estimated from the file's size."""

    def __init__(self, tasks: Sequence[ScanTask]) -> None:
        self._tasks = tasks
        self._length_ms: dict[int, int] = {}  # by job id
        self._measured_ms = self._measured_bytes = 0  # sums over the videos of known length
        self._total_bytes = sum(self._size(job_id) for job_id in range(len(tasks)))
        self._open_requests = 0
        for job_id, task in enumerate(tasks):
            if task.duration_ms is not None:
                self.set_length(job_id, task.duration_ms)

    @property
    def total_ms(self) -> int:
        """The length of all videos together; 0 if no length is known."""
        if not self._measured_bytes:
            return 0
        unknown_bytes = self._total_bytes - self._measured_bytes
        return self._measured_ms + round(unknown_bytes * self._measured_ms / self._measured_bytes)

    def length_ms(self, job_id: int) -> int | None:
        """A video's length, else an estimate; None if no length is known."""
        if job_id in self._length_ms or not self._measured_bytes:
            return self._length_ms.get(job_id)
        return round(self._size(job_id) * self._measured_ms / self._measured_bytes)

    def set_length(self, job_id: int, length_ms: int) -> None:
        """Set or correct a video's length."""
        if job_id not in self._length_ms:
            self._measured_bytes += self._size(job_id)
        self._measured_ms += length_ms - self._length_ms.get(job_id, 0)
        self._length_ms[job_id] = length_ms

    def drop(self, job_id: int) -> None:
        """Take a video that will not be scanned out of the total."""
        self.set_length(job_id, 0)
        self._measured_bytes -= self._size(job_id)
        self._total_bytes -= self._size(job_id)

    def request(self, pool: DecodePool) -> None:
        """Let the pool read the unknown lengths from the containers; of many videos, of an even selection."""
        unknown = [job_id for job_id in range(len(self._tasks)) if job_id not in self._length_ms]
        for job_id in unknown[:: -(-len(unknown) // _MAX_REQUESTS) or 1]:
            # the pool's other jobs have ids from 0, so ~id (below 0) marks a request for a length
            pool.submit(~job_id, DurationRequest(self._tasks[job_id].files[0].path))
            self._open_requests += 1

    def handle(self, event: DecodeEvent) -> bool:
        """Take the answer to a request; False if `event` is none. A length known from decoding stays."""
        if event.job_id >= 0:
            return False
        self._open_requests -= 1
        if isinstance(event, DurationRead) and event.claimed_ms and ~event.job_id not in self._length_ms:
            self.set_length(~event.job_id, event.claimed_ms)
        return True

    def wait(self, pool: DecodePool) -> None:
        """Wait for the answers, at most five seconds. The scan handles those that come later."""
        deadline = time.monotonic() + _MAX_WAIT_S
        while self._open_requests and (left_s := deadline - time.monotonic()) > 0:
            if (event := pool.next_event(left_s)) is not None:
                self.handle(event)

    def _size(self, job_id: int) -> int:
        return self._tasks[job_id].files[0].size_bytes


def measure_speed(backend: Backend, sampling: Sampling, clips: int) -> float:
    """Seconds of video that a backend scans in a second, timed on `clips` blank clips in one call."""
    height, width = clip_size(_TYPICAL_SIZE, sampling)
    blank = np.zeros((clips * sampling.view_count, sampling.frames, height, width, 3), np.uint8)
    backend.run(blank[:0])  # sets the backend up for this size, which is not timed
    for _ in range(2):  # the first call is slower; if it is long anyway, it is measure enough
        started = time.monotonic()
        backend.run(blank)
        if (passed_s := time.monotonic() - started) > _LONG_CALL_S:
            break
    return clips * sampling.stride_ms / 1000 / max(passed_s, 1e-6)


def speed_key(spec: ModelSpec, sampling: Sampling, computed_by: str = "") -> str:
    """The key of a measured speed: model, sampling, what computes; without the last, the prefix of all its keys."""
    return f"{spec.backbone_hash} {sampling.key()} {computed_by}"
