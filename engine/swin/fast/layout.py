"""Tables of the tokens that attend together in a feature map, for the fast network.

The plain module pads, rolls, partitions and masks the map, and reverses it all. Here each block has one table of
token numbers. Its rows, gathered in this order, are the windows one after the other. A shifted window at the border
contains pairs that must not attend to each other. It is either split into parts without such pairs (`split`), or kept
with its mask.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vtag.engine.swin.windows import Size, fit_window, padded_size, relative_position_index

PADDING = -1


@dataclass(frozen=True)
class Group:
    """Windows, or parts of windows, with the same attention bias.

    `cells` [windows, tokens] are token numbers of the map, or PADDING outside of it. `rows` [tokens, tokens] are rows
    of the bias table. `blocked` bool [tokens, tokens] are the pairs that must not attend to each other (None: none).
    """

    cells: NDArray[np.int64]
    rows: NDArray[np.int64]
    blocked: NDArray[np.bool_] | None

    @cached_property
    def key(self) -> str:
        """A name that is equal for groups with equal biases."""
        digest = hashlib.sha256(self.rows.tobytes())
        digest.update(b"" if self.blocked is None else self.blocked.tobytes())
        return f"bias_{digest.hexdigest()[:32]}"


@dataclass(frozen=True)
class _Part:
    """A window, or a part of it, along one axis: coordinates in map and window, and regions after the shift."""

    cells: NDArray[np.int64]
    positions: NDArray[np.int64]
    regions: NDArray[np.int64]


def group_windows(size: Size, window: Size, shift: Size, *, split: bool) -> tuple[Group, ...]:
    """The windows of a map of `size`, grouped by their bias. Each token is in exactly one window."""
    fitted, shift = fit_window(size, window, shift)
    padded = padded_size(size, fitted)
    axes = [_parts(*axis, split=split) for axis in zip(padded, fitted, shift, strict=True)]
    cells_by_key: dict[tuple[bytes, bytes], list[NDArray[np.int64]]] = {}
    pairs_by_key: dict[tuple[bytes, bytes], tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    for parts in itertools.product(*axes):
        cells = _numbers([part.cells for part in parts], size)
        if (cells == PADDING).all():
            continue
        positions = _numbers([part.positions for part in parts], fitted)
        regions = _numbers([part.regions for part in parts], (3, 3, 3))
        key = positions.tobytes(), regions.tobytes()
        cells_by_key.setdefault(key, []).append(cells)
        pairs_by_key[key] = positions, regions
    index = relative_position_index(window, fitted[0] * fitted[1] * fitted[2])
    groups: dict[str, Group] = {}
    for key, window_cells in cells_by_key.items():
        positions, regions = pairs_by_key[key]
        blocked = regions[:, None] != regions
        group = Group(
            np.stack(window_cells), index[np.ix_(positions, positions)], blocked if blocked.any() else None
        )
        equal_group = groups.get(group.key)
        groups[group.key] = group if equal_group is None else _join(equal_group, group)
    return tuple(groups.values())


def group_cells(groups: Sequence[Group]) -> NDArray[np.int64]:
    """The token number of every row, group after group."""
    return np.concatenate([group.cells.ravel() for group in groups])


def token_rows(cells: NDArray[np.int64], tokens: int) -> NDArray[np.int64]:
    """The row of each of a map's `tokens` tokens, among rows that hold the tokens `cells`."""
    rows = np.empty(tokens, np.int64)
    is_token = cells != PADDING
    rows[cells[is_token]] = np.flatnonzero(is_token)
    return rows


def merged_cells(size: Size) -> NDArray[np.int64]:
    """The four tokens (00, 10, 01, 11) that patch merging joins, for each token of the smaller map: [M, 4]."""
    t, h, w = size
    corner = np.array([(0, 0), (1, 0), (0, 1), (1, 1)])
    down = 2 * np.arange(-(-h // 2))[:, None] + corner[:, 0]  # [H/2, 4]
    right = 2 * np.arange(-(-w // 2))[:, None] + corner[:, 1]
    down, right = np.broadcast_arrays(down[:, None], right[None])  # [H/2, W/2, 4]
    inside = (down < h) & (right < w)
    frame = np.where(inside, down * w + right, PADDING).reshape(-1, 4)
    cells = np.where(frame == PADDING, PADDING, frame + (h * w) * np.arange(t)[:, None, None])
    return cells.reshape(-1, 4)


def _parts(length: int, window: int, shift: int, *, split: bool) -> list[_Part]:
    """The windows of one axis in order, after a cyclic shift. `split` cuts the last one into its two parts."""
    positions = np.arange(window)
    regions = np.zeros(window, np.int64)
    windows = [_Part(start + shift + positions, positions, regions) for start in range(0, length, window)]
    if not shift:
        return windows
    last = _Part(windows[-1].cells % length, positions, 1 + (positions >= window - shift))
    if not split:
        return [*windows[:-1], last]
    cuts = slice(0, window - shift), slice(window - shift, window)
    return [*windows[:-1], *(_Part(last.cells[cut], positions[cut], regions[cut]) for cut in cuts)]


def _numbers(axes: Sequence[NDArray[np.int64]], size: Size) -> NDArray[np.int64]:
    """Coordinates along three axes as numbers of cells, [tokens]; PADDING outside of `size`."""
    t, h, w = np.ix_(*axes)
    number = (t * size[1] + h) * size[2] + w
    outside = (t >= size[0]) | (h >= size[1]) | (w >= size[2])
    return np.where(outside, PADDING, number).ravel()


def _join(a: Group, b: Group) -> Group:
    return Group(np.concatenate([a.cells, b.cells]), a.rows, a.blocked)
