"""Windows of a Video Swin as plain functions: sizes, partition, position index and shift mask.

All sizes are in T, H, W order. The tables follow from sizes alone; the modules cache them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int, int]

BLOCKED = -100.0  # the references add this to masked scores, not minus infinity


def fit_window(size: Size, window: Size, shift: Size) -> tuple[Size, Size]:
    """The window and shift for a feature map. An axis that is not longer than its window is one unshifted window."""
    fitted = [(s, 0) if s <= w else (w, d) for s, w, d in zip(size, window, shift, strict=True)]
    return _size(w for w, _ in fitted), _size(d for _, d in fitted)


def padded_size(size: Size, multiple: Size) -> Size:
    """`size` with each axis rounded up to a multiple of `multiple`."""
    return _size(-(-s // m) * m for s, m in zip(size, multiple, strict=True))


def pad_to(x: Tensor, size: Size) -> Tensor:
    """[B, T, H, W, C] with zeros appended to each axis, up to `size`."""
    t, h, w = (target - length for target, length in zip(size, x.shape[1:4], strict=True))
    return F.pad(x, (0, 0, 0, w, 0, h, 0, t)) if t or h or w else x


def partition(x: Tensor, window: Size) -> Tensor:
    """[B, T, H, W, C] -> [B, windows, tokens, C]. Each axis must be a multiple of its window."""
    b, t, h, w, c = x.shape
    wt, wh, ww = window
    x = x.reshape(b, t // wt, wt, h // wh, wh, w // ww, ww, c)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(b, -1, wt * wh * ww, c)


def join(windows: Tensor, window: Size, size: Size) -> Tensor:
    """The inverse of `partition`: [B, windows, tokens, C] -> [B, T, H, W, C]."""
    b, c = windows.shape[0], windows.shape[-1]
    (t, h, w), (wt, wh, ww) = size, window
    x = windows.reshape(b, t // wt, h // wh, w // ww, wt, wh, ww, c)
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, t, h, w, c)


def relative_position_index(window: Size, tokens: int) -> NDArray[np.int64]:
    """Rows of the bias table for each pair of the first `tokens` tokens of a full window, [tokens, tokens].

    A smaller window takes the corner [:N, :N] of the full window's index. If H or W is smaller, these are not the
    true offsets of the pairs. The references do the same, and the published weights were trained with it.
    """
    grid = np.stack(np.unravel_index(np.arange(tokens), window))
    offset = grid[:, :, None] - grid[:, None, :]
    rows = [2 * size - 1 for size in window]
    index = np.zeros((tokens, tokens), np.int64)
    for axis in range(3):
        index = index * rows[axis] + offset[axis] + window[axis] - 1
    return index


def shift_mask(size: Size, window: Size, shift: Size) -> NDArray[np.bool_]:
    """Pairs of tokens that must not attend to each other after a cyclic shift: bool [windows, tokens, tokens].

    `size` is the padded feature map. After the roll, the last window of a shifted axis contains both the end and the
    beginning of the map. Padding is not masked, as in the references.
    """
    region = np.zeros(size, np.int64)
    for axis in range(3):
        along = np.zeros(size[axis], np.int64)
        if shift[axis]:
            along[-window[axis] :] = 1
            along[-shift[axis] :] = 2
        region = region * 3 + along.reshape([-1 if a == axis else 1 for a in range(3)])
    in_windows = partition(torch.from_numpy(region)[None, ..., None], window)[0, :, :, 0].numpy()
    return np.asarray(in_windows[:, :, None] != in_windows[:, None, :])


def _size(values: Iterable[int]) -> Size:
    t, h, w = values
    return t, h, w
