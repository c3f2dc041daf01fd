"""Synthetic clips, on which two runtimes are compared if there is no video."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def wave_clips(clip: tuple[int, int, int], count: int) -> list[NDArray[np.uint8]]:
    """`count` clips uint8 [T, H, W, 3] of moving waves."""
    t, h, w = np.ogrid[: clip[0], : clip[1], : clip[2]]
    waves = []
    for number in range(count):
        channels = [
            127
            + 80 * np.sin(t / (3 + c) + h / (9 + 5 * number + c) + w / 13)
            + 40 * np.cos(w / 7 - t + number)
            for c in range(3)
        ]
        waves.append(np.stack(channels, -1).clip(0, 255).astype(np.uint8))
    return waves
