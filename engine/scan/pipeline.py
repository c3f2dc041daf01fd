"""From a video's file to the features of its windows: decoding processes and a model, behind one interface.

A scan gives videos to a pipeline and takes events. The local pipeline works on this machine. The cluster's
(`vtag.engine.cluster`) has a local pipeline on each node.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from vtag.engine.backends.batch_size import batch_size
from vtag.engine.backends.factory import open_backend
from vtag.engine.backends.protocol import Backend
from vtag.engine.checkpoints.load import Checkpoint
from vtag.engine.errors import ModelError
from vtag.engine.library.store.observations import Provenance
from vtag.engine.scan.estimate import measure_speed
from vtag.engine.scan.events import BackendOpened, NodeJoined, NodeLost, ScanProfile
from vtag.engine.scan.inference_thread import InferenceThread, WindowFeatures
from vtag.engine.scan.options import ScanOptions
from vtag.engine.video.decode.messages import (
    ClipReady,
    DecodeDone,
    DecodeEvent,
    DecodeFailed,
    DecodeSkipped,
    DurationRead,
    FingerprintReady,
    VideoProbed,
    WindowsRequest,
)
from vtag.engine.video.decode.pool import DecodePool
from vtag.engine.video.read.card_decoder import card_problem, requested_card
from vtag.engine.video.read.change_detector import ChangeDetector
from vtag.engine.video.read.sampling import Sampling

# clips in shared memory at one time; a clip of the published models has 4.8 MB
DECODE_MEMORY_BYTES = 256 * 2**20
_POLL_S = 0.05  # how often results are polled while the model computes
_IDLE_POLL_S = 1.0  # and while it does not: how soon an interrupt that Python swallowed is noticed
_NICE = 10
_MIN_QUEUED = 2  # videos that wait for a decoding process

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoRestarted:
    """A video begins again, because the machine that had it is gone: its earlier events count no more."""

    job_id: int


PipelineEvent = (
    BackendOpened
    | NodeJoined
    | NodeLost
    | FingerprintReady
    | WindowFeatures
    | DecodeDone
    | DecodeSkipped
    | DecodeFailed
    | DurationRead
    | VideoProbed
    | VideoRestarted
)


class Pipeline(Protocol):
    """Computes the features of videos. One thread calls it.

    A video's events are a `FingerprintReady`, a `WindowFeatures` for each window, and then one of `DecodeDone`,
    `DecodeSkipped` and `DecodeFailed`.
    """

    @property
    def profile(self) -> ScanProfile | None:
        """How long its parts took so far; None for a cluster."""
        ...

    @property
    def computed_by(self) -> str:
        """What computes, as a part of the key of a measured speed."""
        ...

    @property
    def pool(self) -> DecodePool:
        """Decodes on this machine; for the lengths of videos."""
        ...

    @property
    def room(self) -> int:
        """How many more videos it needs now, so that nothing in it waits for the next one."""
        ...

    def wait_until_ready(self) -> None:
        """Wait until it can compute. Raises ClusterError if it never will."""
        ...

    def measure_speed(self) -> float | None:
        """Seconds of video in a second, measured on blank clips; None if it is not known."""
        ...

    def submit(self, job_id: int, request: WindowsRequest) -> None:
        """Queue a video; its events carry `job_id`."""
        ...

    def decode_anyway(self, job_id: int) -> None:
        """Decode a known video, after a `FingerprintReady` that needs a decision."""
        ...

    def skip(self, job_id: int) -> None:
        """Do not decode a known video, after a `FingerprintReady` that needs a decision."""
        ...

    def next_events(self) -> list[PipelineEvent]:
        """What happened since the last call; if nothing did, waits for it for about a second."""
        ...

    def provenance(self, job_id: int) -> Provenance:
        """What computed the features of a video."""
        ...

    def shares(self) -> dict[str, int]:
        """The windows that each node of a cluster computed; empty on one machine."""
        ...


OpenPipeline = Callable[[Checkpoint, ScanOptions, Sampling, Container[str]], AbstractContextManager[Pipeline]]


@contextmanager
def open_local_pipeline(
    checkpoint: Checkpoint,
    options: ScanOptions,
    sampling: Sampling,
    known_packets: Container[str],
    *,
    processes: int | None = None,
) -> Iterator[Pipeline]:
    """A pipeline on this machine. Of a video with `known_packets` it asks before it decodes it.

    So many `processes` decode, and start while the model is loaded. By default each core has one, and they start as
    videos come. Raises ModelError if a backend cannot be opened, VideoError if `VTAG_DECODER` has no meaning.
    """
    card = requested_card()
    if card is not None and (problem := card_problem(card)):
        log.warning("the processor decodes, not the card: %s", problem)
    with DecodePool(
        processes or os.cpu_count() or 1, DECODE_MEMORY_BYTES, known_packets=known_packets
    ) as pool:
        if processes:
            pool.start_processes()
        backends = open_backends_for_scan(checkpoint, options, sampling)
        if options.nice and backends[0].device == "cpu" and hasattr(os, "nice"):
            os.nice(_NICE)
        with InferenceThread(backends, batch_size(backends[0].device, "scan")) as model:
            yield LocalPipeline(backends, pool, model, sampling, skip_static=options.skip_static)


@dataclass
class _DecodedVideo:
    """A video in a local pipeline."""

    clips_at_model: int = 0  # whose features are not there yet
    decoded: DecodeDone | None = None
    change_detector: ChangeDetector = field(default_factory=ChangeDetector)


class LocalPipeline:
    """The pipeline of one machine: its decoding processes give clips to the inference thread."""

    def __init__(
        self,
        backends: Sequence[Backend],
        pool: DecodePool,
        model: InferenceThread,
        sampling: Sampling,
        *,
        skip_static: bool,
    ) -> None:
        self.pool = pool
        self._backends = backends
        self._model = model
        self._sampling = sampling
        self._skip_static = skip_static
        self._videos: dict[int, _DecodedVideo] = {}
        first, devices = backends[0], ",".join(backend.device for backend in backends)
        self._made_by = Provenance(first.name, devices, first.precision)
        self._news: list[PipelineEvent] = [
            BackendOpened(first.spec.name, first.name, devices, first.precision)
        ]

    @property
    def profile(self) -> ScanProfile:
        return self._model.profile

    @property
    def computed_by(self) -> str:
        return " ".join((self._made_by.backend, self._made_by.device, self._made_by.precision))

    @property
    def room(self) -> int:
        return (
            self.pool.worker_count
            + max(_MIN_QUEUED, self.pool.worker_count // 2)
            - self.pool.unfinished_count
        )

    def wait_until_ready(self) -> None:
        """It is ready as soon as it is open."""

    def measure_speed(self) -> float:
        backend = self._backends[0]
        clips = max(1, batch_size(backend.device, "scan") // self._sampling.view_count)
        return measure_speed(backend, self._sampling, clips) * len(self._backends)

    def submit(self, job_id: int, request: WindowsRequest) -> None:
        self._videos[job_id] = _DecodedVideo()
        self.pool.submit(job_id, request)

    def decode_anyway(self, job_id: int) -> None:
        self.pool.decode_anyway(job_id)

    def skip(self, job_id: int) -> None:
        self.pool.skip(job_id)

    def provenance(self, job_id: int) -> Provenance:
        return self._made_by

    def shares(self) -> dict[str, int]:
        return {}

    def next_events(self) -> list[PipelineEvent]:
        events, self._news = self._news, []
        if events:
            return events
        if self.pool.unfinished_count:
            event = self.pool.next_event(_POLL_S if self._model.pending else _IDLE_POLL_S)
            if event is not None:
                events += self._handle(event)
        for window in self._model.take(0 if self.pool.unfinished_count else 1):
            events += self._add_features(window)
        return events

    def _handle(self, event: DecodeEvent) -> list[PipelineEvent]:
        if isinstance(event, ClipReady):
            self._handle_clip(event)
            return []
        if isinstance(event, DecodeDone):
            video = self._videos[event.job_id]
            video.decoded = event
            return self._finish_if_complete(event.job_id, video)
        if isinstance(event, DecodeSkipped | DecodeFailed):
            self._videos.pop(event.job_id, None)
        return [event]

    def _handle_clip(self, clip: ClipReady) -> None:
        video = self._videos[clip.job_id]
        if self._skip_static and not video.change_detector.has_change(clip.pixels):
            clip.release()
            return
        video.clips_at_model += 1
        self._model.put(clip)

    def _add_features(self, window: WindowFeatures) -> list[PipelineEvent]:
        video = self._videos.get(window.job_id)
        if video is None:  # it failed meanwhile
            return []
        video.clips_at_model -= 1
        return [window, *self._finish_if_complete(window.job_id, video)]

    def _finish_if_complete(self, job_id: int, video: _DecodedVideo) -> list[PipelineEvent]:
        """The end of a video, once all of its clips are decoded and computed."""
        if video.decoded is None or video.clips_at_model:
            return []
        del self._videos[job_id]
        return [video.decoded]


def open_backends_for_scan(checkpoint: Checkpoint, options: ScanOptions, sampling: Sampling) -> list[Backend]:
    """The backends that a scan with `options` runs: one, or one for each card that `--device` lists.

    Raises ModelError if one cannot be opened, or if they are not alike.
    """
    backends = [
        open_backend(
            checkpoint,
            backend=options.backend,
            device=device,
            precision=options.precision,
            sizes_vary=sampling.view == "full",
        )
        for device in options.device.split(",")
    ]
    if len({(b.name, b.device.partition(":")[0], b.precision) for b in backends}) > 1:
        raise ModelError("the devices of one scan have to be alike: --device cuda:0,cuda:1")
    return backends
