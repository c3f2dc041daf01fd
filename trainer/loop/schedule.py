"""The learning rate of every step: a linear warm-up into half a cosine; a pure function."""

from __future__ import annotations

import math


def learning_rate(
    step: int, total: int, *, peak: float, warmup: float = 0.0, ratio: float = 0.1, floor: float = 0.0
) -> float:
    """The rate of step `step` (from 0) of `total`, stepped every iteration.

    Half a cosine from `peak` to `floor` over all steps; during the first `warmup` steps it is multiplied by a line
    that rises from `ratio` to 1 (mmcv's `CosineAnnealingLrUpdaterHook`, `warmup='linear'`: the official recipe).
    """
    cosine = floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * step / max(1, total)))
    return cosine * (1 - (1 - step / warmup) * (1 - ratio)) if step < warmup else cosine
