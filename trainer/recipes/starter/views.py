"""Views: square pictures cut from stills and frames, each with what the teacher sees in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from vtag.trainer.recipes.starter.data import Item, Pixels, load_footage
from vtag.trainer.recipes.starter.teacher import load_teacher, teacher_maps

VIEW = 144  # pixels: more than the student sees, so that a step can cut its own part of a view
STILL_CROPS = 2  # random views of a still beside the whole of it
WHOLE_FRAMES = 8  # of a clip, squashed to a square; also what the teacher's clip features are made from
CROPPED_FRAMES = 6
MOST_FRAMES = 150  # 4 s at up to 37 frames a second


def resize(pictures: Pixels, size: tuple[int, int]) -> Pixels:
    """Pictures uint8 [T, H, W, 3] at `size` (height, width), smoothed where they shrink."""
    x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
    # on uint8 this is torch's fast path, a few times faster than on float
    x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
    return x.permute(0, 2, 3, 1).numpy()


def random_crop(pictures: Pixels, rng: np.random.Generator, *, size: int, least: float = 0.3) -> Pixels:
    """One random part of all `pictures` [T, H, W, 3] (area from `least` to 1, aspect 3:4 to 4:3), squared."""
    height, width = pictures.shape[1:3]
    side = np.sqrt(rng.uniform(least, 1.0) * min(height, width) * max(height, width))
    stretch = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)) / 2)
    h, w = (int(min(full, side * s)) for full, s in ((height, 1 / stretch), (width, stretch)))
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    return resize(pictures[:, top : top + h, left : left + w], (size, size))


def still_views(still: Pixels, rng: np.random.Generator, *, size: int) -> Pixels:
    """The views of a still [1, H, W, 3]: uint8 [1 + STILL_CROPS, size, size, 3]."""
    crops = [random_crop(still, rng, size=size) for _ in range(STILL_CROPS)]
    return np.concatenate([resize(still, (size, size)), *crops])


def clip_views(clip: Pixels, rng: np.random.Generator, *, size: int) -> Pixels:
    """The views of a clip: WHOLE_FRAMES spread over it, then CROPPED_FRAMES random parts of random frames."""
    whole = np.linspace(0, len(clip) - 1, WHOLE_FRAMES).round().astype(int)
    crops = [
        random_crop(clip[i : i + 1], rng, size=size) for i in rng.integers(len(clip), size=CROPPED_FRAMES)
    ]
    return np.concatenate([resize(clip[whole], (size, size)), *crops])


def make_views(
    folder: Path, pattern: str, *, stills: bool, size: int, seed: int, device: torch.device
) -> dict[str, Any]:
    """All views of a folder's files and the teacher's maps of them.

    Returns `items`, `footage` (uint8 [T, H, W, 3] each), `views` uint8 [N, size, size, 3], `owner` [N] (the
    item a view is of) and `maps` bf16 [N, 7, 7, 1280].
    """
    items, footage = load_footage(folder, pattern, most=MOST_FRAMES)
    views, owner = cut_views(items, footage, stills=stills, size=size, seed=seed)
    maps = teacher_maps(load_teacher(device), views)
    return {"items": items, "footage": footage, "views": views, "owner": owner, "maps": maps}


def cut_views(
    items: Sequence[Item], footage: Sequence[Pixels], *, stills: bool, size: int, seed: int
) -> tuple[Pixels, np.ndarray]:
    """The views of every item in order, and for each view the index of its item."""
    rng = np.random.default_rng(seed)
    cut = still_views if stills else clip_views
    parts = [cut(frames, rng, size=size) for frames in footage]
    owner = np.repeat(np.arange(len(items)), [len(part) for part in parts])
    return np.concatenate(parts), owner
