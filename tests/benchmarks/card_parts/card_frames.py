"""A candidate for the reader: frames that were decoded on the card become clips there, handed over by DLPack."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from vtag.engine.video.read.sampling import Sampling
from vtag.engine.video.read.views import Orientation, compute_geometry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from av.video.frame import VideoFrame

_BT709, _FULL_RANGE = 1, 2  # AVColorSpace, AVColorRange
_KR_KB = {_BT709: (0.2126, 0.0722)}
_BT601 = (0.299, 0.114)


def clips_on_card(frames: Iterable[VideoFrame], sampling: Sampling, step: int) -> Iterator[Tensor]:
    """Clips uint8 [T, H, W, 3] of every `step`-th frame, on the device of the frames."""
    pictures: list[Tensor] = []
    for number, frame in enumerate(frames):
        if number % step == 0:
            pictures.append(picture_on_card(frame, sampling))
        if len(pictures) == sampling.frames:
            yield torch.stack(pictures)
            pictures = []


def picture_on_card(frame: VideoFrame, sampling: Sampling) -> Tensor:
    """The centre crop of an NV12 frame, uint8 [H, W, 3] RGB, on the frame's device."""
    # PyAV synchronises with no stream, so torch must not ask for one: it gets the capsule itself
    luma, chroma = (torch.from_dlpack(plane.__dlpack__()) for plane in frame.planes)
    g = compute_geometry(frame.width, frame.height, Fraction(1), Orientation(), sampling)
    size = g.scaled_height, g.scaled_width
    y = _resize(luma[g.y : g.y + g.height, g.x : g.x + g.width, None], size)
    top, left, rows, columns = g.y // 2, g.x // 2, g.height // 2, g.width // 2
    uv = _resize(chroma[top : top + rows, left : left + columns], size)
    return _to_rgb(y[0], uv[0], uv[1], frame.colorspace, frame.color_range)


def _resize(plane: Tensor, size: tuple[int, int]) -> Tensor:
    """[H, W, C] -> float [C, *size]; each pixel is the mean of those that it covers."""
    return F.interpolate(plane.permute(2, 0, 1)[None].float(), size, mode="area")[0]


def _to_rgb(y: Tensor, u: Tensor, v: Tensor, colorspace: int, color_range: int) -> Tensor:
    kr, kb = _KR_KB.get(colorspace, _BT601)
    if color_range != _FULL_RANGE:
        y, u, v = (y - 16) * (255 / 219), (u - 128) * (255 / 224), (v - 128) * (255 / 224)
    else:
        u, v = u - 128, v - 128
    red = y + 2 * (1 - kr) * v
    blue = y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return torch.stack([red, green, blue], -1).round_().clamp_(0, 255).to(torch.uint8)
