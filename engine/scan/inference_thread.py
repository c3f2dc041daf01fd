"""Clips in, features out: a thread for each card runs the model whenever a decoded clip is ready."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from vtag.engine.backends.protocol import Backend
from vtag.engine.scan.events import ScanProfile
from vtag.engine.system.clock import active_seconds
from vtag.engine.video.decode.messages import ClipReady

_JOIN_TIMEOUT_S = 30.0  # a batch cannot be stopped while it is computed


@dataclass(frozen=True)
class WindowFeatures:
    """The features [V, D] of a window, one row for each view: float32, or float16 from another machine."""

    job_id: int
    start_ms: int
    end_ms: int
    features: NDArray[np.float32] | NDArray[np.float16]


class InferenceThread:
    """Runs the model on batches of the waiting clips, which may be of different videos. A context manager.

    A batch has clips of one shape, and the shapes take turns, so a rare shape waits for at most one batch of each
    other. A batch takes the clips that are there, up to `max_views`: batches are full if the model limits the scan,
    and small if decoding does. Nothing is padded, since no device needs full batches here.

    Each of several backends has a thread of its own, and takes the next batch when it is free.
    """

    def __init__(self, backends: Backend | Sequence[Backend], max_views: int) -> None:
        """`max_views`: the largest batch; a clip of three crops counts as three views."""
        self.profile = ScanProfile()
        backends = backends if isinstance(backends, Sequence) else [backends]
        self._max_views = max_views
        self._waiting: dict[tuple[int, ...], deque[ClipReady]] = {}  # by shape, the next shape first
        self._results: queue.SimpleQueue[list[WindowFeatures] | BaseException] = queue.SimpleQueue()
        self._change = threading.Condition()
        self._closed = False
        self._pending = 0
        self._threads = [
            threading.Thread(target=self._work, args=(backend,), name="vtag-model", daemon=True)
            for backend in backends
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> InferenceThread:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pending(self) -> int:
        """How many clips were put whose features were not taken yet."""
        return self._pending

    def put(self, clip: ClipReady) -> None:
        """Queue a clip. Its shared memory is released as soon as the batch has a copy."""
        self._pending += 1
        with self._change:
            self._waiting.setdefault(clip.pixels.shape, deque()).append(clip)
            self._change.notify()

    def take(self, timeout_s: float = 0.0) -> list[WindowFeatures]:
        """The features of the next batch; empty if there is none within `timeout_s`. Raises what the model raised."""
        try:
            batch = self._results.get(timeout=timeout_s) if timeout_s else self._results.get_nowait()
        except queue.Empty:
            return []
        if isinstance(batch, BaseException):
            raise batch
        self._pending -= len(batch)
        return batch

    def close(self) -> None:
        """End each thread after its current batch; release the clips that wait."""
        with self._change:
            self._closed = True
            for clips in self._waiting.values():
                for clip in clips:
                    clip.release()
            self._waiting.clear()
            self._change.notify_all()
        for thread in self._threads:
            thread.join(_JOIN_TIMEOUT_S)

    def _work(self, backend: Backend) -> None:
        try:
            while clips := self._next_batch():
                self._results.put(self._compute(backend, clips))
        except BaseException as error:  # `take` raises it in the caller's thread
            self._results.put(error)

    def _next_batch(self) -> list[ClipReady]:
        """Wait for clips; empty when the thread is to end."""
        with self._change:
            while not self._waiting and not self._closed:
                self._change.wait()
            if self._closed:
                return []
            shape = next(iter(self._waiting))
            clips = self._waiting.pop(shape)
            batch = [clips.popleft() for _ in range(min(len(clips), max(1, self._max_views // shape[0])))]
            if clips:
                self._waiting[shape] = clips  # after the other shapes
            return batch

    def _compute(self, backend: Backend, clips: list[ClipReady]) -> list[WindowFeatures]:
        started = active_seconds()
        pixels = np.concatenate([clip.pixels for clip in clips])  # (N x V, T, H, W, 3)
        for clip in clips:
            clip.release()
        features = backend.run(pixels).features
        with self._change:
            self.profile.model_s += (active_seconds() - started) / len(self._threads)  # they run side by side
            self.profile.clips += len(clips)
            self.profile.batches += 1
        by_clip = features.reshape(len(clips), -1, features.shape[-1])  # (N, V, D)
        return [
            WindowFeatures(clip.job_id, clip.start_ms, clip.end_ms, rows)
            for clip, rows in zip(clips, by_clip, strict=True)
        ]
