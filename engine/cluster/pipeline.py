"""The pipeline of a cluster: an actor on each node that has a local pipeline, and one caller that gives them videos.

Each actor has one call under way, a step that takes new videos and brings events, so what is in flight is bounded: by
the videos of a worker, and by the caller that handles one step's events before the next. The caller alone writes into
the library.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import Any

from vtag.engine.checkpoints.load import Checkpoint
from vtag.engine.cluster.connection import ActorError, RayCluster, connect
from vtag.engine.cluster.dispatch import Dispatcher
from vtag.engine.cluster.options import ClusterOptions
from vtag.engine.cluster.worker import ModelParcel, ScanWorker, VideoRequest, WorkerReport
from vtag.engine.errors import ClusterError
from vtag.engine.library.store.observations import Provenance
from vtag.engine.scan.events import NodeJoined, NodeLost
from vtag.engine.scan.inference_thread import WindowFeatures
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.pipeline import (
    DECODE_MEMORY_BYTES,
    OpenPipeline,
    Pipeline,
    PipelineEvent,
    VideoRestarted,
)
from vtag.engine.system.signals import raise_if_interrupted
from vtag.engine.video.decode.messages import (
    DecodeDone,
    DecodeFailed,
    DecodeSkipped,
    FingerprintReady,
    WindowsRequest,
)
from vtag.engine.video.decode.pool import DecodePool
from vtag.engine.video.read.sampling import Sampling

_log = logging.getLogger(__name__)
_POLL_S = 1.0
_NODES_EVERY_S = 5.0  # how often nodes that are new, or whose worker died, get a worker
_MAX_DEATHS = 3  # of a node's workers without a video done between them; then the node gets no more
_MAX_LISTED = 3
_HINT_AFTER_S = 20.0
_QUEUED_PER_VIDEO = 2  # videos that this machine has ready, for each that the workers can have
_VIDEOS_PER_PROCESS = 2  # that a worker has, so that no decoding process waits for the next step


def cluster_pipeline(options: ClusterOptions) -> OpenPipeline:
    """What opens the pipeline of a scan on a cluster."""
    return partial(_open, options)


@contextmanager
def _open(
    chosen: ClusterOptions,
    checkpoint: Checkpoint,
    options: ScanOptions,
    sampling: Sampling,
    known_packets: Container[str],
) -> Iterator[Pipeline]:
    with connect(chosen.address) as cluster, DecodePool(os.cpu_count() or 1, DECODE_MEMORY_BYTES) as pool:
        # one copy for each node, in its shared memory; the actors' arguments name it
        arguments = (
            version("vtag"),
            cluster.put(ModelParcel.pack(checkpoint)),
            replace(options, nice=False),
            sampling,
            chosen.path_map,
        )
        pipeline = ClusterPipeline(cluster, pool, arguments, known_packets)
        try:
            pipeline.start_workers()
            yield pipeline
        finally:
            pipeline.close()


@dataclass
class _NodeWorker:
    """An actor, and the call that is under way."""

    node: str  # Ray's id of it
    host: str
    actor: Any
    call: Any = None
    report: WorkerReport | None = None  # once it has loaded the model
    decisions: list[tuple[int, bool]] = field(default_factory=list)


@dataclass
class _Node:
    """A node, and how its workers did."""

    host: str
    cpus: int  # for each worker
    gpus: int
    deaths: int = 0  # of workers, since a video was done
    reason: str = ""  # of the last

    @property
    def worker_count(self) -> int:
        """One for each GPU, or one that uses all processors."""
        return self.gpus or 1


class ClusterPipeline:
    """The pipeline of a cluster, on the machine that started the scan."""

    def __init__(
        self, cluster: RayCluster, pool: DecodePool, arguments: tuple[Any, ...], known_packets: Container[str]
    ) -> None:
        """`arguments`: of `ScanWorker.open`."""
        self.pool = pool
        self.profile = None  # the nodes work at the same time
        self._cluster = cluster
        self._arguments = arguments
        self._known_packets = known_packets
        self._requests: dict[int, VideoRequest] = {}
        self._made_by: dict[int, Provenance] = {}  # by job id
        self._shares: Counter[str] = Counter()  # windows by host
        self._nodes: dict[str, _Node] = {}
        self._workers: dict[str, _NodeWorker] = {}
        self._dispatcher = Dispatcher()
        self._next_look = 0.0
        self._names = itertools.count(1)
        self._news: list[PipelineEvent] = []

    # --- for the scan -----------------------------------------------------------------------------------------

    @property
    def computed_by(self) -> str:
        return f"cluster of {len(self._workers)}"

    @property
    def room(self) -> int:
        # twice what the workers have, so that each step of a worker finds videos
        return _QUEUED_PER_VIDEO * self._dispatcher.capacity - self._dispatcher.unfinished

    def wait_until_ready(self) -> None:
        self.wait_for_workers(1)

    def measure_speed(self) -> float | None:
        """As all workers would have it, if they were as fast as those that have measured it."""
        speeds = [worker.report.speed for worker in self._workers.values() if worker.report]
        return sum(speeds) / len(speeds) * len(self._workers) if speeds else None

    def submit(self, job_id: int, request: WindowsRequest) -> None:
        try:
            size_bytes = os.stat(request.path).st_size
        except OSError:
            size_bytes = -1  # no node can have the file that was planned
        self._requests[job_id] = VideoRequest(job_id, request, size_bytes)
        self._dispatcher.submit(job_id)

    def decode_anyway(self, job_id: int) -> None:
        self._decide(job_id, is_decoded=True)

    def skip(self, job_id: int) -> None:
        self._decide(job_id, is_decoded=False)

    def provenance(self, job_id: int) -> Provenance:
        return self._made_by[job_id]

    def shares(self) -> dict[str, int]:
        return dict(self._shares)

    def next_events(self) -> list[PipelineEvent]:
        events, self._news = self._news, []
        self.start_workers()
        for name, worker in self._workers.items():
            if worker.call is None:
                self._call(name, worker)
        calls = {worker.call: name for name, worker in self._workers.items()}
        if not calls:
            self._give_up_without_nodes()
            time.sleep(_POLL_S)
            return events
        for call in self._cluster.finished(list(calls), 0 if events else _POLL_S):
            events += self._take(calls[call])
        return events

    def wait_for_workers(self, count: int) -> None:
        """Wait until so many workers have loaded the model. Raises ClusterError if none can."""
        events: list[PipelineEvent] = []
        hint_at = time.monotonic() + _HINT_AFTER_S
        while sum(worker.report is not None for worker in self._workers.values()) < count:
            raise_if_interrupted()
            events += self.next_events()
            if time.monotonic() > hint_at:
                hint_at = math.inf
                _log.warning(
                    "waiting for the first node of the cluster: it loads the model, or is busy (`ray status` tells)"
                )
        self._news += events

    def close(self) -> None:
        """End all workers."""
        with suppress(ClusterError):  # without a connection, Ray ends them
            for worker in self._workers.values():
                self._cluster.kill(worker.actor)

    # --- nodes and workers ------------------------------------------------------------------------------------

    def start_workers(self) -> None:
        """Start workers on nodes that have fewer than they can: new nodes, and those whose worker died."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _NODES_EVERY_S
        for info in self._cluster.nodes():
            if not info.is_alive:
                if info.id in self._nodes:
                    self._nodes[info.id].deaths = _MAX_DEATHS
                continue
            if not info.cpus:  # a head that only directs
                continue
            cpus = max(1, info.cpus // max(1, info.gpus))
            node = self._nodes.setdefault(info.id, _Node(info.host, cpus, info.gpus))
            existing = sum(worker.node == info.id for worker in self._workers.values())
            if node.deaths < _MAX_DEATHS:
                for _ in range(node.worker_count - existing):
                    self._start_worker(info.id, node)

    def _start_worker(self, node_id: str, node: _Node) -> None:
        gpus = 1 if node.gpus else 0
        actor = self._cluster.start_actor(
            ScanWorker, node_id, cpus=node.cpus, gpus=gpus, arguments=(node.cpus,)
        )
        worker = _NodeWorker(node_id, node.host, actor, self._cluster.call(actor, "open", *self._arguments))
        self._workers[f"{node.host} {next(self._names)}"] = worker

    def _call(self, name: str, worker: _NodeWorker) -> None:
        """Begin the next step of a worker."""
        videos = [self._requests[job_id] for job_id in self._dispatcher.next_videos(name)]
        decisions, worker.decisions = worker.decisions, []
        worker.call = self._cluster.call(worker.actor, "step", videos, decisions)

    def _take(self, name: str) -> list[PipelineEvent]:
        """The events that a worker's call brought; that it is lost, if the call failed."""
        worker = self._workers[name]
        call, worker.call = worker.call, None
        try:
            result = self._cluster.result(call)
        except ActorError as error:
            return self._lose(name, worker, error.reason, is_death=error.is_death)
        if worker.report is None:
            return self._join(name, worker, result)
        return [e for event in result for e in self._handle(worker, event)]

    def _join(self, name: str, worker: _NodeWorker, report: WorkerReport) -> list[PipelineEvent]:
        """A worker has loaded the model, and takes videos from now on."""
        worker.report = report
        self._dispatcher.add_worker(name, worker.node, _VIDEOS_PER_PROCESS * self._nodes[worker.node].cpus)
        return [NodeJoined(worker.host, report.backend, report.device, report.precision)]

    def _lose(self, name: str, worker: _NodeWorker, reason: str, *, is_death: bool) -> list[PipelineEvent]:
        """A worker died, or its model failed: its videos go to others."""
        del self._workers[name]
        self._cluster.kill(worker.actor)  # it may be cut off and alive
        node = self._nodes[worker.node]
        node.deaths, node.reason = node.deaths + 1, reason
        if worker.report is None:
            if not is_death:  # it would not load the model another time, either
                node.deaths = _MAX_DEATHS
            return [NodeLost(worker.host, 0, reason, has_joined=False)] if node.deaths >= _MAX_DEATHS else []
        loss = self._dispatcher.lose_worker(name, is_death=is_death)
        if loss.given_up:  # it was not the node's fault
            node.deaths = 0
        return [
            NodeLost(worker.host, len(loss.restarted) + len(loss.given_up), reason),
            *(VideoRestarted(job_id) for job_id in loss.restarted),
            *(DecodeFailed(job_id, text, crashed=True) for job_id, text in loss.given_up),
        ]

    def _give_up_without_nodes(self) -> None:
        """Raise ClusterError if no worker is left and no node can start another."""
        if not self._nodes:
            raise ClusterError("the cluster has no node with a processor: `ray status` shows its nodes")
        if all(node.deaths >= _MAX_DEATHS for node in self._nodes.values()):
            reasons = sorted({f"{node.host}: {node.reason}" for node in self._nodes.values()})
            raise ClusterError(f"no node of the cluster can work: {'; '.join(reasons[:_MAX_LISTED])}")

    # --- videos -----------------------------------------------------------------------------------------------

    def _decide(self, job_id: int, *, is_decoded: bool) -> None:
        if (name := self._dispatcher.worker_of(job_id)) is not None:
            self._workers[name].decisions.append((job_id, is_decoded))

    def _handle(self, worker: _NodeWorker, event: PipelineEvent) -> Iterator[PipelineEvent]:
        """What the scan gets of a worker's event."""
        if isinstance(event, WindowFeatures):
            self._shares[worker.host] += 1
        elif isinstance(event, FingerprintReady) and event.fingerprint.packets not in self._known_packets:
            worker.decisions.append((event.job_id, True))
            event = replace(event, needs_decision=False)
        elif isinstance(event, DecodeFailed):
            reason = self._dispatcher.fail(event.job_id, event.reason)
            event = VideoRestarted(event.job_id) if reason is None else replace(event, reason=reason)
        elif isinstance(event, DecodeDone | DecodeSkipped):
            self._dispatcher.finish(event.job_id)
            self._nodes[worker.node].deaths = 0
            assert worker.report is not None
            self._made_by[event.job_id] = Provenance(
                worker.report.backend, worker.report.device, worker.report.precision
            )
        yield event
