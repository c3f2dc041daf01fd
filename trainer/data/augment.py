"""Augmentation of a whole clip: one crop, one mirroring and one colour change for all of its frames; and mixup."""

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

_CROP_ATTEMPTS = 10  # as torchvision's and mmaction2's RandomResizedCrop
_SIDE_WORDS = re.compile(r"\b(left|right)(wards?)?\b", re.IGNORECASE)
_LUMA = (0.299, 0.587, 0.114)  # BT.601


@dataclass(frozen=True)
class Augmentation:
    """How strongly clips are changed.

    `area` is the share of the picture that a crop takes and `aspect` its width by its height, lowest and highest
    each. `flip` is a probability. `colour` is the largest change of brightness, contrast and saturation from 1.
    """

    area: tuple[float, float] = (0.4, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    colour: float = 0.0
    mixup: float = 0.0  # alpha of the Beta distribution (Zhang et al., 2018); 0: no mixup


class ClipTransform(NamedTuple):
    """The changes to one clip: the crop in pixels, and factors for the colours."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool
    brightness: float
    contrast: float
    saturation: float


def mention_sides(labels: Iterable[str]) -> bool:
    """Whether a label says left or right; mirroring would then turn a clip of one label into one of another."""
    return any(_SIDE_WORDS.search(label) for label in labels)


def flip_probability(labels: Iterable[str], flip: float) -> float:
    """The probability of mirroring a clip: `flip`, or 0 if a label says left or right."""
    return 0.0 if mention_sides(labels) else flip


def draw_transform(
    rng: np.random.Generator, height: int, width: int, augmentation: Augmentation
) -> ClipTransform:
    """A random transform for clips of `height` x `width` pixels; it depends only on the state of `rng`."""
    crop = _draw_crop(rng, height, width, augmentation)
    mirrored = bool(rng.random() < augmentation.flip)
    factors = 1 + augmentation.colour * rng.uniform(-1, 1, 3)
    return ClipTransform(*crop, mirrored, *factors.tolist())


def apply_transform(clip: Tensor, transform: ClipTransform, size: int) -> Tensor:
    """`clip` uint8 [T, H, W, 3] as float32 [T, size, size, 3] with pixels from 0 to 255."""
    top, left, height, width = transform[:4]
    x = clip[:, top : top + height, left : left + width].permute(0, 3, 1, 2)
    if x.device.type != "cpu":
        x = x.float()  # torch resizes uint8 fast on the CPU only
    x = F.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)
    x = x.permute(0, 2, 3, 1).float()
    if transform.mirrored:
        x = x.flip(2)
    return _change_colours(x, transform)


def mix_clips(
    clips: Tensor, targets: Tensor, alpha: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Each of `clips` [B, T, H, W, 3] blended with its neighbour, and `targets` [B, K] in the same proportion."""
    if alpha <= 0 or len(clips) < 2:
        return clips, targets
    shares = torch.tensor(rng.beta(alpha, alpha, len(clips)), dtype=clips.dtype, device=clips.device)
    clip_shares, target_shares = shares.view(-1, 1, 1, 1, 1), shares.view(-1, 1)
    return (
        clips * clip_shares + clips.roll(1, 0) * (1 - clip_shares),
        targets * target_shares + targets.roll(1, 0) * (1 - target_shares),
    )


def _draw_crop(
    rng: np.random.Generator, height: int, width: int, augmentation: Augmentation
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop in pixels; the largest centre square if no attempt fits."""
    low, high = math.log(augmentation.aspect[0]), math.log(augmentation.aspect[1])
    for _ in range(_CROP_ATTEMPTS):
        area = height * width * rng.uniform(*augmentation.area)
        aspect = math.exp(rng.uniform(low, high))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def _change_colours(x: Tensor, transform: ClipTransform) -> Tensor:
    if transform.brightness == transform.contrast == transform.saturation == 1:
        return x
    x = x * transform.brightness
    grey = x @ torch.tensor(_LUMA, device=x.device).unsqueeze(1)
    x = grey + (x - grey) * transform.saturation
    x = grey.mean() + (x - grey.mean()) * transform.contrast
    return x.clamp(0, 255)
