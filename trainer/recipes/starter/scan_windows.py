"""What a scan shows the network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vtag.trainer.recipes.starter.clips import FRAMES, SCAN_STEP
from vtag.trainer.recipes.starter.data import Pixels
from vtag.trainer.recipes.starter.student import CROP
from vtag.trainer.recipes.starter.views import resize

RATE = 7.5  # frames a second of a scan: a window is 1.07 s, twice as long as the test's at 30 frames a second


def scan_windows(footage: Pixels) -> Tensor:
    """A scan's windows of footage [T, H, W, 3] of 30 frames a second, middle crop: uint8 [N, FRAMES, S, S, 3]."""
    frames = footage[::SCAN_STEP]
    height, width = frames.shape[1:3]
    scale = CROP / min(height, width)
    starts = list(range(0, max(1, len(frames) - FRAMES + 1), FRAMES))
    if len(frames) > starts[-1] + FRAMES:
        starts.append(len(frames) - FRAMES)
    small = resize(frames, (max(CROP, int(height * scale)), max(CROP, int(width * scale))))
    y, x = (small.shape[1] - CROP) // 2, (small.shape[2] - CROP) // 2
    small = small[:, y : y + CROP, x : x + CROP]
    order = [[min(start + i, len(small) - 1) for i in range(FRAMES)] for start in starts]
    return torch.from_numpy(small[np.array(order)])
