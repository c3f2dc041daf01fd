"""The scan: discovers, plans, decodes, looks and keeps; yields events and prints nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vtag.engine.backends.base import Backend, open_backend
from vtag.engine.discover import Discovery, Found, discover
from vtag.engine.errors import LibraryError, ModelError
from vtag.engine.estimate import Lengths, measured_speed
from vtag.engine.events import Event, Finished, Planned, Progress, Running, VideoDone, VideoFailed
from vtag.engine.ignore import Only
from vtag.engine.library import derive, files, heads, observations, runs
from vtag.engine.library.database import Library, now
from vtag.engine.library.twins import looks_like, packets_keys
from vtag.engine.plan import Plan, Task, make_plan
from vtag.engine.swin.checkpoints import Checkpoint
from vtag.engine.swin.spec import ModelSpec
from vtag.engine.video.packets import UNKNOWN, Fingerprint
from vtag.engine.video.pool import ClipReady, DecodePool, VideoOpened
from vtag.engine.video.pool import Event as PoolEvent
from vtag.engine.video.pool import VideoDone as Decoded
from vtag.engine.video.pool import VideoFailed as Undecoded
from vtag.engine.video.probe import VideoInfo
from vtag.engine.video.sampling import Sampling

# Clips in shared memory at one time; a clip of the published models is 4.8 MB
_DECODE_MEMORY_BYTES = 256 * 2**20
_BATCH = {"cuda": 16}  # clips a call; on a CPU more than two gain nothing and cost their memory
_CPU_BATCH = 2
_TELLING_MS = 30_000  # so much video has to be looked at before its speed tells anything
_REPORT_EVERY_S = 1.0  # a row that others read needs no more


@dataclass(frozen=True)
class ScanOptions:
    """How to look; what is None or "auto" is decided by the model and the machine."""

    backend: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    stride_s: float | None = None
    view: str = "center"
    threshold: float | Literal["auto"] | None = None  # auto: the model's own again
    force: bool = False
    retry_failed: bool = False
    dry_run: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    leave: Callable[[Found], bool] = lambda _: False  # files that are not to be read yet
    watching: bool = False  # a scan that finds nothing to do is not worth a row in `runs`


def sampling_of(spec: ModelSpec, options: ScanOptions) -> Sampling:
    """Which instants and pixels a scan with `options` looks at for a model. Raises ModelError."""
    try:
        return Sampling.of(
            spec.frames,
            spec.rate,
            stride_s=options.stride_s,
            view=options.view,
            short_side=spec.short_side,
            crop=spec.crop,
        )
    except ValueError as error:
        raise ModelError(str(error)) from error


def scan(
    library: Library, paths: list[bytes], checkpoint: Checkpoint, options: ScanOptions
) -> Iterator[Event]:
    """Look at all videos below `paths` that the library has not seen with this backbone and sampling.

    `checkpoint` has to be remembered by the library (`choice.remember`). Each video is one transaction: what an
    interruption leaves is whole. Raises VtagError where the scan as such cannot run; a video that cannot be read
    is an event.
    """
    started = time.monotonic()
    spec = checkpoint.spec
    sampling = sampling_of(spec, options)
    found = discover(paths, Only(options.include, options.exclude), options.leave)
    plan = make_plan(
        library,
        found,
        backbone_hash=spec.backbone_hash,
        sampling_key=sampling.key(),
        force=options.force,
        retry_failed=options.retry_failed,
        record=not options.dry_run,
    )
    if options.dry_run:
        yield _only_planned(library, plan, found, checkpoint, options)
        yield _nothing_done(plan, found, started)
        return
    running = _Scan(library, checkpoint, options, sampling, plan, found, started)
    if plan.tasks or not options.watching:
        running.run_id = runs.start(library, "scan", b" ".join(paths).decode("utf-8", "backslashreplace"))
    state = "failed"
    try:
        yield from running.run()
        state = "done"
    except (KeyboardInterrupt, GeneratorExit):
        state = "interrupted"
        raise
    finally:
        running.report()
        runs.finish(library, running.run_id, state)
    yield running.sum()  # when the row says so, too: whoever asked may stop listening here


@dataclass
class _Look:
    """The features of one video while its windows come in."""

    task: Task
    windows: list[tuple[int, int]] = field(default_factory=list)
    features: list[NDArray[np.float32]] = field(default_factory=list)
    known_by: Fingerprint = UNKNOWN
    decoded: Decoded | None = None
    waiting: int = 0  # clips that the model has not seen yet


class _Scan:
    """One scan while it runs: clips in, features out, videos kept as they are complete."""

    def __init__(
        self,
        library: Library,
        checkpoint: Checkpoint,
        options: ScanOptions,
        sampling: Sampling,
        plan: Plan,
        found: Discovery,
        started: float,
    ) -> None:
        self._library = library
        self._checkpoint = checkpoint
        self._options = options
        self._sampling = sampling
        self._plan = plan
        self._found = found
        self.run_id = 0  # its row, once it has one
        self._started = started
        spec = checkpoint.spec
        model_id = heads.with_hashes(library, spec.backbone_hash, spec.head_hash)
        if options.threshold is not None:
            told = None if options.threshold == "auto" else options.threshold
            heads.tell_threshold(library, model_id, told)
        heads.use_model(library, model_id)
        self._head = heads.head(library, model_id)
        self._rules = derive.rules_for(library, self._head)
        self._backend: Backend | None = None
        self._recognise: set[str] = set()
        self._looks: dict[int, _Look] = {}
        self._queues: dict[tuple[int, ...], list[tuple[int, ClipReady]]] = {}
        self._failed: list[VideoFailed] = list(plan.unreadable)
        self._reported = 0.0
        self._lengths = Lengths(plan.tasks)
        self._done = self._scanned = self._windows = self._video_ms = self._moments = 0

    def run(self) -> Iterator[Event]:
        done = derive.up_to_date(self._library, self._head, self._rules, self._sampling.key())
        for content_id in self._plan.known:
            if content_id not in done:
                derive.derive(self._library, content_id, self._head, self._rules, self._sampling.key())
        files.add_roots(self._library, self._found.roots)
        files.mark_missing(self._library, self._found.roots, {f.path for f in self._found.files})
        if self._plan.tasks:
            yield from self._look_at_all()
        else:
            yield _planned(self._plan, self._found, 0, None)

    def sum(self) -> Finished:
        """What came of it."""
        return Finished(
            scanned=self._scanned,
            skipped=self._plan.skipped,
            known_failed=self._plan.known_failed,
            failed=tuple(self._failed),
            windows=self._windows,
            video_ms=self._video_ms,
            wall_s=time.monotonic() - self._started,
            moments=self._moments,
            left_out=tuple(self._found.left_out),
        )

    def report(self) -> None:
        """Write how far it has come into its row, where other processes read it."""
        self._reported = time.monotonic()
        done = self._how_far()
        told: dict[str, object] = {
            "videos": done.videos_done,
            "of": len(self._plan.tasks),
            "video_ms": done.video_ms_done,
            "of_ms": done.video_ms,
        }
        runs.report(self._library, self.run_id, told)

    def _look_at_all(self) -> Iterator[Event]:
        o = self._options
        backend = open_backend(self._checkpoint, backend=o.backend, device=o.device, precision=o.precision)
        self._backend = backend
        yield Running(backend.spec.name, backend.name, backend.device, backend.precision)
        looked_by = _looked_by(backend.spec, self._sampling, backend)
        self._recognise = set() if o.force else packets_keys(self._library)
        with DecodePool(
            workers=os.cpu_count() or 1, memory_bytes=_DECODE_MEMORY_BYTES, recognise=self._recognise
        ) as pool:
            self._lengths.ask(pool)
            speed = runs.speed(self._library, looked_by) or measured_speed(
                backend, self._sampling, _clips_at_once(backend, self._sampling.views)
            )
            self._lengths.wait(pool)
            yield _planned(self._plan, self._found, self._lengths.total_ms, speed)
            began = time.monotonic()
            for job_id, task in enumerate(self._plan.tasks):
                self._looks[job_id] = _Look(task)
                pool.submit(job_id, task.files[0].path, self._sampling)
            for event in pool:
                if isinstance(event, VideoOpened):
                    self._opened(event, pool)
                else:
                    yield from self._hear(event)
                if not self._looks:
                    break
        passed_s = time.monotonic() - began
        if self._video_ms > _TELLING_MS and passed_s:
            runs.remember_speed(self._library, looked_by, self._video_ms / 1000 / passed_s)

    def _hear(self, event: PoolEvent) -> Iterator[Event]:
        if isinstance(event, ClipReady):
            yield from self._take(event)
        elif self._lengths.hear(event):
            pass
        elif isinstance(event, Decoded):
            yield from self._decoded(event)
        elif isinstance(event, Undecoded):
            yield self._fail(event.job_id, event.reason)

    def _opened(self, event: VideoOpened, pool: DecodePool) -> None:
        look = self._looks[event.job_id]
        look.known_by = event.known_by
        if event.asks and self._was_seen(look.task, event):
            del self._looks[event.job_id]
            self._done += 1
            self._lengths.drop(event.job_id)
            self._plan.skipped += len(look.task.files)
            pool.leave(event.job_id)
        elif event.asks:
            pool.go_on(event.job_id)

    def _was_seen(self, task: Task, event: VideoOpened) -> bool:
        """Whether it was seen already, in another container; then what was seen is kept for this one, too."""
        seen_as = looks_like(
            self._library,
            *event.known_by,
            event.info.duration_ms,
            self._head.backbone_hash,
            self._sampling.key(),
        )
        if seen_as is None or _changed(task.files[0]):
            return False
        observations.copy(self._library, seen_as, task.content_key)
        with self._library.transaction():
            facts = {**_facts(event.info, event.known_by), "error": None, "error_at": None}
            content_id = self._record(task, facts)
            derive.derive(self._library, content_id, self._head, self._rules, self._sampling.key())
        return True

    def _take(self, clip: ClipReady) -> Iterator[Event]:
        look = self._looks.get(clip.job_id)
        if look is None:
            clip.release()
            return
        look.waiting += 1
        queue = self._queues.setdefault(clip.pixels.shape, [])
        queue.append((clip.job_id, clip))
        assert self._backend is not None
        if len(queue) >= _clips_at_once(self._backend, clip.pixels.shape[0]):
            yield from self._see(clip.pixels.shape)

    def _decoded(self, event: Decoded) -> Iterator[Event]:
        look = self._looks.get(event.job_id)
        if look is None:
            return
        look.decoded = event
        self._lengths.learn(event.job_id, event.info.duration_ms)
        # the last clips of a video do not wait for those of another
        for shape in [s for s, queue in self._queues.items() if any(job == event.job_id for job, _ in queue)]:
            yield from self._see(shape)
        yield from self._keep_if_complete(event.job_id)

    def _see(self, shape: tuple[int, ...]) -> Iterator[Event]:
        """Run the model on all waiting clips [V, T, H, W, 3] of one shape."""
        queue = self._queues.pop(shape)
        assert self._backend is not None
        clips = np.concatenate([clip.pixels for _, clip in queue])
        spans = [(job, clip.start_ms, clip.end_ms) for job, clip in queue]
        for _, clip in queue:
            clip.release()
        features = self._backend.run(clips).features.reshape(len(queue), shape[0], -1)
        for (job, start, end), seen in zip(spans, features, strict=True):
            if look := self._looks.get(job):
                look.windows.append((start, end))
                look.features.append(seen)
                look.waiting -= 1
        self._windows += len(queue)
        for job in dict.fromkeys(job for job, _, _ in spans):
            yield from self._keep_if_complete(job)
        yield self._progress()

    def _keep_if_complete(self, job_id: int) -> Iterator[Event]:
        look = self._looks.get(job_id)
        if look is None or look.decoded is None or look.waiting:
            return
        if not look.windows:
            yield self._fail(job_id, "no usable picture")
            return
        if _changed(look.task.files[0]):  # then what was seen belongs to no content
            yield self._leave(job_id, "it changed while it was read: scan it again when it rests")
            return
        try:
            yield self._keep(job_id)
        except LibraryError as error:
            yield self._leave(job_id, str(error))
        yield self._progress()

    def _leave(self, job_id: int, reason: str) -> VideoFailed:
        """Go on without a video. By itself this writes nothing down: the next scan tries it again."""
        look = self._looks.pop(job_id)
        self._lengths.drop(job_id)
        self._done += 1
        failures = [VideoFailed(found.path, reason) for found in look.task.files]
        self._failed += failures
        return failures[0]

    def _keep(self, job_id: int) -> VideoDone:
        look = self._looks[job_id]
        assert look.decoded is not None and self._backend is not None
        decoded, backend = look.decoded, self._backend
        observations.add(
            self._library,
            look.task.content_key,
            self._head.backbone_hash,
            self._sampling.key(),
            np.array(look.windows, np.int64),
            np.stack(look.features),
            observations.MadeBy(backend.name, backend.device, backend.precision),
            replace=self._options.force,
        )
        with self._library.transaction():
            facts = {**_facts(decoded.info, look.known_by), "note": decoded.note or None}
            content_id = self._record(look.task, {**facts, "error": None, "error_at": None})
            moments = derive.derive(
                self._library, content_id, self._head, self._rules, self._sampling.key(), force=True
            )
        del self._looks[job_id]
        if not self._options.force:
            self._recognise.add(look.known_by.packets)
        self._done += 1
        self._scanned += 1
        duration_ms = decoded.info.duration_ms
        self._video_ms += duration_ms
        self._moments += moments
        return VideoDone(look.task.files[0].path, len(look.windows), duration_ms, moments, decoded.note)

    def _fail(self, job_id: int, reason: str) -> VideoFailed:
        with self._library.transaction():
            self._record(self._looks[job_id].task, {"error": reason, "error_at": now()})
        return self._leave(job_id, reason)

    def _record(self, task: Task, facts: dict[str, object]) -> int:
        content_id = files.keep_content(self._library, task.content_key, facts)
        for found in task.files:
            files.record_file(self._library, self._plan.volumes.of(found.path), found, content_id)
        return content_id

    def _progress(self) -> Progress:
        if time.monotonic() - self._reported > _REPORT_EVERY_S:
            self.report()
        return self._how_far()

    def _how_far(self) -> Progress:
        stride = self._sampling.stride_ms
        under_way = sum(min(stride, end - start) for k in self._looks.values() for start, end in k.windows)
        return Progress(self._done, self._video_ms + under_way, self._windows, self._lengths.total_ms)


def _facts(info: VideoInfo, known_by: Fingerprint) -> dict[str, object]:
    """The columns of a content that opening it told."""
    columns = ("duration_ms", "width", "height", "frame_rate", "codec", "container", "recorded_at")
    return {
        "packets_key": known_by.packets or None,
        "shown_as": known_by.shown_as,
        **{name: getattr(info, name) for name in columns},
    }


def _changed(found: Found) -> bool:
    try:
        info = os.stat(found.path)
    except OSError:
        return True
    return (info.st_size, info.st_mtime_ns) != (found.size_bytes, found.mtime_ns)


def _planned(plan: Plan, found: Discovery, video_ms: int, speed: float | None) -> Planned:
    """`speed` is in seconds of video a second."""
    return Planned(
        videos=len(plan.tasks),
        video_ms=video_ms,
        skipped=plan.skipped,
        known_failed=plan.known_failed,
        left_out=len(found.left_out),
        estimate_s=video_ms / 1000 / speed if video_ms and speed else None,
    )


def _only_planned(
    library: Library, plan: Plan, found: Discovery, checkpoint: Checkpoint, o: ScanOptions
) -> Planned:
    """What there is to do where it will not be done; a model whose speed nobody knows is timed on blank clips."""
    lengths, speed = Lengths(plan.tasks), None
    if plan.tasks:
        sampling = sampling_of(checkpoint.spec, o)
        speed = runs.speed(library, _looked_by(checkpoint.spec, sampling))
        with DecodePool(workers=os.cpu_count() or 1, memory_bytes=_DECODE_MEMORY_BYTES) as pool:
            lengths.ask(pool)
            if speed is None:
                backend = open_backend(checkpoint, backend=o.backend, device=o.device, precision=o.precision)
                speed = measured_speed(backend, sampling, _clips_at_once(backend, sampling.views))
            lengths.wait(pool)
    return _planned(plan, found, lengths.total_ms, speed)


def _clips_at_once(backend: Backend, views: int) -> int:
    """How many clips of so many views a call of the model takes."""
    return max(1, _BATCH.get(backend.device.split(":")[0], _CPU_BATCH) // views)


def _looked_by(spec: ModelSpec, sampling: Sampling, backend: Backend | None = None) -> str:
    """What a speed holds for; without a backend, its beginning."""
    where = f"{backend.name} {backend.device} {backend.precision}" if backend else ""
    return f"{spec.backbone_hash} {sampling.key()} {where}"


def _nothing_done(plan: Plan, found: Discovery, started: float) -> Finished:
    return Finished(
        scanned=0,
        skipped=plan.skipped,
        known_failed=plan.known_failed,
        failed=tuple(plan.unreadable),
        windows=0,
        video_ms=0,
        wall_s=time.monotonic() - started,
        left_out=tuple(found.left_out),
    )
