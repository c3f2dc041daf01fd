"""Reports of a training: the history as CSV, its curves and the confusion matrix as PNG."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vtag.engine.paths import home
from vtag.trainer.loop.training_state import EpochMetrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HISTORY_FILE, CURVES_FILE, CONFUSION_FILE = "history.csv", "curves.png", "confusion.png"
_MAX_NUMBERED_LABELS = 30  # with more, the cells of the matrix are too small for numbers
_MAX_NAME_LENGTH = 24  # characters


def history_csv(history: Sequence[EpochMetrics]) -> bytes:
    """One line an epoch, with every digit, so that two histories can be compared bit by bit."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [f.name for f in fields(EpochMetrics)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in history)
    return out.getvalue().encode()


def curves_png(history: Sequence[EpochMetrics]) -> bytes:
    """Loss and accuracy of training and validation over the epochs."""
    figure = _figure(9.0, 3.6)
    epochs = [row.epoch for row in history]
    charts = (
        ("loss", [row.loss for row in history], [row.val_loss for row in history]),
        ("accuracy", [row.accuracy for row in history], [row.val_accuracy for row in history]),
    )
    for number, (name, train, val) in enumerate(charts, 1):
        axes = figure.add_subplot(1, 2, number)
        axes.plot(epochs, train, label="training", marker="." if len(epochs) < 2 else "")
        if any(value is not None for value in val):
            axes.plot(epochs, [np.nan if v is None else v for v in val], label="validation")
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend()
    return _png(figure)


def confusion_png(labels: Sequence[str], confusion: NDArray[np.int64]) -> bytes:
    """The confusion matrix [K, K]: rows are labels, columns predictions, colours shares of a row."""
    count = len(labels)
    side = min(20.0, 2.5 + 0.32 * count)
    figure = _figure(side + 1.0, side)
    axes = figure.add_subplot(1, 1, 1)
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [
        label if len(label) <= _MAX_NAME_LENGTH else f"{label[: _MAX_NAME_LENGTH - 1]}…" for label in labels
    ]
    names = [name.replace("$", r"\$") for name in names]  # a dollar sign would begin a formula
    axes.set_xticks(range(count), names, rotation=90)
    axes.set_yticks(range(count), names)
    axes.set(xlabel="said", ylabel="shown")
    if count <= _MAX_NUMBERED_LABELS:
        for row, column in np.argwhere(confusion):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=colour)
    figure.colorbar(image, label="share of the clips")
    return _png(figure)


def _figure(width: float, height: float) -> Figure:
    os.environ.setdefault("MPLCONFIGDIR", str(home() / "cache" / "matplotlib"))
    logging.getLogger("matplotlib").setLevel(
        logging.ERROR
    )  # it warns of missing fonts and of building caches
    # the import takes a second, and only trainings need it
    from matplotlib.figure import Figure  # noqa: PLC0415

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()
