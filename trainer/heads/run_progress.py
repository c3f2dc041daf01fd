"""The progress of a training, written to its row in the library, where other processes read it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import runs
from vtag.engine.scan.events import ScanEvent, ScanPlanned, ScanProgress
from vtag.engine.system.clock import active_seconds
from vtag.trainer.heads.window_features import WindowsDone
from vtag.trainer.loop.loop import EpochDone, StepDone, TrainEvent, TrainingResumed
from vtag.trainer.loop.training_state import EpochMetrics

_WRITE_EVERY_S = 1.0


class RunProgress:
    """Keeps the progress in the row of one training: clips scanned, then epochs and steps, then windows embedded.

    The keys of the progress are read by the page.
    """

    def __init__(self, library: LibraryWriter, run_id: int) -> None:
        self._library, self._run_id = library, run_id
        self._progress: dict[str, object] = {}
        self._history: list[EpochMetrics] = []
        self._clips = 0
        self._start: tuple[int, float] | None = (
            None  # first step of this process, and its time in active seconds
        )
        self._written_at = time.monotonic()

    def update(self, event: ScanEvent | TrainEvent | WindowsDone | TrainingResumed) -> None:
        """Take in an event. The row is written at the end of an epoch, else at most every second."""
        if isinstance(event, ScanPlanned):
            self._clips = event.videos
        elif isinstance(event, ScanProgress) and self._clips:
            self._progress |= {"looked": event.videos_done, "to_look": self._clips, "what": "clips"}
        elif isinstance(event, WindowsDone):
            self._progress |= {"looked": event.done, "to_look": event.total, "what": "windows"}
        elif isinstance(event, TrainingResumed):
            self._history = list(event.history)
        elif isinstance(event, EpochDone):
            self._history.append(event.row)
            self._progress["history"] = history_columns(self._history)
            self.write()
        elif isinstance(event, StepDone):
            self._progress = self._step_progress(event)
        if time.monotonic() - self._written_at > _WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write the progress to the row."""
        self._written_at = time.monotonic()
        runs.report(self._library, self._run_id, self._progress)

    def _step_progress(self, event: StepDone) -> dict[str, object]:
        steps_done = (event.epoch - 1) * event.steps + event.step
        steps = event.epochs * event.steps
        first_step, started_s = self._start = self._start or (steps_done, active_seconds())
        left_s = None
        if steps_done > first_step:
            left_s = (active_seconds() - started_s) / (steps_done - first_step) * (steps - steps_done)
        return {
            "epoch": event.epoch,
            "of": event.epochs,
            "share": steps_done / steps,
            "loss": event.loss,
            "accuracy": event.accuracy,
            "left_s": left_s,
            "history": history_columns(self._history),
        }


def history_columns(history: Sequence[EpochMetrics]) -> dict[str, list[float | None]]:
    """The values of each metric over the epochs."""
    rows = [asdict(row) for row in history]
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
