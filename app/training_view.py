"""A training on the terminal, and how Ctrl-C ends it: after the current step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtag.app.console import is_terminal, say, say_at_once, talk_console
from vtag.engine.system.clock import active_seconds
from vtag.engine.system.signals import GracefulStop

if TYPE_CHECKING:
    from rich.progress import Progress

    from vtag.trainer.heads.window_features import WindowsDone
    from vtag.trainer.loop.loop import EpochDone, StepDone, TrainingResumed

_PLAIN_EVERY_S = 10.0


class TrainingView:
    """Draws a training's events on stderr: a bar for the steps, a line for every epoch. A context manager."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._start_s: float | None = None
        self._last_line_s = active_seconds()

    def __enter__(self) -> TrainingView:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def step(self, event: StepDone) -> None:
        """Draw a part of a step."""
        now_s = active_seconds()
        if self._start_s is None:
            self._start_s, self._start_clips = now_s, event.clips
        speed = (event.clips - self._start_clips) / max(now_s - self._start_s, 1e-3)
        text = (
            f"epoch {event.epoch}/{event.epochs}  loss {event.loss:.3f}  {100 * event.accuracy:.0f} % right  "
            f"{speed:.1f} clips/s"
        )
        done = (event.epoch - 1) * event.steps + event.step
        self._show(text, done, event.epochs * event.steps)

    def epoch(self, event: EpochDone) -> None:
        """Print an epoch."""
        row = event.row
        text = f"epoch {row.epoch} of {event.epochs}: loss {row.loss:.3f}, {100 * row.accuracy:.0f} % right"
        if row.val_accuracy is not None and row.val_loss is not None:
            text += f"; validation: loss {row.val_loss:.3f}, {100 * row.val_accuracy:.0f} % right"
            text += ", the best so far" if event.best else ""
        self.line(text)

    def resumed(self, event: TrainingResumed) -> None:
        """Print where a resumed training continues."""
        self.line(f"going on after epoch {len(event.history)}" if event.history else "going on in epoch 1")

    def windows(self, event: WindowsDone) -> None:
        """Draw the progress of windows."""
        self._show(f"{event.done} of {event.total} windows looked at", event.done, event.total)
        if event.done == event.total:
            self._close()

    def _show(self, text: str, done: int, total: int) -> None:
        if is_terminal():
            bar = self._open_bar()
            bar.update(bar.task_ids[0], description=text, completed=done, total=total)
        elif active_seconds() - self._last_line_s >= _PLAIN_EVERY_S:
            self.line(text)

    def line(self, text: str) -> None:
        """Print one line, above the bar if there is one."""
        self._last_line_s = active_seconds()
        if self._bar:
            self._bar.console.print(text)
        else:
            say(text)

    def _open_bar(self) -> Progress:
        if self._bar is None:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                BarColumn(bar_width=20),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
                console=talk_console(),
                transient=True,
                get_time=active_seconds,
            )
            self._bar.add_task("", total=None)
            self._bar.start()
        return self._bar

    def _close(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


def stop_after_step() -> GracefulStop:
    """A context for a training: the first Ctrl-C ends it after the current step, the next at once."""
    return GracefulStop(lambda: say_at_once("ending after this step; again ends at once"))
