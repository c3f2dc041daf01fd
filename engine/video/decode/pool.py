"""Several videos decoded at once, in processes that may crash, hang or swell without harm to the others.

Each process is started anew (nothing is forked, the caller's `__main__` is not run again), reads one file at a time
and writes its clips into one piece of shared memory of a stated size. A process that dies, makes no progress, takes
too long or asks for too much memory costs its file alone: it is killed and replaced.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Collection, Container, Iterator
from dataclasses import asdict
from typing import Any

from vtag.engine.errors import VideoError
from vtag.engine.video.decode.arena import Arena
from vtag.engine.video.decode.messages import (
    ClipReady,
    Event,
    LengthTold,
    VideoDone,
    VideoFailed,
    VideoLeft,
    VideoOpened,
)
from vtag.engine.video.decode.process import END_S, LEAST_LIMIT_S, Job, Process, signal_name
from vtag.engine.video.decode.worker import private_bytes, swollen
from vtag.engine.video.read.packets import Fingerprint
from vtag.engine.video.read.probe import VideoInfo
from vtag.engine.video.read.sampling import Protocol, Sampling

_TICK_S = 0.1
_LONGEST_TICK_S = (
    1.0  # a longer pause was ours (suspended, stopped, overloaded): it is not held against a worker
)
_LIMIT_PER_SECOND = 10.0  # a file may take this much longer for every second of video
_FAILED_STARTS = 3


class DecodePool:
    """`workers` decoding processes that share `memory_bytes` for their finished clips. A context manager.

    One thread submits and takes events; `ClipReady.release` may be called from any. Whoever holds clips back until
    there are several of them needs memory for more than that.
    """

    def __init__(
        self,
        workers: int,
        memory_bytes: int,
        *,
        stall_s: float = 60.0,
        worker_memory_bytes: int = 2 << 30,
        threads: int | None = None,
        recognise: Container[str] | None = None,
    ) -> None:
        """`stall_s`: so long may a process make no progress. `threads`: of one decoder, by default the cores'
        share. `worker_memory_bytes`: of one process, shared memory apart (looked at on Linux alone).
        `recognise`: the packets (see `Fingerprint`) of videos that are asked about before they are decoded; with it
        each video has an event `VideoOpened`.
        """
        if workers < 1 or memory_bytes < 1:
            raise ValueError("a pool needs a worker and memory")
        self._count = workers
        self._recognise = recognise
        self._stall_s = stall_s
        self._worker_memory_bytes = worker_memory_bytes
        self._threads = threads or max(1, (os.cpu_count() or 1) // workers)
        self._arena = Arena(memory_bytes)
        self._lock = threading.RLock()
        self._events: queue.SimpleQueue[Event | VideoError] = queue.SimpleQueue()
        self._jobs: deque[Job] = deque()
        self._unfinished = 0  # submitted, and the last event not yet taken
        self._workers: list[Process] = []
        self._wanting: deque[tuple[Process, int]] = (
            deque()
        )  # who waits for how much memory, first come first served
        self._failed_starts = 0
        self._closed = False
        self._supervisor = threading.Thread(target=self._supervise, name="vtag-decode", daemon=True)
        self._supervisor.start()

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what the caller does ---------------------------------------------------------------------------------

    def submit(
        self,
        job_id: int,
        path: str | bytes | os.PathLike[str],
        sampling: Sampling,
        skip_starts: Collection[int] = (),
        *,
        only_starts: Collection[int] | None = None,
    ) -> None:
        """Have the video at `path` read; its events carry `job_id`.

        `skip_starts` are windows (ms) that are known already; with `only_starts` no others are looked at.
        """
        self._submit(
            job_id,
            path,
            look="windows",
            recognise=self._recognise is not None,
            sampling=asdict(sampling),
            skip=sorted(skip_starts),
            only=None if only_starts is None else sorted(only_starts),
        )

    def submit_length(self, job_id: int, path: str | bytes | os.PathLike[str]) -> None:
        """Have asked how long the video at `path` is; the answer is a LengthTold, or that it cannot be read."""
        self._submit(job_id, path, look="length")

    def submit_published(
        self,
        job_id: int,
        path: str | bytes | os.PathLike[str],
        protocol: Protocol,
        *,
        frames: int,
        short_side: int,
        crop: int,
    ) -> None:
        """Have read what a published protocol looks at (`published.predict_clip`): one event with all N views."""
        numbers = {"frames": frames, "short_side": short_side, "crop": crop}
        self._submit(job_id, path, look="published", protocol=protocol, **numbers)

    def submit_training_clip(
        self,
        job_id: int,
        path: str | bytes | os.PathLike[str],
        *,
        share: float,
        frames: int,
        step: int,
        short_side: int,
        crop: int | None = None,
    ) -> None:
        """Have one clip read by frame index (`published.training_clip`)."""
        numbers = {"frames": frames, "step": step, "short_side": short_side, "crop": crop}
        self._submit(job_id, path, look="training", share=share, **numbers)

    def submit_window(
        self,
        job_id: int,
        path: str | bytes | os.PathLike[str],
        sampling: Sampling,
        *,
        start_ms: int | None = None,
        share: float = 0.5,
    ) -> None:
        """Have one window of the video read: the one that begins at `start_ms`, else at a `share` of the way from the
        first place where one can begin to the last (0 to 1). The sampling's stride does not matter.
        """
        numbers = asdict(sampling)
        self._submit(job_id, path, look="window", sampling=numbers, start_ms=start_ms, share=share)

    def _submit(self, job_id: int, path: str | bytes | os.PathLike[str], **message: Any) -> None:
        message |= {"path": os.fsencode(path).hex(), "threads": self._threads}
        with self._lock:
            if self._closed:
                raise ValueError("the pool is closed")
            self._unfinished += 1
            self._jobs.append(Job(job_id, message))
            self._hand_out()

    def go_on(self, job_id: int) -> None:
        """Have a video that was recognised decoded all the same."""
        self._answer(job_id, 1)

    def leave(self, job_id: int) -> None:
        """Have a video that was recognised not decoded."""
        self._answer(job_id, 0)

    def _answer(self, job_id: int, answer: int) -> None:
        with self._lock:
            for worker in self._workers:
                if worker.job is not None and worker.job.id == job_id and worker.wants:
                    worker.wants = False
                    worker.tell({"grant": answer})

    @property
    def unfinished(self) -> int:
        """How many videos were submitted whose last event was not taken yet."""
        return self._unfinished

    @property
    def used_bytes(self) -> int:
        """How much of the shared memory is in use."""
        with self._lock:
            return self._arena.used_bytes

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that run."""
        with self._lock:
            return [worker.process.pid for worker in self._workers]

    def __iter__(self) -> Iterator[Event]:
        """Events until every submitted video is finished; more may be submitted meanwhile."""
        while self._unfinished:
            event = self.next_event()
            if event is not None:
                yield event

    def next_event(self, timeout_s: float | None = None) -> Event | None:
        """The next event, or None when there was none for `timeout_s`. Raises VideoError where no worker starts."""
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = _LONGEST_TICK_S if ends is None else min(ends - time.monotonic(), _LONGEST_TICK_S)
            try:  # never blocks for long, so that Ctrl-C is heard everywhere
                event = self._events.get(timeout=max(0.0, left))
            except queue.Empty:
                if self._closed or (ends is not None and time.monotonic() >= ends):
                    return None
                continue
            if isinstance(event, VideoError):
                raise event
            if not isinstance(event, ClipReady | VideoOpened):
                self._unfinished -= 1
            return event

    def close(self) -> None:
        """End all workers, whatever they do, and forget the shared memory."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            workers, self._workers = self._workers, []
            self._jobs.clear()
            self._wanting.clear()
        for worker in workers:
            worker.tell(None)
        ends = time.monotonic() + END_S
        for worker in workers:
            worker.wait(max(0.0, ends - time.monotonic()))
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.wait(END_S / len(workers))
        self._supervisor.join()
        self._unfinished = 0
        self._arena.close()

    # --- what the workers say ---------------------------------------------------------------------------------

    def hear(self, worker: Process, message: dict[str, Any]) -> None:
        with self._lock:
            if self._closed or worker not in self._workers:
                return
            worker.idle_s = 0.0
            worker.memory_bytes = message.get("memory", worker.memory_bytes)
            handler = getattr(self, f"_hear_{message['say']}")
            handler(worker, message)

    def _hear_ready(self, worker: Process, message: dict[str, Any]) -> None:
        worker.ready = True
        self._hand_out()

    def _hear_begun(self, worker: Process, message: dict[str, Any]) -> None:
        self._failed_starts = 0
        worker.begun = True

    def _hear_opened(self, worker: Process, message: dict[str, Any]) -> None:
        worker.limit_s = LEAST_LIMIT_S + _LIMIT_PER_SECOND * message["duration_ms"] / 1000

    def _hear_known(self, worker: Process, message: dict[str, Any]) -> None:
        if worker.job is None or self._recognise is None:
            return
        known_by = Fingerprint(*message["known_by"])
        asks = known_by.packets in self._recognise
        self._events.put(VideoOpened(worker.job.id, VideoInfo(**message["info"]), known_by, asks))
        if asks:
            worker.wants = True  # to be told, which is not its fault
        else:
            worker.tell({"grant": 1})

    def _hear_left(self, worker: Process, message: dict[str, Any]) -> None:
        if worker.job is not None:
            self._events.put(VideoLeft(worker.job.id))
            worker.job = None
            self._hand_out()

    def _hear_at(self, worker: Process, message: dict[str, Any]) -> None:
        pass  # that it spoke was the message

    def _hear_want(self, worker: Process, message: dict[str, Any]) -> None:
        if message["bytes"] > self._arena.size_bytes:
            worker.tell({"grant": -1})
            return
        worker.wants = True
        self._wanting.append((worker, message["bytes"]))
        self._grant()

    def _hear_clip(self, worker: Process, message: dict[str, Any]) -> None:
        offset = message["offset"]
        if worker.job is None or worker.granted != offset:
            return
        worker.granted = None
        pixels = self._arena.view(offset, message["shape"])
        clip = ClipReady(
            worker.job.id, message["start_ms"], message["end_ms"], pixels, lambda: self._release(offset)
        )
        self._events.put(clip)

    def _hear_done(self, worker: Process, message: dict[str, Any]) -> None:
        if worker.job is None:
            return
        done = VideoDone(
            worker.job.id,
            VideoInfo(**message["info"]),
            message["broken_packets"],
            message["looked"],
            message["empty"],
            message["note"],
        )
        self._events.put(done)
        worker.job = None
        if worker.memory_bytes > self._worker_memory_bytes // 2:  # what libav keeps would only grow
            self._remove(worker)
        self._hand_out()

    def _hear_length(self, worker: Process, message: dict[str, Any]) -> None:
        if worker.job is None:
            return
        self._events.put(LengthTold(worker.job.id, message["claimed_ms"]))
        worker.job = None
        self._hand_out()

    def _hear_failed(self, worker: Process, message: dict[str, Any]) -> None:
        crashed = message.get("crashed", False)
        self._fail(worker, message["reason"], crashed=crashed)
        if crashed:
            self._remove(worker)
        self._hand_out()

    def hear_end(self, worker: Process) -> None:
        """A worker's pipe is closed: it is dead or dying."""
        with self._lock:
            if self._closed or worker not in self._workers:
                return
            code = worker.ended()
            if worker.begun:
                self._fail(worker, f"the decoder crashed on it ({signal_name(code)})", crashed=True)
            elif worker.job is not None or not worker.ready:
                self._failed_starts += 1
                self._give_back(worker)
                if self._failed_starts >= _FAILED_STARTS:
                    said = worker.last_words()
                    self._events.put(VideoError(f"no decoding process starts ({said or signal_name(code)})"))
                    self._jobs.clear()
            self._remove(worker)
            self._hand_out()

    # --- under the lock ---------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Give waiting videos to idle workers, and start workers while there are too few."""
        if self._closed:
            return
        for worker in self._workers:
            if self._jobs and worker.ready and worker.job is None:
                worker.begin(self._jobs.popleft())
        starting = sum(not worker.ready for worker in self._workers)
        while len(self._workers) < self._count and len(self._jobs) > starting:
            self._workers.append(Process(self, self._arena, self._worker_memory_bytes))
            starting += 1

    def _grant(self) -> None:
        while self._wanting:
            worker, length = self._wanting[0]
            offset = self._arena.allocate(length)
            if offset is None:
                return
            self._wanting.popleft()
            worker.granted, worker.wants = offset, False
            worker.tell({"grant": offset})

    def _release(self, offset: int) -> None:
        with self._lock:
            self._arena.free(offset)
            if not self._closed:
                self._grant()

    def _give_back(self, worker: Process) -> None:
        """The video that a worker was given and never took, as it had died before: another one takes it."""
        if worker.job is not None:
            self._jobs.appendleft(worker.job)
            worker.job = None

    def _fail(self, worker: Process, reason: str, *, crashed: bool) -> None:
        if worker.job is not None:
            self._events.put(VideoFailed(worker.job.id, reason, crashed))
        worker.job = None
        self._take_back(worker)

    def _give_up(self, worker: Process, reason: str) -> None:
        """Kill a worker that hangs, takes too long or swells."""
        self._fail(worker, reason, crashed=True)
        self._remove(worker)
        self._hand_out()

    def _take_back(self, worker: Process) -> None:
        """The memory that `worker` was given or waits for, and did not fill."""
        self._wanting = deque(entry for entry in self._wanting if entry[0] is not worker)
        worker.wants = False
        if worker.granted is not None:
            self._arena.free(worker.granted)
            worker.granted = None
            self._grant()

    def _remove(self, worker: Process) -> None:
        self._workers.remove(worker)
        self._take_back(worker)
        worker.process.kill()
        worker.wait(END_S)

    # --- the clock --------------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        last = time.monotonic()
        while not self._closed:
            time.sleep(_TICK_S)
            now = time.monotonic()
            passed_s, last = min(now - last, _LONGEST_TICK_S), now
            with self._lock:
                for worker in list(self._workers):
                    self._watch(worker, passed_s)

    def _watch(self, worker: Process, passed_s: float) -> None:
        if worker.job is None or worker.wants or self._closed:
            return
        worker.memory_bytes = private_bytes(worker.process.pid) or worker.memory_bytes
        worker.idle_s += passed_s
        worker.busy_s += passed_s
        if worker.memory_bytes > self._worker_memory_bytes:
            self._give_up(worker, swollen(self._worker_memory_bytes))
        elif worker.idle_s > self._stall_s:
            self._give_up(worker, f"the decoder made no progress for {self._stall_s:.0f} seconds")
        elif worker.busy_s > worker.limit_s:
            self._give_up(worker, f"decoding it took more than {worker.limit_s:.0f} seconds")
