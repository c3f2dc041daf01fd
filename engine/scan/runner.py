"""Runs a scan. The path of a video, from its file to the library:

1. `_submit_videos`: as the pipeline has room, it gets the next video that no other scan has under way: the file, and
   the windows that the pass scans.
2. `_handle_opened`: the pipeline opened the file. If the library has the same pictures in another container, their
   features are copied, and the video is done.
3. `_add_features`: the pipeline decoded windows and computed their features.
4. `_handle_decoded`: that was the last window. `_store` writes them into the library.

If a step fails, `_fail` or `_drop` takes the video out of the scan, and the others continue.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from vtag.engine.checkpoints.load import Checkpoint
from vtag.engine.errors import LibraryError
from vtag.engine.library.database import LibraryWriter, now
from vtag.engine.library.page_queries import latest_moment_id
from vtag.engine.library.store import files, heads, runs
from vtag.engine.library.store.duplicates import packets_keys
from vtag.engine.library.store.observations import Provenance
from vtag.engine.scan.clocks import read_missing_clocks
from vtag.engine.scan.discover import Discovery
from vtag.engine.scan.estimate import VideoLengths, speed_key
from vtag.engine.scan.events import (
    BackendOpened,
    NodeJoined,
    NodeLost,
    PassFinished,
    ScanEvent,
    ScanFinished,
    ScanProgress,
    VideoScanFailed,
    VideoScanned,
    VideosElsewhere,
)
from vtag.engine.scan.inference_thread import WindowFeatures
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.passes import COARSE_FROM_MS, PASSES, window_starts
from vtag.engine.scan.pending_video import PendingVideo, VideoPass
from vtag.engine.scan.pipeline import OpenPipeline, Pipeline, PipelineEvent, VideoRestarted
from vtag.engine.scan.plan import ScanPlan, planned_event
from vtag.engine.scan.sharing import PassQueue, VideoClaims, take_over
from vtag.engine.scan.writer import ScanWriter
from vtag.engine.system import signals
from vtag.engine.system.clock import active_seconds
from vtag.engine.video.decode.messages import DecodeDone, DecodeFailed, FingerprintReady, WindowsRequest
from vtag.engine.video.read.sampling import Sampling

_MIN_SPEED_MS = 30_000  # length of video from which on a scan's speed is worth storing
_REPORT_EVERY_S = 1.0  # the page polls the run's row no faster


class ScanRunner:
    """One scan, with a known plan. Creating it writes nothing."""

    def __init__(
        self,
        library: LibraryWriter,
        checkpoint: Checkpoint,
        head: heads.Head,
        options: ScanOptions,
        sampling: Sampling,
        plan: ScanPlan,
        discovery: Discovery,
        started: float,
        open_pipeline: OpenPipeline,
    ) -> None:
        """`started` is when the scan began, in `active_seconds`."""
        self.run_id = 0  # the scan's row in `runs`, once it has one
        self._library = library
        self._checkpoint = checkpoint
        self._options = options
        self._sampling = sampling
        self._plan = plan
        self._discovery = discovery
        self._started = started
        self._started_at = now()
        self._writer = ScanWriter(library, head, sampling.key(), plan.volumes)
        self._claims = VideoClaims(library.path, head.backbone_hash, sampling.key())
        self._open_pipeline = open_pipeline
        self._pipeline: Pipeline | None = None
        # of videos in the library; the pool asks before it decodes a video with the same packets
        self._known_packets: set[str] = set()
        self._videos = self._pending_videos()
        self._in_pass: set[int] = set()  # job ids of the videos that the pipeline has
        self._elsewhere: tuple[PendingVideo, ...] = ()  # that other scans have, while this one waits for them
        self._elsewhere_files = 0  # files that other scans scanned meanwhile
        self._videos_done = 0
        self._failed: list[VideoScanFailed] = list(plan.unreadable)
        self._lengths = VideoLengths(plan.tasks)
        self._windows = self._scanned_ms = 0
        self._last_report = 0.0
        self._first_moment = latest_moment_id(library.connection)
        self._model_started = 0.0  # when the first pass began, in `active_seconds`
        self._model_wall_s = self._store_s = 0.0
        self._decode_s = _children_s()

    def _pending_videos(self) -> list[PendingVideo]:
        videos = []
        for job_id, task in enumerate(self._plan.tasks):
            starts = self._writer.read_stored(task).starts if task.is_partial else frozenset[int]()
            videos.append(PendingVideo(job_id, task, starts, starts))
        return videos

    # --- the scan ---------------------------------------------------------------------------------------------

    def run(self) -> Iterator[ScanEvent]:
        """Scan the planned videos; yields all events but the last, which is `summary`."""
        self._writer.update_segments(self._plan.scanned)
        files.add_roots(self._library, self._discovery.roots)
        files.mark_missing(self._library, self._discovery.roots, {f.path for f in self._discovery.files})
        if self._plan.tasks:
            yield from self._run_passes()
        else:
            yield planned_event(self._plan, self._discovery, 0, None)
        yield from read_missing_clocks(self._library, self._plan.scanned)

    def _run_passes(self) -> Iterator[ScanEvent]:
        self._known_packets = set() if self._options.force else packets_keys(self._library)
        spec = self._checkpoint.spec
        with (
            self._claims,
            self._open_pipeline(
                self._checkpoint, self._options, self._sampling, self._known_packets
            ) as pipeline,
        ):
            self._pipeline = pipeline
            self._lengths.request(pipeline.pool)
            pipeline.wait_until_ready()
            yield from self._handle(pipeline.next_events(), pipeline)
            key = speed_key(spec, self._sampling, pipeline.computed_by)
            speed = runs.last_speed(self._library, key) or pipeline.measure_speed()
            self._lengths.wait(pipeline.pool)
            yield planned_event(self._plan, self._discovery, self._lengths.total_ms, speed)
            self._model_started = active_seconds()
            yield from self._pass_after_pass(pipeline)
            self._model_wall_s = active_seconds() - self._model_started
        self._decode_s = _children_s() - self._decode_s
        if self._scanned_ms > _MIN_SPEED_MS and self._model_wall_s:
            runs.save_speed(self._library, key, self._scanned_ms / 1000 / self._model_wall_s)

    def _pass_after_pass(self, pipeline: Pipeline) -> Iterator[ScanEvent]:
        is_coarse = self._options.passes or self._lengths.total_ms >= COARSE_FROM_MS
        numbers = range(1, min(self._options.passes or PASSES, PASSES) + 1) if is_coarse else (PASSES,)
        for number in numbers:
            queue = PassQueue((video for video in self._videos if video.needs_pass), self._claims)
            while queue or self._in_pass:
                signals.raise_if_interrupted()
                yield from self._submit_videos(pipeline, number, queue)
                yield from self._handle(pipeline.next_events(), pipeline)
            if len(numbers) > 1 and number < numbers[-1]:
                yield PassFinished(number, len(numbers), self._scanned_ms)

    def _handle(self, events: Sequence[PipelineEvent], pipeline: Pipeline) -> Iterator[ScanEvent]:
        """Take what a pipeline tells. Features of several windows are one step of the progress."""
        windows = [event for event in events if isinstance(event, WindowFeatures)]
        self._windows += len(windows)
        for event in events:
            if isinstance(event, WindowFeatures):
                self._add_features(event)
            elif isinstance(event, FingerprintReady):
                yield from self._handle_opened(event, pipeline)
            elif isinstance(event, BackendOpened | NodeJoined | NodeLost):
                yield event
            elif isinstance(event, VideoRestarted):
                self._restart(self._videos[event.job_id])
            elif self._lengths.handle(event):
                pass  # an answer to `VideoLengths.request`, for which no job of ours waits
            elif isinstance(event, DecodeDone):
                yield from self._handle_decoded(event, pipeline)
            elif isinstance(event, DecodeFailed) and event.job_id in self._in_pass:
                yield from self._fail(self._videos[event.job_id], event.reason, event.is_of_node)
        if windows:
            yield self._progress()

    # --- the path of a video ----------------------------------------------------------------------------------

    def _submit_videos(self, pipeline: Pipeline, number: int, queue: PassQueue) -> Iterator[ScanEvent]:
        """Give the pipeline videos while it has room, with the windows that pass `number` adds."""
        while pipeline.room > 0 and (video := queue.next_video()):
            if self._take_from_others(video):
                yield self._progress()
                continue
            length_ms = video.task.duration_ms or self._lengths.length_ms(video.job_id)
            starts = window_starts(number, length_ms, self._sampling)
            if starts is not None and starts <= video.stored_starts:
                self._claims.release(video)
                continue
            video.current = VideoPass(is_last=starts is None)
            self._in_pass.add(video.job_id)
            request = WindowsRequest(video.task.files[0].path, self._sampling, video.stored_starts, starts)
            pipeline.submit(video.job_id, request)
        elsewhere = queue.elsewhere if not self._in_pass else ()
        if elsewhere != self._elsewhere:
            self._elsewhere = elsewhere
            self.report()
            if elsewhere:
                yield VideosElsewhere(len(elsewhere), tuple(sorted(self._claims.holders(elsewhere))))

    def _take_from_others(self, video: PendingVideo) -> bool:
        """Take over what another scan has stored of a video since the plan; whether that is all of it."""
        stored = take_over(video, self._writer, self._options, self._started_at)
        if stored is None:
            return False
        if stored.content_id is None or stored.error:
            self._plan.known_failed += len(video.task.files)
        else:
            self._writer.add_files(video.task, stored.content_id)
            self._elsewhere_files += len(video.task.files)
        self._take_out(video)
        return True

    def _handle_opened(self, event: FingerprintReady, pipeline: Pipeline) -> Iterator[ScanEvent]:
        video, video_pass = self._video_in_pass(event.job_id)
        video_pass.fingerprint = event.fingerprint
        self._set_length(video, event.info.duration_ms)
        if not event.needs_decision:
            return
        # the library has a video with the same packets, and the pipeline waits for an answer
        if (
            video.stored_starts
            or video.has_changed()
            or not self._writer.copy_from_duplicate(video.task, event.fingerprint, event.info)
        ):
            pipeline.decode_anyway(event.job_id)
            return
        self._take_out(video)
        self._plan.skipped += len(video.task.files)
        pipeline.skip(event.job_id)
        yield self._progress()

    def _add_features(self, window: WindowFeatures) -> None:
        video = self._videos[window.job_id]
        if video.current:
            length_ms = min(self._sampling.stride_ms, window.end_ms - window.start_ms)
            video.current.add(window, length_ms)
            self._cover(video, length_ms)

    def _restart(self, video: PendingVideo) -> None:
        """Begin the current pass of a video again, without what came of it."""
        if video.current:
            self._windows -= len(video.current.windows)
            self._cover(video, -video.current.covered_ms)
            video.current = VideoPass(video.current.is_last)

    def _handle_decoded(self, event: DecodeDone, pipeline: Pipeline) -> Iterator[ScanEvent]:
        video, video_pass = self._video_in_pass(event.job_id)
        video_pass.decoded = event
        video.task.duration_ms = event.info.duration_ms
        self._set_length(video, event.info.duration_ms)
        if not video_pass.windows and not video.stored_starts:
            if video_pass.is_last:
                yield from self._fail(video, "no usable picture")
            else:  # it is shorter than its container claims: the last pass scans all there is
                self._end_pass(video)
            return
        if video.has_changed():  # then its features belong to no content
            reason = (
                video.absence() or "the file changed while it was read: scan it again when it is complete"
            )
            yield from self._drop(video, reason)
            return
        try:
            yield from self._store(video, video_pass, pipeline.provenance(video.job_id))
        except LibraryError as error:
            yield from self._drop(video, str(error))
        else:
            yield self._progress()

    def _store(self, video: PendingVideo, video_pass: VideoPass, made_by: Provenance) -> Iterator[ScanEvent]:
        """Write the windows of a pass into the library, and the segments that follow from them."""
        assert video_pass.decoded is not None
        started = active_seconds()
        starts = video.stored_starts | {start_ms for start_ms, _ in video_pass.windows}
        scanned_ms = len(starts) * self._sampling.stride_ms
        self._writer.begin_pass(video.task, scanned_ms, video_pass.decoded.info.duration_ms)
        if video_pass.windows:
            self._writer.add_windows(video.task, video_pass, made_by, replace=video.replaces_stored)
            video.stored_starts, video.replaces_stored = starts, False
        video.moments = self._writer.add_pass(video.task, video_pass, scanned_ms)
        self._end_pass(video)
        self._videos_done += not video.is_done
        video.is_stored = True
        self._store_s += active_seconds() - started
        if video_pass.is_last:
            video.needs_pass = False
            if not self._options.force:
                self._known_packets.add(video_pass.fingerprint.packets)
            info = video_pass.decoded.info
            # windows may overlap, and may not reach the end of the video
            self._cover(video, info.duration_ms - self._earlier_ms(video) - video.covered_ms)
            yield VideoScanned(
                video.task.files[0].path,
                len(video.stored_starts),
                info.duration_ms,
                video.moments.sure,
                video_pass.decoded.note,
            )

    def _fail(self, video: PendingVideo, reason: str, is_of_node: bool = False) -> Iterator[ScanEvent]:
        """Drop a video that cannot be read, and store the reason: later scans skip it.

        Of a file that changed or went away meanwhile nothing is stored: it may be whole when it is back.
        """
        reason = reason if is_of_node else video.absence() or reason
        if not video.has_changed():
            self._writer.add_failure(video.task, reason)
        yield from self._drop(video, reason)

    def _drop(self, video: PendingVideo, reason: str) -> Iterator[ScanEvent]:
        """Continue without a video. Nothing is stored, so the next scan tries it again."""
        self._take_out(video)
        failures = [VideoScanFailed(file.path, reason) for file in video.task.files]
        self._failed += failures
        yield failures[0]
        yield self._progress()

    # --- records and sums -------------------------------------------------------------------------------------

    def _video_in_pass(self, job_id: int) -> tuple[PendingVideo, VideoPass]:
        video = self._videos[job_id]
        assert video.current is not None
        return video, video.current

    def _end_pass(self, video: PendingVideo) -> None:
        video.current = None
        self._in_pass.discard(video.job_id)
        self._claims.release(video)

    def _take_out(self, video: PendingVideo) -> None:
        """No pass scans the video any more, and it counts as done."""
        self._end_pass(video)
        self._videos_done += not video.is_done
        video.needs_pass = False
        video.is_dropped = True
        self._lengths.drop(video.job_id)

    def _cover(self, video: PendingVideo, length_ms: int) -> None:
        video.covered_ms += length_ms
        self._scanned_ms += length_ms

    def _set_length(self, video: PendingVideo, duration_ms: int) -> None:
        self._lengths.set_length(video.job_id, duration_ms - self._earlier_ms(video))

    def _earlier_ms(self, video: PendingVideo) -> int:
        """How much of a video earlier scans scanned."""
        return len(video.earlier_starts) * self._sampling.stride_ms

    def _progress(self) -> ScanProgress:
        if time.monotonic() - self._last_report > _REPORT_EVERY_S:
            self.report()
        return self._current_progress()

    def _current_progress(self) -> ScanProgress:
        shares = self._pipeline.shares() if self._pipeline else {}
        return ScanProgress(
            self._videos_done, self._scanned_ms, self._windows, self._lengths.total_ms, shares
        )

    def report(self) -> None:
        """Write the progress into the scan's row, where other processes read it."""
        self._last_report = time.monotonic()
        progress = self._current_progress()
        columns: dict[str, object] = {
            "elsewhere": len(self._elsewhere),  # videos that other scans have, while this one waits for them
            "elsewhere_pids": sorted(self._claims.holders(self._elsewhere)),
            "videos": progress.videos_done,
            "of": len(self._plan.tasks),
            "video_ms": progress.video_ms_done,
            "of_ms": progress.video_ms,
            "failed": len(self._failed),
            "first_moment": self._first_moment,  # the moments of this scan have higher ids
            "worked_s": active_seconds() - self._model_started if self._model_started else 0.0,
        }
        runs.report(self._library, self.run_id, columns)

    def summary(self) -> ScanFinished:
        """The totals of the scan."""
        profile = self._pipeline.profile if self._pipeline else None
        if profile:
            profile.store_s, profile.decode_s = self._store_s, self._decode_s
            profile.wall_s = self._model_wall_s
        stored = [video for video in self._videos if video.is_stored]
        return ScanFinished(
            scanned=len(stored),
            skipped=self._plan.skipped,
            known_failed=self._plan.known_failed,
            failed=tuple(self._failed),
            windows=self._windows,
            video_ms=self._scanned_ms,
            wall_s=active_seconds() - self._started,
            moments=sum(video.moments.sure for video in stored),
            videos_with_moments=sum(video.moments.sure > 0 for video in stored),
            less_sure=sum(video.moments.less_sure for video in stored),
            excluded=tuple(self._discovery.excluded),
            unfinished=sum(video.needs_pass for video in stored),
            profile=profile,
            elsewhere=self._elsewhere_files,
        )


def _children_s() -> float:
    """Processor time in seconds of the child processes that have ended; 0 on systems that do not count it."""
    times = os.times()
    return times.children_user + times.children_system
