"""How a training looks on a terminal, and how it ends when a person asks for it: after the step that runs."""

from __future__ import annotations

import signal
from types import FrameType
from typing import TYPE_CHECKING

from vtag.app.console import is_terminal, say, say_at_once, talk_console
from vtag.engine.system.clock import worked_s

if TYPE_CHECKING:
    from rich.progress import Progress

    from vtag.trainer.heads.window_features import Looked
    from vtag.trainer.loop.loop import EpochDone, Resumed, Stepped

_PLAIN_EVERY_S = 10.0


class TrainingView:
    """Draws a training's events on stderr: a bar for the steps, a line for every epoch. A context manager."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._began: float | None = None
        self._said = worked_s()

    def __enter__(self) -> TrainingView:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def step(self, event: Stepped) -> None:
        """A part of a step is done."""
        now = worked_s()
        if self._began is None:
            self._began, self._first = now, event.clips
        speed = (event.clips - self._first) / max(now - self._began, 1e-3)
        text = (
            f"epoch {event.epoch}/{event.epochs}  loss {event.loss:.3f}  {100 * event.accuracy:.0f} % right  "
            f"{speed:.1f} clips/s"
        )
        done = (event.epoch - 1) * event.steps + event.step
        self._show(text, done, event.epochs * event.steps)

    def epoch(self, event: EpochDone) -> None:
        """An epoch is over."""
        row = event.row
        text = f"epoch {row.epoch} of {event.epochs}: loss {row.loss:.3f}, {100 * row.accuracy:.0f} % right"
        if row.val_accuracy is not None and row.val_loss is not None:
            text += f"; validation: loss {row.val_loss:.3f}, {100 * row.val_accuracy:.0f} % right"
            text += ", the best so far" if event.best else ""
        self.line(text)

    def resumed(self, event: Resumed) -> None:
        """A training that was left goes on."""
        self.line(f"going on after epoch {len(event.history)}" if event.history else "going on in epoch 1")

    def looked(self, event: Looked) -> None:
        """Windows were looked at."""
        self._show(f"{event.done} of {event.of} windows looked at", event.done, event.of)
        if event.done == event.of:
            self._close()

    def _show(self, text: str, done: int, of: int) -> None:
        if is_terminal():
            bar = self._opened()
            bar.update(bar.task_ids[0], description=text, completed=done, total=of)
        elif worked_s() - self._said >= _PLAIN_EVERY_S:
            self.line(text)

    def line(self, text: str) -> None:
        """Say one line, above the bar where there is one."""
        self._said = worked_s()
        if self._bar:
            self._bar.console.print(text)
        else:
            say(text)

    def _opened(self) -> Progress:
        if self._bar is None:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                BarColumn(bar_width=20),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
                console=talk_console(),
                transient=True,
                get_time=worked_s,
            )
            self._bar.add_task("", total=None)
            self._bar.start()
        return self._bar

    def _close(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


class Ending:
    """Ctrl-C and SIGTERM while a training runs: the first asks for an end after the step, the next ends at once.

    Before `begin()` they interrupt, as everywhere. A context manager.
    """

    def __init__(self) -> None:
        self.asked = False
        self._begun = False

    def begin(self) -> None:
        """From here on there is a state that is worth keeping."""
        self._begun = True

    def over(self) -> None:
        """From here on there is none."""
        self._begun = False

    def __enter__(self) -> Ending:
        self._before = [signal.signal(s, self._hear) for s in (signal.SIGINT, signal.SIGTERM)]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), self._before, strict=True):
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self._begun:
            raise KeyboardInterrupt
        self.asked = True
        say_at_once("ending after this step; again ends at once")
