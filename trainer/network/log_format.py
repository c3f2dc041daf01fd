"""What a training by a recipe says, as lines of a log."""

from __future__ import annotations

from vtag.engine.text import display_path
from vtag.trainer.loop.loop import EpochDone, TrainEvent
from vtag.trainer.loop.training_state import EpochMetrics
from vtag.trainer.network.train_recipe import BEST, RecipeDone, RecipeStarted


def format_event(event: RecipeStarted | TrainEvent | RecipeDone) -> str:
    """An event as a line; empty for what is too small to be one."""
    if isinstance(event, RecipeStarted):
        how = "bf16" if event.bf16 else "fp32"
        again = "going on with" if event.resumed else "training on"
        where = f"{event.device}, {event.processes} processes" if event.processes > 1 else event.device
        return f"{again} {event.train} clips of {event.labels} classes, {event.val} to validate on; {where}, {how}"
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
    """One line an epoch: loss and accuracy, and of the validation also which epoch is the best so far."""
    row = event.row
    line = f"epoch {row.epoch} of {event.epochs}: loss {row.loss:.4f}, {_percent(row.accuracy)} right"
    if row.val_accuracy is None:
        return line
    return (
        f"{line}; validation {_percent(row.val_accuracy)} top-1 (one centre crop){_best(event.best_row, row)}"
    )


def _best(best: EpochMetrics | None, row: EpochMetrics) -> str:
    if best is None or best.val_accuracy is None:
        return ""
    return (
        ", the best yet"
        if best.epoch == row.epoch
        else f"; best is epoch {best.epoch} with {_percent(best.val_accuracy)}"
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
