"""The card gives the processor's answers: sizes, precisions, odd and short clips, the golden model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers.formula import formula
from numpy.typing import NDArray

from card_parts.report import Report, Scale, Table
from vtag.engine.backends.torch_backend import TorchBackend
from vtag.engine.checkpoints.load import load_checkpoint

_GOLDEN = Path(__file__).parents[2] / "data" / "golden"
_OTHER_CLIPS = (
    (2, 9, 75, 130),
    (1, 3, 224, 224),
    (3, 17, 61, 75),
)  # odd sizes, and fewer frames than a window


def run_a(report: Report, scale: Scale) -> None:
    """Largest differences from fp32 on the processor, as shares of the largest value."""
    precisions = ("fp32", "bf16", "fp16") if scale.has_card else ("fp32",)
    table = report.table("model", "precision", "clips", "features", "logits", "same first label")
    _compare_golden(table, scale)
    for size in scale.sizes:
        checkpoint = scale.checkpoint(size)
        processor = TorchBackend(checkpoint, device="cpu", precision="fp32")
        shapes = [(1, *scale.clip), *(_OTHER_CLIPS if scale.has_card else ((2, 3, 17, 20),))]
        clips = [scale.pixels(shape[0], shape[1:]).cpu().numpy() for shape in shapes]
        expected = [processor.run(batch) for batch in clips]
        for precision in precisions:
            card = TorchBackend(checkpoint, device=scale.device, precision=precision)
            for shape, batch, answer in zip(shapes, clips, expected, strict=True):
                actual = card.run(batch)
                same = (actual.logits.argmax(1) == answer.logits.argmax(1)).mean()
                table.add(
                    f"Swin-{size.upper()}",
                    precision,
                    "x".join(map(str, shape)),
                    _difference(actual.features, answer.features),
                    _difference(actual.logits, answer.logits),
                    f"{same:.0%}",
                )


def _compare_golden(table: Table, scale: Scale) -> None:
    """The small model whose answers are stored, in fp32."""
    backend = TorchBackend(load_checkpoint(_GOLDEN / "small_swin.pth"), device=scale.device, precision="fp32")
    answers = np.load(_GOLDEN / "small_swin_logits.npz")
    for shape in answers:
        pixels = formula([int(number) for number in shape.split("x")]).transpose(0, 2, 3, 4, 1)
        actual = backend.run(pixels).logits
        same = (actual.argmax(1) == answers[shape].argmax(1)).mean()
        table.add("golden", "fp32", shape, "", _difference(actual, answers[shape]), f"{same:.0%}")


def _difference(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> str:
    return f"{np.abs(actual - expected).max() / np.abs(expected).max():.1e}"
