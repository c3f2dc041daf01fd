"""How far a training is, written into its row now and then, where other processes read it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

from vtag.engine.library.database import Library
from vtag.engine.library.store import runs
from vtag.engine.scan.events import ScanEvent, ScanPlanned, ScanProgress
from vtag.engine.system.clock import active_seconds
from vtag.trainer.heads.window_features import WindowsDone
from vtag.trainer.loop.loop import EpochDone, StepDone, TrainEvent, TrainingResumed
from vtag.trainer.loop.training_state import EpochMetrics

_EVERY_S = 1.0


class RunProgress:
    """The row of one training: what is looked at, then every epoch and step, then what is measured."""

    def __init__(self, library: Library, run_id: int) -> None:
        self._library, self._run_id = library, run_id
        self._told: dict[str, object] = {}
        self._history: list[EpochMetrics] = []
        self._clips = 0
        self._first: tuple[int, float] | None = None  # the step that this process began with, and when
        self._said = time.monotonic()

    def hear(self, event: ScanEvent | TrainEvent | WindowsDone | TrainingResumed) -> None:
        """Take an event in; it is in the row within a second or with the next one, an epoch at once."""
        if isinstance(event, ScanPlanned):
            self._clips = event.videos
        elif isinstance(event, ScanProgress) and self._clips:
            self._told |= {"looked": event.videos_done, "to_look": self._clips, "what": "clips"}
        elif isinstance(event, WindowsDone):
            self._told |= {"looked": event.done, "to_look": event.total, "what": "windows"}
        elif isinstance(event, TrainingResumed):
            self._history = list(event.history)
        elif isinstance(event, EpochDone):
            self._history.append(event.row)
            self._told["history"] = columns(self._history)
            self.write()
        elif isinstance(event, StepDone):
            self._step(event)
        if time.monotonic() - self._said > _EVERY_S:
            self.write()

    def write(self) -> None:
        """Put what is known into the row."""
        self._said = time.monotonic()
        runs.report(self._library, self._run_id, self._told)

    def _step(self, event: StepDone) -> None:
        done, of = (event.epoch - 1) * event.steps + event.step, event.epochs * event.steps
        begun, at_s = self._first = self._first or (done, active_seconds())
        left_s = (active_seconds() - at_s) / (done - begun) * (of - done) if done > begun else None
        self._told = {
            "epoch": event.epoch,
            "of": event.epochs,
            "share": done / of,
            "loss": event.loss,
            "accuracy": event.accuracy,
            "left_s": left_s,
            "history": columns(self._history),
        }


def columns(history: Sequence[EpochMetrics]) -> dict[str, list[float | None]]:
    """A column of each measure over the epochs."""
    rows = [asdict(row) for row in history]
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
