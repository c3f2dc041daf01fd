"""How much a scan has to look at and how long that takes, said before it begins: lengths, and a speed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from vtag.engine.backends.protocol import Backend
from vtag.engine.scan.plan import Task
from vtag.engine.video.decode.messages import DecodeEvent, DurationRead, DurationRequest
from vtag.engine.video.decode.pool import DecodePool
from vtag.engine.video.read.sampling import Sampling
from vtag.engine.video.read.views import clip_size

_MOST_ASKED = 256  # videos whose containers are opened for their length: milliseconds each
_PATIENCE_S = 5.0  # so long is waited for the answers at most: a disk may sleep
_QUICK_S = 1.0
_USUAL = (1920, 1080)  # of a video nobody looked into


class Lengths:
    """The lengths of a scan's videos: told, learnt while they are read, else guessed by their size."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._known: dict[int, int] = {}  # job to ms
        self._known_ms = self._known_bytes = 0
        self._bytes = sum(self._size(job) for job in range(len(tasks)))
        self._asked = 0
        for job, task in enumerate(tasks):
            if task.duration_ms is not None:
                self.learn(job, task.duration_ms)

    @property
    def total_ms(self) -> int:
        """Of all videos together; 0 where no length is known at all."""
        if not self._known_bytes:
            return 0
        unknown_bytes = self._bytes - self._known_bytes
        return self._known_ms + round(unknown_bytes * self._known_ms / self._known_bytes)

    def of(self, job: int) -> int | None:
        """A video's length as far as it is known, else guessed by its size; None where no length is known at all."""
        if job in self._known or not self._known_bytes:
            return self._known.get(job)
        return round(self._size(job) * self._known_ms / self._known_bytes)

    def learn(self, job: int, length_ms: int) -> None:
        """A video's length, better known than before."""
        if job not in self._known:
            self._known_bytes += self._size(job)
        self._known_ms += length_ms - self._known.get(job, 0)
        self._known[job] = length_ms

    def drop(self, job: int) -> None:
        """A video that cannot be read is none of those that there are to look at."""
        self.learn(job, 0)
        self._known_bytes -= self._size(job)
        self._bytes -= self._size(job)

    def ask(self, pool: DecodePool) -> None:
        """Have the pool open the containers of those whose length nobody knows; of many, some in even distances."""
        unknown = [job for job in range(len(self._tasks)) if job not in self._known]
        for job in unknown[:: -(-len(unknown) // _MOST_ASKED) or 1]:
            pool.submit(~job, DurationRequest(self._tasks[job].files[0].path))  # numbers that no reading has
            self._asked += 1

    def hear(self, event: DecodeEvent) -> bool:
        """Whether an event of the pool is an answer; it is heeded unless the video was read meanwhile."""
        if event.job_id >= 0:
            return False
        self._asked -= 1
        if isinstance(event, DurationRead) and event.claimed_ms and ~event.job_id not in self._known:
            self.learn(~event.job_id, event.claimed_ms)
        return True

    def wait(self, pool: DecodePool) -> None:
        """Until all answers are here, or for seconds; those that come later are heard later."""
        ends = time.monotonic() + _PATIENCE_S
        while self._asked and (left_s := ends - time.monotonic()) > 0:
            if (event := pool.next_event(left_s)) is not None:
                self.hear(event)

    def _size(self, job: int) -> int:
        return self._tasks[job].files[0].size_bytes


def measured_speed(backend: Backend, sampling: Sampling, clips: int) -> float:
    """Seconds of video that a model looks at in a second, timed on `clips` blank clips at once."""
    height, width = clip_size(_USUAL, sampling)
    blank = np.zeros((clips * sampling.view_count, sampling.frames, height, width, 3), np.uint8)
    backend.run(blank[:0])  # what has to be made ready for that size is no measure
    for _ in range(2):  # the first call is slower; where it takes long it is believed all the same
        started = time.monotonic()
        backend.run(blank)
        if (passed_s := time.monotonic() - started) > _QUICK_S:
            break
    return clips * sampling.stride_ms / 1000 / max(passed_s, 1e-6)
