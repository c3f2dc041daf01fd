"""The arithmetic clip of the golden files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def formula(shape: tuple[int, ...] | list[int]) -> NDArray[np.uint8]:
    """The golden files' arithmetic clip, uint8 [N, 3, T, H, W]."""
    n, c, t, h, w = np.ogrid[tuple(slice(size) for size in shape)]
    total = 101 * n + 53 * c + 37 * t + 3 * (c + 1) * h + 7 * w
    return ((total + (h * w) // (5 + c) + (t * h) // 3 + (t * t * w) // 11) % 256).astype(np.uint8)
