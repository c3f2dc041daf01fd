"""Decodes several videos at once, in processes that may crash or hang without harm to the others.

Each process is a new interpreter: nothing is forked, and the caller's `__main__` does not run again. It decodes one
file at a time and writes the clips into one piece of shared memory of a fixed size. A process that dies, makes no
progress, takes too long or uses too much memory is killed and replaced; only its file fails.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Container, Iterator
from dataclasses import replace

from vtag.engine.errors import VideoError
from vtag.engine.system.silent_disks import is_silent
from vtag.engine.video.decode.arena import Arena
from vtag.engine.video.decode.messages import (
    ClipReady,
    DecodeDone,
    DecodeEvent,
    DecodeFailed,
    DecodeRequest,
    DecodeSkipped,
    DurationRead,
    FinalEvent,
    FingerprintReady,
    VideoProbed,
    WindowsRequest,
)
from vtag.engine.video.decode.process import EXIT_S, MIN_TIME_LIMIT_S, WorkerProcess, status_text
from vtag.engine.video.decode.wire import (
    ClipWritten,
    Decision,
    DecodeJob,
    FromWorker,
    Heartbeat,
    JobStarted,
    MemoryGrant,
    MemoryRequest,
    VideoOpened,
    WorkerReady,
)
from vtag.engine.video.decode.worker import memory_limit_reason, private_bytes
from vtag.engine.video.read.card_decoder import requested_card

_TICK_S = 0.1
_MAX_TICK_S = 1.0  # a longer pause is our own (suspended, overloaded) and not held against a worker
_LIMIT_PER_SECOND = 10.0  # a file may take this much longer for every second of video
_MAX_FAILED_STARTS = 3


class DecodePool:
    """`workers` decoding processes that share `memory_bytes` for their finished clips. A context manager.

    One thread submits requests and takes events; any thread may call `ClipReady.release`. A caller that collects
    several clips before it releases them needs memory for more than these.
    """

    def __init__(
        self,
        workers: int,
        memory_bytes: int,
        *,
        stall_s: float = 60.0,
        worker_memory_bytes: int = 2 << 30,
        threads: int | None = None,
        known_packets: Container[str] | None = None,
    ) -> None:
        """Start nothing yet: processes start as requests come, or with `start_processes`.

        Args:
            workers: how many processes.
            memory_bytes: shared memory for finished clips.
            stall_s: how long a process may make no progress.
            worker_memory_bytes: how much memory of its own a process may use. Linux only.
            threads: threads of one decoder; by default its share of the cores.
            known_packets: `Fingerprint.packets` of known videos. If given, each `WindowsRequest` has an event
                `FingerprintReady`, and a known video waits for a decision.

        Raises:
            ValueError: if there is no worker or no memory.
        """
        requested_card()  # a senseless value is refused here, not in every process
        if workers < 1 or memory_bytes < 1:
            raise ValueError("a pool needs a worker and memory")
        self._count = workers
        self._known_packets = known_packets
        self._stall_s = stall_s
        self._worker_memory_bytes = worker_memory_bytes
        self._threads = threads or max(1, (os.cpu_count() or 1) // workers)
        self._arena = Arena(memory_bytes)
        self._lock = threading.RLock()
        self._events: queue.SimpleQueue[DecodeEvent | VideoError] = queue.SimpleQueue()
        self._jobs: deque[DecodeJob] = deque()
        self._unfinished_count = 0  # requests whose last event was not taken yet
        self._workers: list[WorkerProcess] = []
        self._memory_requests: deque[tuple[WorkerProcess, int]] = deque()  # with bytes, in order
        self._failed_starts = 0
        self._closed = False
        self._supervisor = threading.Thread(target=self._supervise, name="vtag-decode", daemon=True)
        self._supervisor.start()

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- for the caller ---------------------------------------------------------------------------------------

    def submit(self, job_id: int, request: DecodeRequest) -> None:
        """Queue a request. Its events carry `job_id`. Raises ValueError after `close`."""
        with_fingerprint = isinstance(request, WindowsRequest) and self._known_packets is not None
        request = replace(request, path=os.fsencode(request.path))
        with self._lock:
            if self._closed:
                raise ValueError("the pool is closed")
            self._unfinished_count += 1
            self._jobs.append(DecodeJob(job_id, request, self._threads, with_fingerprint))
            self._assign_jobs()

    def start_processes(self) -> None:
        """Start all processes now, so that the first requests do not wait for them."""
        with self._lock:
            while not self._closed and len(self._workers) < self._count:
                self._workers.append(WorkerProcess(self, self._arena, self._worker_memory_bytes))

    def decode_anyway(self, job_id: int) -> None:
        """Decode a known video, after its `FingerprintReady`."""
        self._decide(job_id, Decision(is_decoded=True))

    def skip(self, job_id: int) -> None:
        """Do not decode a known video, after its `FingerprintReady`."""
        self._decide(job_id, Decision(is_decoded=False))

    def _decide(self, job_id: int, decision: Decision) -> None:
        with self._lock:
            for worker in self._workers:
                if worker.job is not None and worker.job.id == job_id and worker.is_waiting:
                    worker.is_waiting = False
                    worker.send(decision)

    @property
    def worker_count(self) -> int:
        """How many videos it decodes at once."""
        return self._count

    @property
    def unfinished_count(self) -> int:
        """How many requests there are whose last event was not taken yet."""
        return self._unfinished_count

    @property
    def used_bytes(self) -> int:
        """How much of the shared memory is in use."""
        with self._lock:
            return self._arena.used_bytes

    @property
    def pids(self) -> list[int]:
        """The process ids of the running workers."""
        with self._lock:
            return [worker.process.pid for worker in self._workers]

    def __iter__(self) -> Iterator[DecodeEvent]:
        """Events until every request is done; more requests may be submitted meanwhile."""
        while self._unfinished_count:
            event = self.next_event()
            if event is not None:
                yield event

    def next_event(self, timeout_s: float | None = None) -> DecodeEvent | None:
        """The next event, or None if there is none for `timeout_s`. Raises VideoError if no worker starts."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            wait_s = _MAX_TICK_S if deadline is None else min(deadline - time.monotonic(), _MAX_TICK_S)
            try:  # never blocks for long, so that Ctrl-C works on every system
                event = self._events.get(timeout=max(0.0, wait_s))
            except queue.Empty:
                if self._closed or (deadline is not None and time.monotonic() >= deadline):
                    return None
                continue
            if isinstance(event, VideoError):
                raise event
            if isinstance(event, FinalEvent):
                self._unfinished_count -= 1
            return event

    def close(self) -> None:
        """End all workers, whatever they do, and free the shared memory."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            workers, self._workers = self._workers, []
            self._jobs.clear()
            self._memory_requests.clear()
        for worker in workers:
            worker.send(None)
        deadline = time.monotonic() + EXIT_S
        for worker in workers:
            worker.wait(max(0.0, deadline - time.monotonic()))
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.wait(EXIT_S / len(workers))
        self._supervisor.join()
        self._unfinished_count = 0
        self._arena.close()

    # --- messages from the workers ----------------------------------------------------------------------------

    def receive(self, worker: WorkerProcess, message: FromWorker) -> None:
        """Handle a message. Called in the worker's reading thread."""
        with self._lock:
            if self._closed or worker not in self._workers:
                return
            worker.idle_s = 0.0
            match message:
                case WorkerReady():
                    worker.is_ready = True
                    self._assign_jobs()
                case JobStarted():
                    self._failed_starts = 0
                    worker.has_started_job = True
                case VideoOpened():
                    worker.limit_s = MIN_TIME_LIMIT_S + _LIMIT_PER_SECOND * message.duration_ms / 1000
                case Heartbeat():
                    worker.memory_bytes = message.memory_bytes
                case MemoryRequest():
                    self._queue_memory_request(worker, message.length)
                case ClipWritten():
                    self._publish_clip(worker, message)
                case FingerprintReady():
                    self._publish_fingerprint(worker, message)
                case DecodeFailed():
                    self._fail(worker, message.reason, crashed=message.crashed)
                    if message.crashed:
                        self._remove(worker)
                    self._assign_jobs()
                case DecodeDone() | DecodeSkipped() | DurationRead() | VideoProbed():
                    self._finish(worker, message)

    def _queue_memory_request(self, worker: WorkerProcess, length: int) -> None:
        if length > self._arena.size_bytes:
            worker.send(MemoryGrant(None))
            return
        worker.is_waiting = True
        self._memory_requests.append((worker, length))
        self._grant_memory()

    def _publish_clip(self, worker: WorkerProcess, clip: ClipWritten) -> None:
        offset = clip.offset
        if worker.job is None or worker.granted_offset != offset:
            return
        worker.granted_offset = None
        pixels = self._arena.view(offset, clip.shape)
        event = ClipReady(worker.job.id, clip.start_ms, clip.end_ms, pixels, lambda: self._release(offset))
        self._events.put(event)

    def _publish_fingerprint(self, worker: WorkerProcess, event: FingerprintReady) -> None:
        if worker.job is None or self._known_packets is None:
            return
        is_known = event.fingerprint.packets in self._known_packets
        self._events.put(replace(event, job_id=worker.job.id, needs_decision=is_known))
        if is_known:
            worker.is_waiting = True
        else:
            worker.send(Decision(is_decoded=True))

    def _finish(self, worker: WorkerProcess, event: FinalEvent) -> None:
        if worker.job is None:
            return
        self._events.put(replace(event, job_id=worker.job.id))
        worker.job = None
        if worker.memory_bytes > self._worker_memory_bytes // 2:  # libav keeps memory: it would only grow
            self._remove(worker)
        self._assign_jobs()

    def receive_end(self, worker: WorkerProcess) -> None:
        """Handle a closed pipe: the worker is dead or dying. Called in the worker's reading thread."""
        with self._lock:
            if self._closed or worker not in self._workers:
                return
            status = worker.exit_status()
            if worker.has_started_job:
                self._fail(worker, f"the decoder crashed on it ({status_text(status)})", crashed=True)
            elif worker.job is not None or not worker.is_ready:
                self._failed_starts += 1
                self._requeue_job(worker)
                if self._failed_starts >= _MAX_FAILED_STARTS:
                    reason = worker.last_error_line() or status_text(status)
                    self._events.put(VideoError(f"no decoding process starts ({reason})"))
                    self._jobs.clear()
            self._remove(worker)
            self._assign_jobs()

    # --- under the lock ---------------------------------------------------------------------------------------

    def _assign_jobs(self) -> None:
        """Give jobs to idle workers, and start workers while there are too few."""
        if self._closed:
            return
        for worker in self._workers:
            if self._jobs and worker.is_ready and worker.job is None:
                worker.begin(self._jobs.popleft())
        starting = sum(not worker.is_ready for worker in self._workers)
        while len(self._workers) < self._count and len(self._jobs) > starting:
            self._workers.append(WorkerProcess(self, self._arena, self._worker_memory_bytes))
            starting += 1

    def _grant_memory(self) -> None:
        while self._memory_requests:
            worker, length = self._memory_requests[0]
            offset = self._arena.allocate(length)
            if offset is None:
                return
            self._memory_requests.popleft()
            worker.granted_offset, worker.is_waiting = offset, False
            worker.send(MemoryGrant(offset))

    def _release(self, offset: int) -> None:
        with self._lock:
            self._arena.free(offset)
            if not self._closed:
                self._grant_memory()

    def _requeue_job(self, worker: WorkerProcess) -> None:
        """Put back the job of a worker that died before it started on it."""
        if worker.job is not None:
            self._jobs.appendleft(worker.job)
            worker.job = None

    def _fail(self, worker: WorkerProcess, reason: str, *, crashed: bool) -> None:
        if worker.job is not None:
            self._events.put(DecodeFailed(worker.job.id, reason, crashed))
        worker.job = None
        self._reclaim_memory(worker)

    def _kill(self, worker: WorkerProcess, reason: str) -> None:
        """Kill a worker that hangs, takes too long or uses too much memory; its video fails."""
        self._fail(worker, reason, crashed=True)
        self._remove(worker)
        self._assign_jobs()

    def _reclaim_memory(self, worker: WorkerProcess) -> None:
        """Take back the memory that `worker` was granted and did not fill, and drop its requests."""
        self._memory_requests = deque(entry for entry in self._memory_requests if entry[0] is not worker)
        worker.is_waiting = False
        if worker.granted_offset is not None:
            self._arena.free(worker.granted_offset)
            worker.granted_offset = None
            self._grant_memory()

    def _remove(self, worker: WorkerProcess) -> None:
        self._workers.remove(worker)
        self._reclaim_memory(worker)
        worker.process.kill()
        worker.wait(EXIT_S)

    # --- time and memory limits -------------------------------------------------------------------------------

    def _supervise(self) -> None:
        last = time.monotonic()
        while not self._closed:
            time.sleep(_TICK_S)
            now = time.monotonic()
            passed_s, last = min(now - last, _MAX_TICK_S), now
            with self._lock:
                for worker in list(self._workers):
                    self._enforce_limits(worker, passed_s)

    def _enforce_limits(self, worker: WorkerProcess, passed_s: float) -> None:
        if worker.job is None or worker.is_waiting or self._closed:
            return
        worker.memory_bytes = private_bytes(worker.process.pid) or worker.memory_bytes
        if worker.idle_s > self._stall_s / 2 and is_silent(os.fsencode(worker.job.request.path)):
            return  # it is not the decoder that makes no progress
        worker.idle_s += passed_s
        worker.busy_s += passed_s
        if worker.memory_bytes > self._worker_memory_bytes:
            self._kill(worker, memory_limit_reason(self._worker_memory_bytes))
        elif worker.idle_s > self._stall_s:
            self._kill(worker, f"the decoder made no progress for {self._stall_s:.0f} seconds")
        elif worker.busy_s > worker.limit_s:
            self._kill(worker, f"decoding it took more than {worker.limit_s:.0f} seconds")
