"""One scan while it runs: clips in, features out, videos kept as they are complete; pass after pass."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vtag.engine.backends.factory import open_backend
from vtag.engine.backends.protocol import MOST_LANES, Backend
from vtag.engine.checkpoints.load import Checkpoint
from vtag.engine.errors import LibraryError
from vtag.engine.library.analysis import derive
from vtag.engine.library.database import Library, now
from vtag.engine.library.store import coverage, files, heads, observations, runs
from vtag.engine.library.store.duplicates import find_duplicate, packets_keys
from vtag.engine.library.store.file_stat import file_stat
from vtag.engine.scan.discover import Discovery, Found
from vtag.engine.scan.estimate import Lengths, measured_speed
from vtag.engine.scan.events import (
    Event,
    Finished,
    PassDone,
    Planned,
    Progress,
    Running,
    VideoDone,
    VideoFailed,
)
from vtag.engine.scan.inference_thread import ModelThread, Seen
from vtag.engine.scan.passes import COARSE_FROM_MS, PASSES, starts_of
from vtag.engine.scan.plan import Plan, Task
from vtag.engine.swin.config import ModelSpec
from vtag.engine.system import signals
from vtag.engine.system.clock import active_seconds
from vtag.engine.video.decode.messages import (
    ClipReady,
    DecodeDone,
    DecodeEvent,
    DecodeFailed,
    FingerprintReady,
    WindowsRequest,
)
from vtag.engine.video.decode.pool import DecodePool
from vtag.engine.video.read.change_detector import ChangeDetector
from vtag.engine.video.read.fingerprint import NO_FINGERPRINT, Fingerprint
from vtag.engine.video.read.probe import VideoInfo
from vtag.engine.video.read.sampling import Sampling

# Clips in shared memory at one time; a clip of the published models is 4.8 MB
DECODE_MEMORY_BYTES = 256 * 2**20
_BATCH = {"cuda": 16}  # clips a call; on a processor as many as it has lanes
_POLL_S = 0.05  # while the model works, so often is looked for what it saw
_TICK_S = 1.0  # so soon is an interruption heard that got lost
_NICE = 10
_TELLING_MS = 30_000  # so much video has to be looked at before its speed tells anything
_REPORT_EVERY_S = 1.0  # a row that others read needs no more


@dataclass(frozen=True)
class ScanOptions:
    """How to look; what is None or "auto" is decided by the model and the machine."""

    backend: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    stride_s: float | None = None
    view: str | None = None
    threshold: float | Literal["auto"] | None = None  # auto: the model's own again
    force: bool = False
    retry_failed: bool = False
    dry_run: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    leave: Callable[[Found], bool] = lambda _: False  # files that are not to be read yet
    watching: bool = False  # a scan that finds nothing to do is not worth a row in `runs`
    effort: str = "normal"  # fast, normal, thorough: the stride and view where none are told
    passes: int | None = None  # stop after so many; None: all, coarse ones first where there is much
    skip_static: bool = False
    nice: bool = False  # on a processor, let everything else go before


@dataclass
class _Look:
    """The features of one video while its windows come in."""

    task: Task
    whole: bool  # this pass looks at all that was not seen yet
    windows: list[tuple[int, int]] = field(default_factory=list)
    features: list[NDArray[np.float32]] = field(default_factory=list)
    known_by: Fingerprint = NO_FINGERPRINT
    decoded: DecodeDone | None = None
    waiting: int = 0  # clips that the model has not seen yet
    stillness: ChangeDetector = field(default_factory=ChangeDetector)


class Looking:
    """A scan under way."""

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
        model_id = heads.find_model_by_hashes(library, spec.backbone_hash, spec.head_hash)
        if model_id is None:
            raise LibraryError("the library was not told of this model")
        if options.threshold is not None:
            told = None if options.threshold == "auto" else options.threshold
            heads.set_model_threshold(library, model_id, told)
        heads.use_model(library, model_id)
        self._head = heads.load_head(library, model_id)
        self._active_heads = derive.ActiveHeads(library, self._head)
        self._backend: Backend | None = None
        self._model: ModelThread | None = None
        self._recognise: set[str] = set()
        self._looks: dict[int, _Look] = {}
        self._open = set(range(len(plan.tasks)))  # jobs that are not seen whole
        self._stored: set[int] = set()  # jobs of which something was kept
        self._gone: set[int] = set()  # jobs that failed
        key = sampling.key()
        self._before = [
            observations.window_starts(library, task.content_key, spec.backbone_hash, key)
            if task.begun
            else frozenset[int]()
            for task in plan.tasks
        ]
        self._known = list(self._before)  # where the windows begin that were seen of each
        self._covered: dict[int, int] = {}  # ms of each that this scan saw
        self._moments: dict[int, int] = {}
        self._failed: list[VideoFailed] = list(plan.unreadable)
        self._reported = 0.0
        self._began = 0.0  # when the model got its first window to look at
        self._lengths = Lengths(plan.tasks)
        self._windows = self._seen_ms = 0
        self._store_s = self._looking_s = 0.0
        self._decode_s = _children_s()

    def run(self) -> Iterator[Event]:
        self._active_heads.derive_outdated(self._plan.known, self._sampling.key())
        files.add_roots(self._library, self._found.roots)
        files.mark_missing(self._library, self._found.roots, {f.path for f in self._found.files})
        if self._plan.tasks:
            yield from self._look_at_all()
        else:
            yield planned(self._plan, self._found, 0, None)

    def sum(self) -> Finished:
        """What came of it."""
        profile = self._model.profile if self._model else None
        if profile:
            profile.store_s, profile.decode_s = self._store_s, self._decode_s
            profile.wall_s = self._looking_s
        return Finished(
            scanned=len(self._stored),
            skipped=self._plan.skipped,
            known_failed=self._plan.known_failed,
            failed=tuple(self._failed),
            windows=self._windows,
            video_ms=self._seen_ms,
            wall_s=active_seconds() - self._started,
            moments=sum(self._moments.values()),
            left_out=tuple(self._found.left_out),
            unfinished=len(self._stored & self._open),
            profile=profile,
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
            "worked_s": active_seconds() - self._began if self._began else 0.0,
        }
        runs.report(self._library, self.run_id, told)

    def _look_at_all(self) -> Iterator[Event]:
        o = self._options
        backend = opened(self._checkpoint, o, self._sampling)
        self._backend = backend
        if o.nice and backend.device == "cpu" and hasattr(os, "nice"):
            os.nice(_NICE)
        yield Running(backend.spec.name, backend.name, backend.device, backend.precision)
        by = looked_by(backend.spec, self._sampling, backend)
        at_once = views_at_once(backend)
        self._recognise = set() if o.force else packets_keys(self._library)
        with (
            DecodePool(
                workers=os.cpu_count() or 1, memory_bytes=DECODE_MEMORY_BYTES, known_packets=self._recognise
            ) as pool,
            ModelThread(backend, at_once) as self._model,
        ):
            self._lengths.ask(pool)
            speed = runs.last_speed(self._library, by) or measured_speed(
                backend, self._sampling, max(1, at_once // self._sampling.view_count)
            )
            self._lengths.wait(pool)
            yield planned(self._plan, self._found, self._lengths.total_ms, speed)
            self._began = active_seconds()
            yield from self._pass_by_pass(pool)
            self._looking_s = active_seconds() - self._began
        self._decode_s = _children_s() - self._decode_s
        if self._seen_ms > _TELLING_MS and self._looking_s:
            runs.save_speed(self._library, by, self._seen_ms / 1000 / self._looking_s)

    def _pass_by_pass(self, pool: DecodePool) -> Iterator[Event]:
        coarse = self._options.passes or self._lengths.total_ms >= COARSE_FROM_MS
        numbers = range(1, min(self._options.passes or PASSES, PASSES) + 1) if coarse else (PASSES,)
        for number in numbers:
            yield from self._pass(pool, number)
            if len(numbers) > 1 and number < numbers[-1]:
                yield PassDone(number, len(numbers), self._seen_ms)

    def _pass(self, pool: DecodePool, number: int) -> Iterator[Event]:
        """Look at the windows that this pass adds, of all videos that are not seen whole."""
        for job_id in sorted(self._open):
            task, known = self._plan.tasks[job_id], self._known[job_id]
            starts = starts_of(number, task.duration_ms or self._lengths.of(job_id), self._sampling)
            if starts is None or not starts <= known:
                self._looks[job_id] = _Look(task, whole=starts is None)
                pool.submit(job_id, WindowsRequest(task.files[0].path, self._sampling, known, starts))
        assert self._model
        while self._looks:
            signals.raise_if_interrupted()
            if pool.unfinished:
                event = pool.next_event(_POLL_S if self._model.unseen else _TICK_S)
                if isinstance(event, FingerprintReady):
                    yield from self._opened(event, pool)
                elif event is not None:
                    yield from self._hear(event)
            yield from self._saw(self._model.take(0 if pool.unfinished else 1))

    def _hear(self, event: DecodeEvent) -> Iterator[Event]:
        if isinstance(event, ClipReady):
            self._take(event)
        elif self._lengths.hear(event):
            pass
        elif isinstance(event, DecodeDone):
            look = self._looks[event.job_id]
            look.decoded = event
            look.task.duration_ms = event.info.duration_ms
            self._learn_length(event.job_id, event.info)
            yield from self._keep_if_complete(event.job_id)
        elif isinstance(event, DecodeFailed) and event.job_id in self._looks:  # not one that was recognised
            yield from self._fail(event.job_id, event.reason)

    def _opened(self, event: FingerprintReady, pool: DecodePool) -> Iterator[Event]:
        look = self._looks[event.job_id]
        look.known_by = event.fingerprint
        self._learn_length(event.job_id, event.info)
        if event.needs_decision and not self._known[event.job_id] and self._was_seen(look.task, event):
            del self._looks[event.job_id]
            self._open.discard(event.job_id)
            self._gone.add(event.job_id)
            self._lengths.drop(event.job_id)
            self._plan.skipped += len(look.task.files)
            pool.skip(event.job_id)
            yield self._progress()
        elif event.needs_decision:
            pool.decode_anyway(event.job_id)

    def _was_seen(self, task: Task, event: FingerprintReady) -> bool:
        """Whether it was seen already, in another container; then what was seen is kept for this one, too."""
        backbone, sampling = self._head.backbone_hash, self._sampling.key()
        seen_as = find_duplicate(
            self._library, *event.fingerprint, event.info.duration_ms, backbone, sampling
        )
        if seen_as is None or _changed(task.files[0]):
            return False
        twin = files.find_content(self._library, seen_as)
        if twin is None or twin.id in coverage.partial_contents(self._library, backbone, sampling):
            return False
        observations.copy(self._library, seen_as, task.content_key)
        with self._library.transaction():
            facts = {**_facts(event.info, event.fingerprint), "error": None, "error_at": None}
            content_id = self._record(task, facts)
            self._active_heads.derive_segments(content_id, sampling)
        return True

    def _take(self, clip: ClipReady) -> None:
        look = self._looks.get(clip.job_id)
        if look is None or (self._options.skip_static and not look.stillness.has_change(clip.pixels)):
            clip.release()
            return
        assert self._model
        look.waiting += 1
        self._model.put(clip)

    def _saw(self, seen: list[Seen]) -> Iterator[Event]:
        """What the model saw of some windows, of whatever videos."""
        for window in seen:
            if look := self._looks.get(window.job_id):
                look.windows.append((window.start_ms, window.end_ms))
                look.features.append(window.features)
                look.waiting -= 1
                self._cover(window.job_id, min(self._sampling.stride_ms, window.end_ms - window.start_ms))
        self._windows += len(seen)
        for job_id in dict.fromkeys(window.job_id for window in seen):
            yield from self._keep_if_complete(job_id)
        if seen:
            yield self._progress()

    def _cover(self, job_id: int, ms: int) -> None:
        self._covered[job_id] = self._covered.get(job_id, 0) + ms
        self._seen_ms += ms

    def _learn_length(self, job_id: int, info: VideoInfo) -> None:
        self._lengths.learn(job_id, info.duration_ms - self._known_ms(job_id))

    def _known_ms(self, job_id: int) -> int:
        """What earlier scans saw of a video."""
        return len(self._before[job_id]) * self._sampling.stride_ms

    def _keep_if_complete(self, job_id: int) -> Iterator[Event]:
        look = self._looks.get(job_id)
        if look is None or look.decoded is None or look.waiting:
            return
        if not look.windows and not self._known[job_id]:
            if look.whole:
                yield from self._fail(job_id, "no usable picture")
            else:  # its length was a lie: the last pass looks at all there is
                del self._looks[job_id]
            return
        if _changed(look.task.files[0]):  # then what was seen belongs to no content
            yield from self._leave(job_id, "it changed while it was read: scan it again when it rests")
            return
        try:
            yield from self._keep(job_id)
        except LibraryError as error:
            yield from self._leave(job_id, str(error))
        else:
            yield self._progress()

    def _leave(self, job_id: int, reason: str) -> Iterator[Event]:
        """Go on without a video. By itself this writes nothing down: the next scan tries it again."""
        look = self._looks.pop(job_id)
        self._open.discard(job_id)
        self._gone.add(job_id)
        self._lengths.drop(job_id)
        failures = [VideoFailed(found.path, reason) for found in look.task.files]
        self._failed += failures
        yield failures[0]
        yield self._progress()

    def _keep(self, job_id: int) -> Iterator[Event]:
        began = active_seconds()
        look = self._looks[job_id]
        assert look.decoded is not None
        info, note = look.decoded.info, look.decoded.note
        if look.windows:
            self._keep_windows(look, replace=self._options.force and job_id not in self._stored)
            self._known[job_id] |= {start for start, _ in look.windows}
        with self._library.transaction():
            facts = {**_facts(info, look.known_by), "note": note or None}
            content_id = self._record(look.task, {**facts, "error": None, "error_at": None})
            self._keep_how_far(content_id, look, len(self._known[job_id]))
            self._moments[job_id] = self._active_heads.derive_segments(
                content_id, self._sampling.key(), force=True
            )
        del self._looks[job_id]
        self._stored.add(job_id)
        self._store_s += active_seconds() - began
        if look.whole:
            self._open.discard(job_id)
            if not self._options.force:
                self._recognise.add(look.known_by.packets)
            # windows may overlap, and leave the last half of one unseen
            left_ms = info.duration_ms - self._known_ms(job_id) - self._covered.get(job_id, 0)
            self._cover(job_id, left_ms)
            windows, moments = len(self._known[job_id]), self._moments[job_id]
            yield VideoDone(look.task.files[0].path, windows, info.duration_ms, moments, note)

    def _keep_windows(self, look: _Look, *, replace: bool) -> None:
        assert self._backend is not None
        observations.add(
            self._library,
            look.task.content_key,
            self._head.backbone_hash,
            self._sampling.key(),
            np.array(look.windows, np.int64),
            np.stack(look.features),
            observations.Provenance(self._backend.name, self._backend.device, self._backend.precision),
            replace=replace,
        )

    def _keep_how_far(self, content_id: int, look: _Look, windows: int) -> None:
        assert look.decoded is not None
        where = content_id, self._head.backbone_hash, self._sampling.key()
        if look.whole:
            coverage.mark_complete(self._library, *where)
        else:
            seen_ms = windows * self._sampling.stride_ms
            coverage.mark_partial(self._library, *where, seen_ms, look.decoded.info.duration_ms)

    def _fail(self, job_id: int, reason: str) -> Iterator[Event]:
        with self._library.transaction():
            self._record(self._looks[job_id].task, {"error": reason, "error_at": now()})
        yield from self._leave(job_id, reason)

    def _record(self, task: Task, facts: dict[str, object]) -> int:
        content_id = files.save_content(self._library, task.content_key, facts)
        for found in task.files:
            files.save_file(self._library, self._plan.volumes.volume_of(found.path), found, content_id)
        return content_id

    def _progress(self) -> Progress:
        if time.monotonic() - self._reported > _REPORT_EVERY_S:
            self.report()
        return self._how_far()

    def _how_far(self) -> Progress:
        videos = len(self._stored | self._gone)
        return Progress(videos, self._seen_ms, self._windows, self._lengths.total_ms)


def opened(checkpoint: Checkpoint, options: ScanOptions, sampling: Sampling) -> Backend:
    """The backend that a scan with `options` runs. Raises ModelError."""
    return open_backend(
        checkpoint,
        backend=options.backend,
        device=options.device,
        precision=options.precision,
        sizes_vary=sampling.view == "full",
    )


def views_at_once(backend: Backend) -> int:
    """How many clips a call of the model takes; a clip of three crops counts for three."""
    return _BATCH.get(backend.device.split(":")[0], min(os.cpu_count() or 1, MOST_LANES))


def _children_s() -> float:
    """Processor time of the child processes that have ended; 0 where the system does not tell."""
    times = os.times()
    return times.children_user + times.children_system


def _facts(info: VideoInfo, known_by: Fingerprint) -> dict[str, object]:
    """The columns of a content that opening it told."""
    columns = ("duration_ms", "width", "height", "frame_rate", "codec", "container", "recorded_at")
    return {
        "packets_key": known_by.packets or None,
        "shown_as": known_by.appearance,
        **{name: getattr(info, name) for name in columns},
    }


def _changed(found: Found) -> bool:
    try:
        current = file_stat(os.stat(found.path))
    except OSError:
        return True
    return (current.size_bytes, current.mtime_ns) != (found.size_bytes, found.mtime_ns)


def planned(plan: Plan, found: Discovery, video_ms: int, speed: float | None) -> Planned:
    """`speed` is in seconds of video a second."""
    return Planned(
        videos=len(plan.tasks),
        video_ms=video_ms,
        skipped=plan.skipped,
        known_failed=plan.known_failed,
        left_out=len(found.left_out),
        estimate_s=video_ms / 1000 / speed if video_ms and speed else None,
    )


def looked_by(spec: ModelSpec, sampling: Sampling, backend: Backend | None = None) -> str:
    """What a speed holds for; without a backend, its beginning."""
    where = f"{backend.name} {backend.device} {backend.precision}" if backend else ""
    return f"{spec.backbone_hash} {sampling.key()} {where}"
