"""The history as TensorBoard events, where somebody watches it so."""

from __future__ import annotations

from pathlib import Path

from vtag.engine.errors import ModelError
from vtag.trainer.loop.training_state import EpochMetrics


class TensorBoardWriter:
    """Writes one point an epoch and figure into `folder`. Raises ModelError where TensorBoard is not installed."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # an extra
        except ImportError as error:
            raise ModelError(
                "run.tensorboard needs TensorBoard: pip install 'vtag[tensorboard]', or leave it out"
            ) from error
        self._writer = SummaryWriter(folder / "tensorboard")

    def add(self, row: EpochMetrics) -> None:
        """The figures of one epoch; what was not measured is left out."""
        figures = {
            "loss/training": row.loss,
            "loss/validation": row.val_loss,
            "accuracy/training": row.accuracy,
            "accuracy/validation": row.val_accuracy,
            "learning rate": row.learning_rate,
        }
        for name, value in figures.items():
            if value is not None:
                self._writer.add_scalar(name, value, row.epoch)
        self._writer.flush()
