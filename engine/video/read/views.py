"""Which part of a picture becomes which pixels: the geometry of the views and of the published crops; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from vtag.engine.video.read.sampling import Sampling

_LONG_STEP = 32  # the whole frame's long side is a multiple of this: patch 4 x three mergings
_FULL_ASPECT = 2  # the whole frame's long side is at most this many short sides
_THREE_ASPECT = 3  # three square crops side by side cover no more than this


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is turned upright: first transposed, then mirrored left-right, then top-bottom."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @property
    def rotation(self) -> int:
        """Degrees clockwise (0, 90, 180, 270), mirroring apart."""
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
    """The size of a stored picture with square pixels: enlarged along one side, never shrunk."""
    if aspect >= 1:
        return max(1, round(width * aspect)), height
    return width, max(1, round(height / aspect))


def upright_size(width: int, height: int, aspect: Fraction, orientation: Orientation) -> tuple[int, int]:
    """Width and height as a person sees the video."""
    w, h = square_pixel_size(width, height, aspect)
    return (h, w) if orientation.transpose else (w, h)


def clip_size(upright: tuple[int, int], sampling: Sampling) -> tuple[int, int]:
    """Height and width of a view's pixels for a video of `upright` (width, height)."""
    if sampling.view != "full":
        return sampling.crop, sampling.crop
    w, h = upright
    long = _full_long_side(Fraction(max(w, h), min(w, h)), sampling.short_side)
    return (sampling.short_side, long) if w >= h else (long, sampling.short_side)


def compute_geometry(
    width: int, height: int, aspect: Fraction, orientation: Orientation, sampling: Sampling
) -> Geometry:
    """How a picture stored as `width` x `height` becomes the views of `sampling`.

    - `center`: the square of crop/short_side of the short side, from the middle: what is left when the short side
      is scaled to `short_side` and the middle `crop` is cut out.
    - `full`: the whole frame, short side `short_side`, long side the nearest multiple of 32; of a frame longer than
      2:1 the middle 2:1.
    - `three`: short side scaled to `crop` (as the published test protocol), three square crops along the long
      side: at its beginning, its end, its middle. Of a frame longer than 3:1 the middle 3:1.

    The region is cut out before it is scaled: an extreme shape asks for no huge picture.
    """
    w, h = upright_size(width, height, aspect, orientation)
    short, long = min(w, h), max(w, h)
    landscape = w >= h
    if sampling.view == "center":
        seen = Fraction(short * sampling.crop, sampling.short_side)
        seen_w = seen_h = seen
        scaled = crop = (sampling.crop, sampling.crop)
        crops: tuple[tuple[int, int], ...] = ((0, 0),)
    elif sampling.view == "full":
        seen_long = Fraction(min(long, _FULL_ASPECT * short))
        seen_w, seen_h = (seen_long, Fraction(short)) if landscape else (Fraction(short), seen_long)
        rows, columns = clip_size((w, h), sampling)
        scaled = crop = (columns, rows)
        crops = ((0, 0),)
    else:
        seen_long = Fraction(min(long, _THREE_ASPECT * short))
        seen_w, seen_h = (seen_long, Fraction(short)) if landscape else (Fraction(short), seen_long)
        scaled_long = max(sampling.crop, round(sampling.crop * seen_long / short))
        scaled = (scaled_long, sampling.crop) if landscape else (sampling.crop, scaled_long)
        crop = (sampling.crop, sampling.crop)
        room = scaled_long - sampling.crop
        crops = tuple((at, 0) if landscape else (0, at) for at in (0, room, room // 2))
    if orientation.transpose:
        share_x, share_y = seen_h / h, seen_w / w
        scaled = (scaled[1], scaled[0])
    else:
        share_x, share_y = seen_w / w, seen_h / h
    x, region_w = _middle(width, share_x)
    y, region_h = _middle(height, share_y)
    return Geometry(x, y, region_w, region_h, *scaled, *crop, crops)


def _full_long_side(ratio: Fraction, short_side: int) -> int:
    """The multiple of 32 nearest to the long side, within the cap; the short side itself for a square."""
    if ratio == 1:
        return short_side
    most = max(short_side, _FULL_ASPECT * short_side // _LONG_STEP * _LONG_STEP)
    long = round(min(ratio, Fraction(_FULL_ASPECT)) * short_side / _LONG_STEP) * _LONG_STEP
    return min(max(long, short_side), most)


def _middle(size: int, share: Fraction) -> tuple[int, int]:
    """Start and length of the middle `share` of `size` pixels.

    The margins are equal and even: chroma planes of half the size are cut at whole pixels only, and a picture that
    is stored upside down has to give the same region. The length is at most two pixels off for that.
    """
    ideal = size * share
    length = size - 4 * max(0, math.ceil((size - ideal) / 4 - Fraction(1, 2)))
    while length < 1:
        length += 4
    return (size - length) // 2, length


# --- the published pipelines ------------------------------------------------------------------------------------


def published_resize(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height after PaddleVideo's `Scale`: the short side exact, the other rounded half up."""
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
