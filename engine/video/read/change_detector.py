"""Detects windows that show nothing new, for `--skip-static`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16  # pixels of the clip, each side of a block
_MIN_CHANGE = 4.0  # of 255, of a block's mean


class ChangeDetector:
    """Compares each clip of one video with the last frame that the model got.

    A frame differs if the mean of any block of 16 x 16 pixels, in any colour, changed by more than 4 of 255. That is
    more than the noise of a codec or a sensor, and less than a person of 5 x 12 pixels. A clip without a frame that
    differs shows nothing new. So the model gets the first window of a video, and each slide of a talk once.
    """

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None

    def has_change(self, pixels: NDArray[np.uint8]) -> bool:
        """Whether a clip uint8 [V, T, H, W, 3] shows anything new; if so, its last frame is the next reference."""
        blocks = _means(pixels)
        if self._last is not None and self._last.shape == blocks[:, 0].shape:
            change = np.abs(blocks - self._last[:, None]).max()
            if change <= _MIN_CHANGE:
                return False
        self._last = blocks[:, -1].copy()
        return True


def _means(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means of blocks, float32 [V, T, H', W', 3]; at the right and lower border blocks may be smaller."""
    height, width = pixels.shape[2:4]
    down, right = np.arange(0, height, _BLOCK), np.arange(0, width, _BLOCK)
    sums = np.add.reduceat(np.add.reduceat(pixels, right, axis=3, dtype=np.uint32), down, axis=2)
    areas = np.diff(np.append(down, height))[:, None] * np.diff(np.append(right, width))[None]
    return np.asarray(sums / areas[..., None], np.float32)
