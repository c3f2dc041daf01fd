"""Clips for training and for the test: parts of real clips, and stills under a moving camera."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vtag.trainer.starter.data import Pixels, clip_starts, frame_indices, uniform_crops
from vtag.trainer.starter.views import random_crop, resize

FRAMES = 8
TEST_CLIPS = 4


def training_clip(footage: Pixels, rng: np.random.Generator, *, size: int) -> Pixels:
    """A random stretch and part of a clip, half of them mirrored: uint8 [FRAMES, size, size, 3].

    Mostly every second frame, as in the test; sometimes every frame or every third. Never backwards.
    """
    step = int(rng.choice((1, 2, 3), p=(0.15, 0.65, 0.2)))
    start = int(rng.integers(max(1, len(footage) - step * FRAMES + 1)))
    frames = footage[frame_indices(start, len(footage), length=FRAMES, step=step)]
    clip = random_crop(frames, rng, size=size, least=0.35)
    return clip[:, :, ::-1] if rng.random() < 0.5 else clip


def camera_move(still: Pixels, rng: np.random.Generator, *, size: int) -> Pixels:
    """A still [1, H, W, 3] as a clip: a window glides and zooms over it, uint8 [FRAMES, size, size, 3]."""
    height, width = still.shape[1:3]
    short = min(height, width)
    first, last = short * rng.uniform(0.6, 1.0, size=2)
    sides = np.linspace(float(first), float(last), FRAMES)
    ends = rng.uniform(size=(2, 2))
    ends[1] = ends[0] + rng.uniform(0, 1) * (ends[1] - ends[0])
    frames = []
    for side, (y, x) in zip(sides, np.linspace(ends[0], ends[1], FRAMES), strict=True):
        n = int(side)
        top, left = round(y * (height - n)), round(x * (width - n))
        frames.append(resize(still[:, top : top + n, left : left + n], (size, size)))
    clip = np.concatenate(frames)
    return clip[:, :, ::-1] if rng.random() < 0.5 else clip


def test_views(footage: Pixels, *, size: int) -> Pixels:
    """The 4 clips x 3 crops that `predict --protocol test` takes: uint8 [12, FRAMES, size, size, 3]."""
    height, width = footage.shape[1:3]
    scale = size / min(height, width)
    shape = (max(size, int(height * scale)), max(size, int(width * scale)))
    out = []
    for start in clip_starts(len(footage), length=FRAMES, clips=TEST_CLIPS):
        clip = resize(footage[frame_indices(start, len(footage), length=FRAMES)], shape)
        out.extend(uniform_crops(clip, crop=size))
    return np.stack(out)


def stack(clips: Sequence[Pixels]) -> Tensor:
    """Clips of one shape as a tensor uint8 [B, T, H, W, 3]."""
    return torch.from_numpy(np.stack(clips))
