"""Clips for training and for the test: parts of real clips, and stills under a moving camera."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vtag.engine.video.read.resize import resize_bilinear
from vtag.engine.video.read.views import published_resize, published_uniform_crops
from vtag.trainer.recipes.starter.data import Pixels, clip_starts, frame_indices
from vtag.trainer.recipes.starter.views import random_crop, resize

FRAMES = 8
TEST_CLIPS = 4
SCAN_STEP = 4  # frames: of footage of 30 a second, the scan looks at every fourth
MOVING = 0.3  # share of the clips that a moving camera films
FROZEN = 0.3  # share of these that show one frame only
BARRED = 0.15  # share of the clips that get black bars, so that these tell nothing
DARK = 32  # of 255: what a black bar does not pass, compressed


def training_clip(footage: Pixels, rng: np.random.Generator, *, size: int) -> Pixels:
    """A random stretch and part of a clip, half of them mirrored: uint8 [FRAMES, size, size, 3].

    Some are filmed by a moving camera and some of these stand still: otherwise the network would learn that a camera
    which moves over a still shows nothing that it knows. Never backwards.
    """
    step = random_step(rng)
    start = int(rng.integers(max(1, len(footage) - int(step * (FRAMES - 1)))))
    order = frame_indices(start, len(footage), length=FRAMES, step=step)
    if rng.random() < MOVING:
        clip = camera_move(footage[order[:1] if rng.random() < FROZEN else order], rng, size=size)
    else:
        clip = random_crop(footage[order], rng, size=size, least=0.35)
        clip = clip[:, :, ::-1] if rng.random() < 0.5 else clip
    return barred(clip, rng) if rng.random() < BARRED else clip


def barred(clip: Pixels, rng: np.random.Generator) -> Pixels:
    """The clip [T, S, S, 3] behind black bars above and below, or at the sides."""
    n = int(rng.uniform(0.04, 0.17) * clip.shape[1])
    out = clip.copy()
    shown = out if rng.random() < 0.7 else out.transpose(0, 2, 1, 3)
    shown[:, :n] = shown[:, -n:] = 0
    return out


def lit_rows(footage: Pixels) -> slice:
    """The rows of footage [T, H, W, 3] between the black bars above and below: some data sets are known by theirs."""
    lit = np.flatnonzero(np.percentile(footage[::6], 98, axis=(0, 2, 3)) > DARK)
    if len(lit) < footage.shape[1] // 2:  # a dark scene
        return slice(0, footage.shape[1])
    return slice(int(lit[0]), int(lit[-1]) + 1)


def random_step(rng: np.random.Generator) -> float:
    """Frames from one to the next: mostly the test's 2, often a scan's, sometimes slow motion."""
    kind = rng.random()
    if kind < 0.5:
        return 2.0
    return float(SCAN_STEP if kind < 0.75 else 3.0 if kind < 0.85 else rng.uniform(0.4, 2.0))


def camera_move(frames: Pixels, rng: np.random.Generator, *, size: int) -> Pixels:
    """A camera glides and zooms over frames [FRAMES or 1, H, W, 3]: uint8 [FRAMES, size, size, 3].

    Of one frame, a still, it makes a clip. Some of the cameras stand and some are held by hand.
    """
    height, width = frames.shape[1:3]
    short = min(height, width)
    first, last = short * rng.uniform(0.6, 1.0, size=2)
    sides = np.linspace(float(first), float(last), FRAMES)
    ends = rng.uniform(size=(2, 2))
    ends[1] = ends[0] + rng.choice((0.0, rng.uniform()), p=(0.2, 0.8)) * (ends[1] - ends[0])
    path = np.linspace(ends[0], ends[1], FRAMES)
    if rng.random() < 0.3:
        path = (path + rng.normal(0, 0.03, path.shape)).clip(0, 1)
    clip = []
    for i, (side, (y, x)) in enumerate(zip(sides, path, strict=True)):
        n, frame = int(side), frames[i % len(frames)]
        top, left = round(y * (height - n)), round(x * (width - n))
        clip.append(resize(frame[None, top : top + n, left : left + n], (size, size)))
    out = np.concatenate(clip)
    return out[:, :, ::-1] if rng.random() < 0.5 else out


def emptied(clip: Pixels, rng: np.random.Generator) -> Pixels:
    """What people's videos hold as well: the clip almost black, one colour with noise, or a few flat stripes."""
    kind = rng.integers(3)
    if kind == 0:
        return (clip * rng.uniform(0, 0.15)).astype(np.uint8)
    _, height, width, _ = clip.shape
    stripes = 1 if kind == 1 else int(rng.integers(2, 9))
    colours = rng.uniform(0, 255, (stripes, 3))[np.arange(width) * stripes // width]
    noise = rng.normal(0, rng.uniform(0, 12), (1, height, width, 1))
    return np.broadcast_to(colours + noise, clip.shape).clip(0, 255).astype(np.uint8)


def test_views(footage: Pixels, *, size: int) -> Pixels:
    """The 3 crops x 4 clips that `predict --protocol test` takes: uint8 [12, FRAMES, size, size, 3]."""
    order = [
        frame_indices(start, len(footage), length=FRAMES)
        for start in clip_starts(len(footage), length=FRAMES, clips=TEST_CLIPS)
    ]
    width, height = published_resize(footage.shape[2], footage.shape[1], size)
    small = {i: resize_bilinear(footage[i], width, height) for i in set().union(*order)}
    places = published_uniform_crops(width, height, size)
    return np.stack(
        [np.stack([small[i][y : y + size, x : x + size] for i in clip]) for x, y in places for clip in order]
    )


def stack(clips: Sequence[Pixels]) -> Tensor:
    """Clips of one shape as a tensor uint8 [B, T, H, W, 3]."""
    return torch.from_numpy(np.stack(clips))
