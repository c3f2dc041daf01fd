"""Geometry of the views and of the published crops: which part of a picture becomes which pixels. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from vtag.engine.video.read.sampling import Sampling

_T = TypeVar("_T", int, Fraction)
_LONG_SIDE_STEP = 32  # pixels: patch size 4 x three mergings by 2; the long side of `full` is a multiple
_MAX_FULL_ASPECT = 2  # long side over short side of the view `full`
_MAX_THREE_ASPECT = 3  # three square crops side by side cover no more


@dataclass(frozen=True)
class Orientation:
    """How to turn a stored picture upright: first transpose, then mirror left-right, then top-bottom."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @property
    def rotation(self) -> int:
        """Degrees clockwise (0, 90, 180, 270), without the mirroring."""
        if self.transpose:
            return 270 if self.mirror_y and not self.mirror_x else 90
        return 180 if self.mirror_y and self.mirror_x else 0

    @classmethod
    def from_display_matrix(cls, matrix: tuple[int, ...]) -> Orientation:
        """The nearest right-angled orientation of a display matrix (nine numbers, row by row, as in ISO 14496-12).

        A stored pixel (p, q) is shown at (a p + c q, b p + d q).
        """
        a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)


@dataclass(frozen=True)
class Geometry:
    """How one stored picture becomes the crops of a view.

    The region (`x`, `y`, `width`, `height`, stored pixels) is scaled to `scaled_width` x `scaled_height`, still as
    stored; turned upright; then each crop (x, y) of `crop_width` x `crop_height` is one view.
    """

    x: int
    y: int
    width: int
    height: int
    scaled_width: int
    scaled_height: int
    crop_width: int
    crop_height: int
    crops: tuple[tuple[int, int], ...]


def square_pixel_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Width and height of a stored picture with square pixels: enlarged along one side, never shrunk."""
    if aspect >= 1:
        return max(1, round(width * aspect)), height
    return width, max(1, round(height / aspect))


def upright_size(width: int, height: int, aspect: Fraction, orientation: Orientation) -> tuple[int, int]:
    """Width and height of the video as it is displayed."""
    w, h = square_pixel_size(width, height, aspect)
    return (h, w) if orientation.transpose else (w, h)


def clip_size(upright: tuple[int, int], sampling: Sampling) -> tuple[int, int]:
    """Height and width of a view, for a video of displayed size `upright` (width, height)."""
    if sampling.view != "full":
        return sampling.crop, sampling.crop
    w, h = upright
    long = _full_long_side(Fraction(max(w, h), min(w, h)), sampling.short_side)
    return (sampling.short_side, long) if w >= h else (long, sampling.short_side)


def compute_geometry(
    width: int, height: int, aspect: Fraction, orientation: Orientation, sampling: Sampling
) -> Geometry:
    """How a picture stored as `width` x `height` becomes the views of `sampling`.

    - `center`: the short side is scaled to `short_side`, then the middle square of `crop` is cut out.
    - `full`: the whole frame, short side `short_side`, long side the nearest multiple of 32. If the frame is longer
      than 2:1, its middle 2:1.
    - `three`: the short side is scaled to `crop` (as in the published test protocol), then three square crops are cut
      out along the long side: at its start, end and middle. If the frame is longer than 3:1, of its middle 3:1.

    The region is cut out before it is scaled, so an extreme shape needs no huge picture.
    """
    w, h = upright_size(width, height, aspect, orientation)
    short, long = min(w, h), max(w, h)
    is_landscape = w >= h
    if sampling.view == "center":
        region_width = region_height = Fraction(short * sampling.crop, sampling.short_side)
        scaled = crop = (sampling.crop, sampling.crop)
        crops: tuple[tuple[int, int], ...] = ((0, 0),)
    elif sampling.view == "full":
        region_long = Fraction(min(long, _MAX_FULL_ASPECT * short))
        region_width, region_height = _sides(region_long, Fraction(short), is_landscape)
        rows, columns = clip_size((w, h), sampling)
        scaled = crop = (columns, rows)
        crops = ((0, 0),)
    else:
        region_long = Fraction(min(long, _MAX_THREE_ASPECT * short))
        region_width, region_height = _sides(region_long, Fraction(short), is_landscape)
        scaled_long = max(sampling.crop, round(sampling.crop * region_long / short))
        scaled = _sides(scaled_long, sampling.crop, is_landscape)
        crop = (sampling.crop, sampling.crop)
        end = scaled_long - sampling.crop
        crops = tuple(_sides(offset, 0, is_landscape) for offset in (0, end, end // 2))
    share_x, share_y = region_width / w, region_height / h
    if orientation.transpose:
        share_x, share_y = share_y, share_x
        scaled = (scaled[1], scaled[0])
    x, stored_width = _middle(width, share_x)
    y, stored_height = _middle(height, share_y)
    return Geometry(x, y, stored_width, stored_height, *scaled, *crop, crops)


def _sides(long: _T, short: _T, is_landscape: bool) -> tuple[_T, _T]:
    """Width and height."""
    return (long, short) if is_landscape else (short, long)


def _full_long_side(ratio: Fraction, short_side: int) -> int:
    """The multiple of 32 nearest to the long side, at most 2:1; the short side itself for a square."""
    if ratio == 1:
        return short_side
    longest = max(short_side, _MAX_FULL_ASPECT * short_side // _LONG_SIDE_STEP * _LONG_SIDE_STEP)
    long = round(min(ratio, Fraction(_MAX_FULL_ASPECT)) * short_side / _LONG_SIDE_STEP) * _LONG_SIDE_STEP
    return min(max(long, short_side), longest)


def _middle(size: int, share: Fraction) -> tuple[int, int]:
    """Start and length of the middle `share` of `size` pixels.

    The margins are equal, so that a picture that is stored upside down has the same region. They are even, because
    chroma planes of half the size can be cut at whole pixels only. So the length is up to two pixels off.
    """
    ideal = size * share
    length = size - 4 * max(0, math.ceil((size - ideal) / 4 - Fraction(1, 2)))
    while length < 1:
        length += 4
    return (size - length) // 2, length


# --- the published pipelines ------------------------------------------------------------------------------------


def published_resize(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height after PaddleVideo's `Scale`: the short side exact, the other one rounded half up."""
    if width < height:
        return short_side, int(height * (short_side / width) + 0.5)
    return int(width * (short_side / height) + 0.5), short_side


def published_center_crop(width: int, height: int, crop: int) -> tuple[int, int]:
    """x and y of the crop that `tools/predict.py` takes: rounded, halves to even (its training yaml rounds down)."""
    return round((width - crop) / 2.0), round((height - crop) / 2.0)


def published_uniform_crops(width: int, height: int, crop: int) -> list[tuple[int, int]]:
    """x and y of PaddleVideo's three crops: beginning, end (not always flush), middle of the long side."""
    if height > width:
        step = (height - crop) // 2
        return [(0, 0), (0, 2 * step), (0, step)]
    step = (width - crop) // 2
    return [(0, 0), (2 * step, 0), (step, 0)]
