"""Whether a window shows anything that the model did not see before: what `--skip-static` goes by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16  # pixels of the clip
_CHANGE = 4.0  # of 255


class ChangeDetector:
    """Knows the picture of one video that the model saw last.

    A frame differs from it where the mean of any block of 16 x 16 pixels, in any colour, is off by more than 4 of
    255: more than the noise of a codec or a sensor leaves in a mean, less than a person of 5 x 12 pixels makes. A
    window of which no frame differs from the last picture seen shows nothing new. So the first window of a video is
    always looked at, and every slide once.
    """

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None

    def has_change(self, pixels: NDArray[np.uint8]) -> bool:
        """Whether a clip uint8 [V, T, H, W, 3] has to be looked at; its last frame is compared with from then on."""
        blocks = _means(pixels)
        if self._last is not None and self._last.shape == blocks[:, 0].shape:
            change = np.abs(blocks - self._last[:, None]).max()
            if change <= _CHANGE:
                return False
        self._last = blocks[:, -1].copy()
        return True


def _means(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means of blocks, float32 [V, T, H', W', 3]; what is left at the right and lower border is a block too."""
    height, width = pixels.shape[2:4]
    down, right = np.arange(0, height, _BLOCK), np.arange(0, width, _BLOCK)
    sums = np.add.reduceat(np.add.reduceat(pixels, right, axis=3, dtype=np.uint32), down, axis=2)
    areas = np.diff(np.append(down, height))[:, None] * np.diff(np.append(right, width))[None]
    return np.asarray(sums / areas[..., None], np.float32)
