"""Which tokens of a feature map attend together, as tables: the arithmetic behind the fast forward.

The plain module pads, rolls, cuts windows, masks, and undoes it all. Here a block is one table of token numbers: its
rows, taken in this order, are the windows one after the other. A shifted window at the map's border, in which some
pairs must not see each other, is taken apart into the parts that do (`split`), or kept whole with its mask.
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
    """Windows, or parts of windows, that look at each other in the same way.

    `cells` [windows, tokens] are token numbers of the map (PADDING where it ends), `rows` [tokens, tokens] the bias
    table's, `blocked` bool [tokens, tokens] the pairs that must not see each other (None: all may).
    """

    cells: NDArray[np.int64]
    rows: NDArray[np.int64]
    blocked: NDArray[np.bool_] | None

    @cached_property
    def key(self) -> str:
        """Equal for groups whose biases are equal."""
        told = hashlib.sha256(self.rows.tobytes())
        told.update(b"" if self.blocked is None else self.blocked.tobytes())
        return f"bias_{told.hexdigest()[:32]}"


@dataclass(frozen=True)
class _Part:
    """A window's stretch along one axis: coordinates on the map, places in the window, regions after the shift."""

    cells: NDArray[np.int64]
    places: NDArray[np.int64]
    regions: NDArray[np.int64]


def group_windows(size: Size, window: Size, shift: Size, *, split: bool) -> tuple[Group, ...]:
    """The windows of a map of `size` by how they look at each other; every token is in exactly one."""
    fitted, shift = fit_window(size, window, shift)
    padded = padded_size(size, fitted)
    axes = [_parts(*axis, split=split) for axis in zip(padded, fitted, shift, strict=True)]
    alike: dict[tuple[bytes, bytes], list[NDArray[np.int64]]] = {}
    looks: dict[tuple[bytes, bytes], tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    for parts in itertools.product(*axes):
        cells = _numbers([part.cells for part in parts], size)
        if (cells == PADDING).all():
            continue
        places = _numbers([part.places for part in parts], fitted)
        regions = _numbers([part.regions for part in parts], (3, 3, 3))
        key = places.tobytes(), regions.tobytes()
        alike.setdefault(key, []).append(cells)
        looks[key] = places, regions
    index = relative_position_index(window, fitted[0] * fitted[1] * fitted[2])
    groups: dict[str, Group] = {}
    for key, group_cells in alike.items():
        places, regions = looks[key]
        blocked = regions[:, None] != regions
        group = Group(
            np.stack(group_cells), index[np.ix_(places, places)], blocked if blocked.any() else None
        )
        before = groups.get(group.key)
        groups[group.key] = group if before is None else _joined(before, group)
    return tuple(groups.values())


def group_cells(groups: Sequence[Group]) -> NDArray[np.int64]:
    """The token number of every row, group after group."""
    return np.concatenate([group.cells.ravel() for group in groups])


def token_rows(cells: NDArray[np.int64], tokens: int) -> NDArray[np.int64]:
    """Where each of a map's `tokens` tokens lies among rows that hold `cells`."""
    rows = np.empty(tokens, np.int64)
    real = cells != PADDING
    rows[cells[real]] = np.flatnonzero(real)
    return rows


def merged_cells(size: Size) -> NDArray[np.int64]:
    """The four tokens (00, 10, 01, 11 in H, W) that patch merging joins, for each token of the smaller map [M, 4]."""
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
    """The windows of one axis in their order, after a cyclic shift; with `split` the last one in its two parts."""
    places = np.arange(window)
    regions = np.zeros(window, np.int64)
    whole = [_Part(start + shift + places, places, regions) for start in range(0, length, window)]
    if not shift:
        return whole
    last = _Part(whole[-1].cells % length, places, 1 + (places >= window - shift))
    if not split:
        return [*whole[:-1], last]
    cuts = slice(0, window - shift), slice(window - shift, window)
    return [*whole[:-1], *(_Part(last.cells[cut], places[cut], regions[cut]) for cut in cuts)]


def _numbers(axes: Sequence[NDArray[np.int64]], size: Size) -> NDArray[np.int64]:
    """Coordinates along three axes as numbers of the cells they cross in, [tokens]; PADDING outside of `size`."""
    t, h, w = np.ix_(*axes)
    number = (t * size[1] + h) * size[2] + w
    outside = (t >= size[0]) | (h >= size[1]) | (w >= size[2])
    return np.where(outside, PADDING, number).ravel()


def _joined(one: Group, other: Group) -> Group:
    return Group(np.concatenate([one.cells, other.cells]), one.rows, one.blocked)
