"""What runs on a node: a local pipeline that is told what to do step by step, and answers with events."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from vtag.engine.checkpoints.load import Checkpoint
from vtag.engine.cluster.options import PathMap, map_path
from vtag.engine.errors import ClusterError
from vtag.engine.library.store.observations import to_halves
from vtag.engine.scan.inference_thread import WindowFeatures
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.pipeline import Pipeline, PipelineEvent, open_local_pipeline
from vtag.engine.system.clock import active_seconds
from vtag.engine.system.silent_disks import describe_error
from vtag.engine.video.decode.messages import DecodeFailed, WindowsRequest
from vtag.engine.video.read.sampling import Sampling

_STEP_S = 1.0  # longest time in which a step collects features


@dataclass(frozen=True)
class ModelParcel:
    """A model as it travels: with the content of its ONNX file, if it has one. The spec's hashes identify it."""

    checkpoint: Checkpoint
    onnx: bytes | None

    @classmethod
    def pack(cls, checkpoint: Checkpoint) -> ModelParcel:
        """The parcel of a model."""
        return cls(checkpoint, checkpoint.onnx.file.read_bytes() if checkpoint.onnx else None)

    @contextmanager
    def unpack(self) -> Iterator[Checkpoint]:
        """The model. Its ONNX file has no name that could stay behind, since a worker ends by being killed."""
        graph = self.checkpoint.onnx
        if graph is None or self.onnx is None:
            yield self.checkpoint
            return
        with tempfile.TemporaryFile(prefix="vtag-") as file:
            file.write(self.onnx)
            file.flush()
            path = Path(f"/proc/self/fd/{file.fileno()}")
            yield replace(self.checkpoint, onnx=replace(graph, file=path))


@dataclass(frozen=True)
class VideoRequest:
    """A video for a worker. `request.path` is the path on the machine that started the scan."""

    job_id: int
    request: WindowsRequest
    size_bytes: int


@dataclass(frozen=True)
class WorkerReport:
    """A worker that has loaded the model."""

    host: str
    backend: str
    device: str
    precision: str
    speed: float  # seconds of video in a second, measured on blank clips


class _AllPackets:
    """Every fingerprint is known: who started the scan decides, because only there the library is."""

    def __contains__(self, packets: object) -> bool:
        return bool(packets)


class ScanWorker:
    """An actor of the cluster. It is called by one caller, one call at a time."""

    def __init__(self, processes: int) -> None:
        """`processes`: how many decode."""
        self._processes = processes
        self._stack = ExitStack()
        self._pipeline: Pipeline | None = None
        self._path_map: PathMap = ()

    def open(
        self,
        caller_version: str,
        parcel: ModelParcel,
        options: ScanOptions,
        sampling: Sampling,
        path_map: PathMap,
    ) -> WorkerReport:
        """Load the model and compute with it once.

        Raises ModelError if it cannot run here, and ClusterError if the caller has another version of vtag.
        """
        if (own_version := version("vtag")) != caller_version:
            raise ClusterError(f"it has vtag {own_version}, and this machine {caller_version}")
        checkpoint = self._stack.enter_context(parcel.unpack())
        pipeline = self._stack.enter_context(
            open_local_pipeline(checkpoint, options, sampling, _AllPackets(), processes=self._processes)
        )
        pipeline.next_events()  # that the backend is open, which the report says
        self._pipeline, self._path_map = pipeline, path_map
        made_by, speed = pipeline.provenance(0), pipeline.measure_speed()
        return WorkerReport(platform.node(), made_by.backend, made_by.device, made_by.precision, speed or 0.0)

    def step(
        self, videos: Sequence[VideoRequest], decisions: Sequence[tuple[int, bool]]
    ) -> list[PipelineEvent]:
        """Take videos and decisions, and return what happened. Waits up to a second for something to happen.

        A decision is a job id and whether the video is decoded.
        """
        assert self._pipeline is not None
        for job_id, is_decoded in decisions:
            (self._pipeline.decode_anyway if is_decoded else self._pipeline.skip)(job_id)
        events: list[PipelineEvent] = [event for video in videos if (event := self._submit(video))]
        deadline = active_seconds() + _STEP_S
        # whoever called waits for everything but features, of which many are sent at once
        while all(isinstance(event, WindowFeatures) for event in events) and active_seconds() < deadline:
            events += [_compact(event) for event in self._pipeline.next_events()]
        return events

    def _submit(self, video: VideoRequest) -> DecodeFailed | None:
        """Give a video to the pipeline; returns why it cannot be read here, if it cannot."""
        assert self._pipeline is not None
        original = os.fsencode(video.request.path)
        reason = ""
        # the machine that started the scan may be a node, too, and has the original path
        for path in dict.fromkeys((map_path(original, self._path_map), original)):
            try:
                if os.stat(path).st_size == video.size_bytes:
                    self._pipeline.submit(video.job_id, replace(video.request, path=path))
                    return None
                reason = reason or "another file is at its path"
            except OSError as error:
                reason = reason or describe_error(error, path)
        return DecodeFailed(video.job_id, f"{reason} on the node {platform.node()}", is_of_node=True)


def _compact(event: PipelineEvent) -> PipelineEvent:
    """Features as the library keeps them, which is half as much to send."""
    return replace(event, features=to_halves(event.features)) if isinstance(event, WindowFeatures) else event
