"""The learning rate of every step: a linear warm-up, then half a cosine."""

from __future__ import annotations

import math


def learning_rate(
    step: int, total: int, *, peak: float, warmup: float = 0.0, ratio: float = 0.1, floor: float = 0.0
) -> float:
    """The learning rate of step `step` (from 0) of `total` optimiser steps.

    Half a cosine falls from `peak` to `floor` over all steps. During the first `warmup` steps it is multiplied by a
    factor that rises linearly from `ratio` to 1. The official recipe does the same by mmcv's
    `CosineAnnealingLrUpdaterHook` with `warmup='linear'`.
    """
    cosine = floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * step / max(1, total)))
    return cosine * (1 - (1 - step / warmup) * (1 - ratio)) if step < warmup else cosine
