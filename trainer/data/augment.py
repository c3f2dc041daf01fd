"""What training does to a whole clip: one crop, one mirror, one change of colour for all of its frames; and mixup."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_TRIES = 10  # as torchvision's and mmaction2's RandomResizedCrop
_SIDED = re.compile(r"\b(left|right)(wards?)?\b", re.IGNORECASE)
_GREY = (0.299, 0.587, 0.114)  # luma of BT.601


@dataclass(frozen=True)
class Augmentation:
    """How much may change; `area` and `aspect` are the crop's, `colour` the largest change of a factor from 1."""

    area: tuple[float, float] = (0.4, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    colour: float = 0.0
    mixup: float = 0.0  # alpha of the Beta distribution (Zhang et al., 2018); 0: none


class ClipTransform(NamedTuple):
    """What is done to one clip: the crop in pixels, and factors of colour."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool
    brightness: float
    contrast: float
    saturation: float


def mention_sides(labels: Iterable[str]) -> bool:
    """Whether a label says left or right, so that a mirrored clip would be another label's."""
    return any(_SIDED.search(label) for label in labels)


def draw_transform(rng: np.random.Generator, height: int, width: int, how: Augmentation) -> ClipTransform:
    """A random change for clips of `height` x `width`; the same `rng` gives the same."""
    crop = _crop(rng, height, width, how)
    mirrored = bool(rng.random() < how.flip)
    factors = 1 + how.colour * rng.uniform(-1, 1, 3)
    return ClipTransform(*crop, mirrored, *factors.tolist())


def apply_transform(clip: Tensor, change: ClipTransform, size: int) -> Tensor:
    """`clip` uint8 [T, H, W, 3] as float32 [T, size, size, 3] of pixels 0 to 255."""
    top, left, height, width = change[:4]
    x = clip[:, top : top + height, left : left + width].permute(0, 3, 1, 2)
    if x.device.type != "cpu":
        x = x.float()  # torch has its fast path for uint8 on the processor alone
    x = F.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)
    x = x.permute(0, 2, 3, 1).float()
    if change.mirrored:
        x = x.flip(2)
    return _coloured(x, change)


def mix_clips(
    clips: Tensor, targets: Tensor, alpha: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Each of `clips` [B, T, H, W, 3] blended with its neighbour's, and `targets` [B, K] likewise."""
    if alpha <= 0 or len(clips) < 2:
        return clips, targets
    share = torch.tensor(rng.beta(alpha, alpha, len(clips)), dtype=clips.dtype, device=clips.device)
    of_clips, of_targets = share.view(-1, 1, 1, 1, 1), share.view(-1, 1)
    return (
        clips * of_clips + clips.roll(1, 0) * (1 - of_clips),
        targets * of_targets + targets.roll(1, 0) * (1 - of_targets),
    )


def _crop(rng: np.random.Generator, height: int, width: int, how: Augmentation) -> tuple[int, int, int, int]:
    low, high = math.log(how.aspect[0]), math.log(how.aspect[1])
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*how.area)
        aspect = math.exp(rng.uniform(low, high))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def _coloured(x: Tensor, change: ClipTransform) -> Tensor:
    if change.brightness == change.contrast == change.saturation == 1:
        return x
    x = x * change.brightness
    grey = x @ torch.tensor(_GREY, device=x.device).unsqueeze(1)
    x = grey + (x - grey) * change.saturation
    x = grey.mean() + (x - grey.mean()) * change.contrast
    return x.clamp(0, 255)
