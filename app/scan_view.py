"""A scan on the terminal: its plan, progress as a bar or as lines, its summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtag.app.console import is_terminal, say, talk_console
from vtag.app.log_file import log_event
from vtag.app.times import format_time_span
from vtag.engine.system.clock import active_seconds
from vtag.engine.text import display_path, pluralize, printable

if TYPE_CHECKING:
    from vtag.engine.scan.events import (
        NodeJoined,
        NodeLost,
        PassFinished,
        ScanEvent,
        ScanFinished,
        ScanPlanned,
        ScanProfile,
        ScanProgress,
        VideoScanFailed,
        VideosElsewhere,
    )

_MAX_NODES = 4  # whose shares are shown
_PLAIN_EVERY_S = 10.0  # between lines of progress without a terminal


class ScanView:
    """Draws a scan's events on stderr: the model, the plan, then a bar or plain lines."""

    def __init__(self, note: str = "") -> None:
        """`note` is printed after the plan."""
        self._note = note
        self._view: _ProgressBar | _ProgressLines | None = None
        self._reported_failures: set[bytes] = set()

    def show(self, event: ScanEvent) -> None:
        """Draw one event, and add it to the log."""
        log_event(event)
        from vtag.engine.scan.events import (
            BackendOpened,
            ClocksPlanned,
            NodeJoined,
            NodeLost,
            ScanFinished,
            ScanPlanned,
            VideoScanFailed,
            VideoScanned,
            VideosElsewhere,
        )

        if isinstance(event, ScanFinished):
            self.close()
        elif isinstance(event, BackendOpened):
            say(f"{event.model} on {event.device} with {event.backend}, {event.precision}")
        elif isinstance(event, ClocksPlanned):
            (self._view.say if self._view else say)(
                f"reading the clocks of {pluralize(event.videos, 'video')} that an older vtag scanned"
            )
        elif isinstance(event, VideosElsewhere):
            (self._view.say if self._view else say)(_elsewhere_line(event))
        elif isinstance(event, NodeJoined | NodeLost):
            (self._view.say if self._view else say)(_node_line(event))
        elif isinstance(event, ScanPlanned):
            say(_plan_line(event))
            if self._note and event.videos:
                say(self._note)
            if event.videos:
                self._view = _ProgressBar(event) if is_terminal() else _ProgressLines(event)
        elif self._view:
            self._view.show(event)
            if isinstance(event, VideoScanFailed):
                self._reported_failures.add(event.path)
            if isinstance(event, VideoScanned) and event.note:
                self._view.say(f"note: {display_path(event.path)}: {printable(event.note)}")

    def finish(self, done: ScanFinished, *, verbose: bool) -> None:
        """Close and print the summary, with failures that were not printed before."""
        log_event(done)
        self.close()
        for failure in done.failed:
            if failure.path not in self._reported_failures:
                say(_failed_line(failure))
        if verbose:
            for path, why in done.excluded:
                say(f"left out: {display_path(path)}: {printable(why)}")
        say(_sum_line(done))
        if done.unfinished:
            say(f"{done.unfinished} of them only here and there: a scan without --passes fills them in")
        if done.windows:
            say(_moments_line(done))

    def __enter__(self) -> ScanView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the terminal."""
        if self._view:
            self._view.close()
            self._view = None


def _node_line(event: NodeJoined | NodeLost) -> str:
    from vtag.engine.scan.events import NodeJoined

    if isinstance(event, NodeJoined):
        return f"node {printable(event.node)}: {event.device} with {event.backend}, {event.precision}"
    if not event.has_joined:
        return f"the node {printable(event.node)} takes no part: {printable(event.reason)}"
    videos = f"; {pluralize(event.videos, 'video')} begin again elsewhere" if event.videos else ""
    return f"lost a worker on the node {printable(event.node)}: {printable(event.reason)}{videos}"


def _elsewhere_line(event: VideosElsewhere) -> str:
    processes = f" (process {', '.join(map(str, event.pids))})" if event.pids else ""
    return (
        f"{pluralize(event.videos, 'video')} left, which another scan has under way{processes}: waiting for it; "
        "what it leaves is scanned here"
    )


def _shares(progress: ScanProgress) -> str:
    """The share of each node of a cluster, as the end of a line."""
    total = sum(progress.shares.values())
    shares = [
        f"{printable(node)} {100 * count / total:.0f} %" for node, count in sorted(progress.shares.items())
    ]
    parts = shares[:_MAX_NODES] + ["..."] * (len(shares) > _MAX_NODES)
    return f"  ({', '.join(parts)})" if shares else ""


def _plan_line(plan: ScanPlanned) -> str:
    is_known = plan.videos or plan.skipped or plan.known_failed
    parts = [f"{pluralize(plan.videos, 'video')} to look at" if is_known else "no videos were found"]
    if plan.videos and plan.video_ms:
        parts.append(f"{_video_length(plan.video_ms)} of video")
    if plan.estimate_s:
        parts.append(f"about {format_time_span(plan.estimate_s)}")
    for count, description in (
        (plan.skipped, "known and unchanged"),
        (plan.known_failed, "known to be unreadable (--retry-failed tries again)"),
        (plan.excluded, "left out (--verbose names them)"),
    ):
        if count:
            parts.append(f"{count} {description}")
    return ", ".join(parts)


class _ProgressLines:
    """Progress as plain lines, if stderr is not a terminal."""

    def __init__(self, plan: ScanPlanned) -> None:
        self._plan = plan
        self._start = self._last = active_seconds()

    def show(self, event: ScanEvent) -> None:
        from vtag.engine.scan.events import PassFinished, ScanProgress, VideoScanFailed

        if isinstance(event, PassFinished):
            self.say(_pass_line(event))
        elif isinstance(event, VideoScanFailed):
            self.say(_failed_line(event))
        elif isinstance(event, ScanProgress) and active_seconds() - self._last >= _PLAIN_EVERY_S:
            self._last = active_seconds()
            passed = self._last - self._start
            say(
                f"{event.videos_done} of {self._plan.videos} videos, "
                f"{_video_length(event.video_ms_done)} of {_video_length(event.video_ms)}, "
                f"{event.video_ms_done / 1000 / passed:.1f}x real time{_shares(event)}"
            )

    def say(self, line: str) -> None:
        say(line)

    def close(self) -> None:
        """Nothing to release."""


class _ProgressBar:
    """Progress as a bar with videos, hours, speed and remaining time."""

    def __init__(self, plan: ScanPlanned) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._plan = plan
        self._start = active_seconds()
        self._progress = Progress(
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=talk_console(),
            transient=True,
            get_time=active_seconds,
        )
        self._task = self._progress.add_task("starting", total=plan.video_ms or None)
        self._progress.start()

    def show(self, event: ScanEvent) -> None:
        from vtag.engine.scan.events import PassFinished, ScanProgress, VideoScanFailed

        if isinstance(event, PassFinished):
            self.say(_pass_line(event))
        elif isinstance(event, VideoScanFailed):
            self.say(_failed_line(event))
        elif isinstance(event, ScanProgress):
            speed = event.video_ms_done / 1000 / max(active_seconds() - self._start, 1e-3)
            length = _video_length(event.video_ms_done)
            text = f"{event.videos_done}/{self._plan.videos} videos  {length}  {speed:.1f}x{_shares(event)}"
            self._progress.update(
                self._task, completed=event.video_ms_done, total=event.video_ms or None, description=text
            )

    def say(self, line: str) -> None:
        self._progress.console.print(line, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


def _pass_line(done: PassFinished) -> str:
    return (
        f"pass {done.number} of {done.passes} is done: all videos can be searched, "
        f"by {_video_length(done.scanned_ms)} of them; the next pass looks at more"
    )


def profile_line(profile: ScanProfile) -> str:
    share = 100 / max(profile.wall_s, 1e-9)
    return (
        f"of {format_time_span(profile.wall_s)}: the model worked {profile.model_s * share:.0f} % "
        f"({profile.clips} clips in {profile.batches} batches) and had no clip {profile.wait_s * share:.0f} %, "
        f"the library was written {profile.store_s * share:.0f} %; decoding took "
        f"{format_time_span(profile.decode_s)} of processor time; the limit was {profile.limit}"
    )


def _sum_line(done: ScanFinished) -> str:
    speed = f", {done.video_ms / 1000 / done.wall_s:.1f}x real time" if done.video_ms and done.wall_s else ""
    counts = pluralize(done.windows, "window")
    elsewhere = f"{done.elsewhere} scanned by another scan, " if done.elsewhere else ""
    return (
        f"{done.scanned} scanned ({_video_length(done.video_ms)}, {counts}), "
        f"{done.skipped} skipped, {elsewhere}{len(done.failed)} failed, {done.known_failed} known to fail, "
        f"in {format_time_span(done.wall_s)}{speed}"
    )


def _moments_line(done: ScanFinished) -> str:
    videos = f" in {pluralize(done.videos_with_moments, 'video')}" if done.moments else ""
    less_sure = f", {done.less_sure} less sure" if done.less_sure or done.moments else ", only less sure ones"
    return f"{pluralize(done.moments, 'moment')}{videos}{less_sure}: `vtag search`"


def _failed_line(failure: VideoScanFailed) -> str:
    return f"failed: {display_path(failure.path)}: {printable(failure.error)}"


def _video_length(milliseconds: int) -> str:
    return format_time_span(milliseconds / 1000)
