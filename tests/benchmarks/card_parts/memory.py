"""Too little memory on purpose: a scan halves its batch and goes on, or says in one sentence what to do."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from card_parts.report import Report, Scale
from vtag.engine.backends.torch_backend import TorchBackend
from vtag.engine.errors import ModelError

_CLIPS = 32


def run_f(report: Report, scale: Scale) -> None:
    """The same clips with all memory, with too little for all at once, and with too little for one."""
    size = "b"
    clips = scale.pixels(_CLIPS if scale.has_card else 4).cpu().numpy()
    backend = TorchBackend(scale.checkpoint(size), device=scale.device, precision=scale.precision)
    if not scale.has_card:
        backend._clip_threads = None  # as on a card
    base, peak = _memory(backend, clips)
    expected = backend.run(clips).features
    if scale.has_card:
        report.say(f"Swin-B takes {base / 2**20:.0f} MB, and {peak / 2**20:.0f} MB with {len(clips)} clips")
    table = report.table("memory", "what happened", "what it said")
    logger = logging.getLogger("vtag.engine.backends.torch_backend")
    for name, share in (("for a third of the clips", 1 / 3), ("for none", 0.001)):
        said = _Messages()
        logger.addHandler(said)
        backend._max_clips = None
        with _short_memory(backend, int(base + share * (peak - base)), int(share * len(clips))):
            try:
                actual = backend.run(clips).features
                off = np.abs(actual - expected).max() / np.abs(expected).max()
                outcome = f"computed {backend._max_clips} at a time, off by {off:.0e}"
            except ModelError as error:
                outcome = f"refused: {error}"
        logger.removeHandler(said)
        table.add(name, outcome, "; ".join(said.messages))
    actual = backend.run(clips).features
    off = np.abs(actual - expected).max() / np.abs(expected).max()
    report.say(f"with all memory again: {len(clips)} clips, off by {off:.0e}")


class _Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _memory(backend: TorchBackend, clips: np.ndarray) -> tuple[int, int]:
    """Bytes that torch reserves for the model, and at most with `clips`. Zeros on a processor."""
    if not backend.device.startswith("cuda"):
        return 0, 0
    backend.run(clips[:1])  # the tables of this size of clip, and the libraries' workspaces, stay
    torch.cuda.empty_cache()
    base = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    backend.run(clips)
    return base, torch.cuda.max_memory_reserved()


@contextmanager
def _short_memory(backend: TorchBackend, limit_bytes: int, fitting: int) -> Iterator[None]:
    """Leave torch `limit_bytes` of the card. A processor has no limit, so there `fitting` clips are the most."""
    if not backend.device.startswith("cuda"):
        forward = backend._card_forward

        def short(clips: Tensor) -> Tensor:
            if len(clips) > fitting:
                raise torch.OutOfMemoryError
            return forward(clips)

        backend._card_forward = short
        yield
        backend._card_forward = forward
        return
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(limit_bytes / torch.cuda.get_device_properties(0).total_memory)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
