"""The history of a training as TensorBoard events."""

from __future__ import annotations

from pathlib import Path

from vtag.engine.errors import ModelError
from vtag.trainer.loop.training_state import EpochMetrics


class TensorBoardWriter:
    """Writes one point for each epoch and metric below `folder`. Raises ModelError if TensorBoard is missing."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # an extra
        except ImportError as error:
            raise ModelError(
                "run.tensorboard needs TensorBoard: pip install 'vtag[tensorboard]', or leave it out"
            ) from error
        self._writer = SummaryWriter(folder / "tensorboard")

    def add_epoch(self, row: EpochMetrics) -> None:
        """Write the metrics of one epoch, except those that were not measured."""
        metrics = {
            "loss/training": row.loss,
            "loss/validation": row.val_loss,
            "accuracy/training": row.accuracy,
            "accuracy/validation": row.val_accuracy,
            "learning rate": row.learning_rate,
        }
        for name, value in metrics.items():
            if value is not None:
                self._writer.add_scalar(name, value, row.epoch)
        self._writer.flush()
