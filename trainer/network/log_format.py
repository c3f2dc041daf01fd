"""The events of a training by a recipe as lines of a log."""

from __future__ import annotations

from vtag.engine.text import display_path
from vtag.trainer.loop.loop import EpochDone, TrainEvent
from vtag.trainer.loop.training_state import EpochMetrics
from vtag.trainer.network.train_recipe import BEST, RecipeDone, RecipeStarted


def format_event(event: RecipeStarted | TrainEvent | RecipeDone) -> str:
    """An event as a line; empty for events that get no line."""
    if isinstance(event, RecipeStarted):
        return _format_start(event)
    if isinstance(event, EpochDone):
        return format_epoch(event)
    if isinstance(event, RecipeDone):
        best = (
            f"the best is epoch {event.best_epoch} with {_percent(event.best_accuracy)} (one centre crop), in {BEST}"
            if event.best_accuracy is not None
            else "nothing was validated, so the last is all there is"
        )
        return f"done; {best}; {display_path(event.folder)}"
    return ""


def format_epoch(event: EpochDone) -> str:
    """Loss and accuracy of an epoch, and if it was validated, also the best epoch so far."""
    row = event.row
    line = f"epoch {row.epoch} of {event.epochs}: loss {row.loss:.4f}, {_percent(row.accuracy)} right"
    if row.val_accuracy is None:
        return line
    best = _format_best(event.best_row, row)
    return f"{line}; validation {_percent(row.val_accuracy)} top-1 (one centre crop){best}"


def _format_start(event: RecipeStarted) -> str:
    verb = "going on with" if event.resumed else "training on"
    device = f"{event.device}, {event.processes} processes" if event.processes > 1 else event.device
    precision = "bf16" if event.bf16 else "fp32"
    return (
        f"{verb} {event.training_clips} clips of {event.classes} classes, {event.validation_clips} to validate on; "
        f"{device}, {precision}"
    )


def _format_best(best: EpochMetrics | None, row: EpochMetrics) -> str:
    if best is None or best.val_accuracy is None:
        return ""
    if best.epoch == row.epoch:
        return ", the best yet"
    return f"; best is epoch {best.epoch} with {_percent(best.val_accuracy)}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
