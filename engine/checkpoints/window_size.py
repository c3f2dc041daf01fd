"""Infers a checkpoint's window from the number of bias rows and the position index."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtag.engine.errors import ModelError

Size = tuple[int, int, int]

PUBLISHED: tuple[Size, ...] = ((8, 7, 7), (16, 7, 7))
_MAX_SIDE = 64
_MAX_ROWS = 1_000_000


def find_window(rows: int, index: NDArray[Any] | None) -> Size:
    """The window (T, H, W) whose bias table has `rows` rows.

    Args:
        rows: the product of 2w-1 over the three axes.
        index: the file's relative position index [N, N], which is only compared. The window with this index is
            certain. If none has it, or it is None, published windows come first, then the plausible ones: square,
            near 7x7, long in time.

    Raises ModelError if no window fits.
    """
    fitting = sorted(possible_windows(rows), key=_plausibility_key)
    if index is not None:
        fitting = [w for w in fitting if math.prod(w) == index.shape[0]]
    if not fitting:
        raise ModelError(f"no window has {rows} relative positions: its bias tables are broken")
    if index is not None:
        for window in fitting:
            if _has_index(window, index):
                return window
    return fitting[0]


def possible_windows(rows: int) -> list[Size]:
    """All windows with sides of up to 64 whose bias table has `rows` rows."""
    if not 1 <= rows <= _MAX_ROWS or rows % 2 == 0:
        return []
    sides = [2 * size - 1 for size in range(1, _MAX_SIDE + 1) if rows % (2 * size - 1) == 0]
    return [
        ((t + 1) // 2, (h + 1) // 2, (w + 1) // 2)
        for t in sides
        for h in sides
        if rows % (t * h) == 0 and (w := rows // (t * h)) in sides
    ]


def _has_index(window: Size, index: NDArray[Any]) -> bool:
    """Whether the first row of `index`, from the first token to all tokens, is this window's."""
    grid = np.stack(np.unravel_index(np.arange(index.shape[0]), window))
    row = np.zeros(index.shape[0], np.int64)
    for axis, size in enumerate(window):
        row = row * (2 * size - 1) + size - 1 - grid[axis]
    return bool(np.array_equal(index[0], row))


def _plausibility_key(window: Size) -> tuple[bool, bool, int, int]:
    t, h, w = window
    return window not in PUBLISHED, h != w, abs(h - 7) + abs(w - 7), -t
