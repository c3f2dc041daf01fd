"""A scan on the terminal: its plan, a bar or plain lines while it runs, its sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtag.app.console import is_terminal, say, talk_console
from vtag.engine.system.clock import active_seconds
from vtag.engine.text import display_path, pluralize, printable

if TYPE_CHECKING:
    from vtag.engine.scan.events import (
        PassFinished,
        ScanEvent,
        ScanFinished,
        ScanPlanned,
        ScanProfile,
        VideoScanFailed,
    )

_PLAIN_EVERY_S = 10.0  # a line of progress where there is no terminal


class Drawing:
    """Draws a scan's events on stderr: what runs where, what there is to do, then a bar or plain lines."""

    def __init__(self, note: str = "") -> None:
        """`note` is said once it is known what there is to do."""
        self._note = note
        self._view: _Bar | _Lines | None = None
        self._told: set[bytes] = set()  # files that were said to have failed

    def show(self, event: ScanEvent) -> None:
        """Draw one event."""
        from vtag.engine.scan.events import (
            BackendOpened,
            ScanFinished,
            ScanPlanned,
            VideoScanFailed,
            VideoScanned,
        )

        if isinstance(event, ScanFinished):
            self.close()
        elif isinstance(event, BackendOpened):
            say(f"{event.model} on {event.device} with {event.backend}, {event.precision}")
        elif isinstance(event, ScanPlanned):
            say(_plan_line(event))
            if self._note:
                say(self._note)
            if event.videos:
                self._view = _Bar(event) if is_terminal() else _Lines(event)
        elif self._view:
            self._view.show(event)
            if isinstance(event, VideoScanFailed):
                self._told.add(event.path)
            if isinstance(event, VideoScanned) and event.note:
                self._view.say(f"note: {display_path(event.path)}: {printable(event.note)}")

    def finish(self, done: ScanFinished, *, verbose: bool) -> None:
        """Close, and say what came of it: of the failed, those that were not named as they came."""
        self.close()
        for failure in done.failed:
            if failure.path not in self._told:
                say(_failed_line(failure))
        if verbose:
            for path, why in done.excluded:
                say(f"left out: {display_path(path)}: {printable(why)}")
        say(_sum_line(done))
        if done.unfinished:
            say(f"{done.unfinished} of them only here and there: a scan without --passes fills them in")
        if done.windows and not done.moments:
            say(
                "nothing reached its threshold: `vtag retag --threshold T`, lower, may say more, and errs more"
            )

    def __enter__(self) -> Drawing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal to others."""
        if self._view:
            self._view.close()
            self._view = None


def _plan_line(plan: ScanPlanned) -> str:
    parts = [f"{pluralize(plan.videos, 'video')} to look at"]
    if plan.videos and plan.video_ms:
        parts.append(f"{_hours(plan.video_ms)} of video")
    if plan.estimate_s:
        parts.append(f"about {_span(plan.estimate_s)}")
    for count, what in (
        (plan.skipped, "known and unchanged"),
        (plan.known_failed, "known to be unreadable (--retry-failed tries again)"),
        (plan.excluded, "left out (--verbose names them)"),
    ):
        if count:
            parts.append(f"{count} {what}")
    return ", ".join(parts)


class _Lines:
    """Progress as plain lines, where stderr is no terminal."""

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
                f"{_hours(event.video_ms_done)} of {_hours(event.video_ms)}, "
                f"{event.video_ms_done / 1000 / passed:.1f}x real time"
            )

    def say(self, line: str) -> None:
        say(line)

    def close(self) -> None:
        """Nothing is left open."""


class _Bar:
    """Progress as a bar with videos, hours, speed and the time left."""

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
            text = (
                f"{event.videos_done}/{self._plan.videos} videos  {_hours(event.video_ms_done)}  {speed:.1f}x"
            )
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
        f"by {_hours(done.scanned_ms)} of them; the next pass looks at more"
    )


def profile_line(profile: ScanProfile) -> str:
    share = 100 / max(profile.wall_s, 1e-9)
    return (
        f"of {_span(profile.wall_s)}: the model worked {profile.model_s * share:.0f} % "
        f"({profile.clips} clips in {profile.batches} batches) and had no clip {profile.wait_s * share:.0f} %, "
        f"the library was written {profile.store_s * share:.0f} %; decoding took {_span(profile.decode_s)} of "
        f"processor time; the limit was {profile.limit}"
    )


def _sum_line(done: ScanFinished) -> str:
    speed = f", {done.video_ms / 1000 / done.wall_s:.1f}x real time" if done.video_ms and done.wall_s else ""
    seen = f"{pluralize(done.windows, 'window')}, {pluralize(done.moments, 'moment')}"
    return (
        f"{done.scanned} scanned ({_hours(done.video_ms)}, {seen}), "
        f"{done.skipped} skipped, {len(done.failed)} failed, {done.known_failed} known to fail, "
        f"in {_span(done.wall_s)}{speed}"
    )


def _failed_line(failure: VideoScanFailed) -> str:
    return f"failed: {display_path(failure.path)}: {printable(failure.error)}"


def _hours(milliseconds: int) -> str:
    return _span(milliseconds / 1000)


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
