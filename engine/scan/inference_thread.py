"""Clips in, features out: the model in a thread of its own, which is never idle while a decoded clip exists."""

from __future__ import annotations

import queue
import threading
from collections import deque
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from vtag.engine.backends.protocol import Backend
from vtag.engine.scan.events import Profile
from vtag.engine.system.clock import active_seconds
from vtag.engine.video.decode.messages import ClipReady

_END_S = 30.0  # a batch that is under way is waited for: it cannot be stopped


@dataclass(frozen=True)
class Seen:
    """A window and its features float32 [V, D]."""

    job_id: int
    start_ms: int
    end_ms: int
    features: NDArray[np.float32]


class ModelThread:
    """Batches of the clips that wait, whatever videos they are of; a context manager.

    The shapes of clips take turns, so that a rare one waits no longer than a batch of each. A batch is what there is
    of a shape, `clips_at_once` at most: full where the model is the limit, small where decoding is. Nothing is
    padded, since no device here needs a batch to be full.
    """

    def __init__(self, backend: Backend, clips_at_once: int) -> None:
        """`clips_at_once` are views: a clip of three crops counts for three."""
        self.profile = Profile()
        self._backend = backend
        self._most = clips_at_once
        self._waiting: dict[tuple[int, ...], deque[ClipReady]] = {}  # by shape; whose turn it is first
        self._results: queue.SimpleQueue[list[Seen] | BaseException] = queue.SimpleQueue()
        self._change = threading.Condition()
        self._closed = False
        self._unseen = 0
        self._thread = threading.Thread(target=self._work, name="vtag-model", daemon=True)
        self._thread.start()

    def __enter__(self) -> ModelThread:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def unseen(self) -> int:
        """How many clips were put whose features were not taken yet."""
        return self._unseen

    def put(self, clip: ClipReady) -> None:
        """Have a clip looked at; its memory is given back as soon as it was copied."""
        self._unseen += 1
        with self._change:
            self._waiting.setdefault(clip.pixels.shape, deque()).append(clip)
            self._change.notify()

    def take(self, timeout_s: float = 0.0) -> list[Seen]:
        """What was seen since; empty where there is nothing for `timeout_s`. Raises what the model raised."""
        try:
            seen = self._results.get(timeout=timeout_s) if timeout_s else self._results.get_nowait()
        except queue.Empty:
            return []
        if isinstance(seen, BaseException):
            raise seen
        self._unseen -= len(seen)
        return seen

    def close(self) -> None:
        """End the thread after the batch that it is at; clips that wait are given back unseen."""
        with self._change:
            self._closed = True
            for clips in self._waiting.values():
                for clip in clips:
                    clip.release()
            self._waiting.clear()
            self._change.notify()
        self._thread.join(_END_S)

    def _work(self) -> None:
        try:
            while clips := self._next_batch():
                self._results.put(self._look(clips))
        except BaseException as error:  # the caller's thread raises it
            self._results.put(error)

    def _next_batch(self) -> list[ClipReady]:
        with self._change:
            while not self._waiting and not self._closed:
                self._change.wait()
            if self._closed:
                return []
            shape = next(iter(self._waiting))
            clips = self._waiting.pop(shape)
            some = [clips.popleft() for _ in range(min(len(clips), max(1, self._most // shape[0])))]
            if clips:
                self._waiting[shape] = clips  # behind the other shapes
            return some

    def _look(self, clips: list[ClipReady]) -> list[Seen]:
        began = active_seconds()
        pixels = np.concatenate([clip.pixels for clip in clips])
        for clip in clips:
            clip.release()
        features = self._backend.run(pixels).features
        self.profile.model_s += active_seconds() - began
        self.profile.clips += len(clips)
        self.profile.batches += 1
        split = features.reshape(len(clips), -1, features.shape[-1])
        return [Seen(c.job_id, c.start_ms, c.end_ms, seen) for c, seen in zip(clips, split, strict=True)]
