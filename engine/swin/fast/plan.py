"""Tables of the fast network on its device: the rows that each chunk of a block gathers, and its windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtag.engine.swin.fast.layout import PADDING, Group, group_cells


@dataclass(frozen=True)
class RowSelection:
    """Rows to gather: their numbers, or a slice of adjacent rows; `padding` are the positions of padding in them."""

    rows: Tensor | slice
    padding: Tensor | None


@dataclass(frozen=True)
class WindowRun:
    """Windows of one group in a chunk: `windows` x `tokens` rows from `start` on. `key` names their bias."""

    start: int
    windows: int
    tokens: int
    key: str


@dataclass(frozen=True)
class Chunk:
    """Rows [start, end) of a block's output, and the rows of its input that they are computed from."""

    start: int
    end: int
    source: RowSelection
    runs: tuple[WindowRun, ...]


@dataclass(frozen=True)
class BlockPlan:
    """The number of rows of a block's output, padding included, and the chunks that compute them."""

    rows: int
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class StagePlan:
    """A plan for each block of a stage.

    `output` selects rows of the last block: groups of four for merging, or in the last stage all tokens of the map.
    """

    blocks: tuple[BlockPlan, ...]
    output: RowSelection


def even_rows(rows: int, max_rows: int, threads: int) -> int:
    """Rows in a chunk, at most `max_rows`, so that all `threads` get an equal share."""
    chunks = -(-rows // max(1, max_rows))
    return -(-rows // (-(-chunks // threads) * threads))


def plan_block(
    groups: Sequence[Group], row: NDArray[np.int64], max_rows: int | None, device: torch.device
) -> BlockPlan:
    """Whole windows, group after group, in chunks of about `max_rows` rows."""
    cells = group_cells(groups)
    chunks: list[Chunk] = []
    runs: list[WindowRun] = []
    start = end = 0  # of the chunk in work

    def close() -> None:
        nonlocal start
        if end > start:
            source = select_rows(row, cells[start:end], device)
            chunks.append(Chunk(start, end, source, tuple(runs)))
            runs.clear()
            start = end

    for group in groups:
        windows, tokens = group.cells.shape
        while windows:
            room = windows if max_rows is None else (max_rows - (end - start)) // tokens
            if room < 1 and end > start:
                close()
                continue
            count = min(windows, max(1, room))
            runs.append(WindowRun(end - start, count, tokens, group.key))
            end += count * tokens
            windows -= count
    close()
    return BlockPlan(len(cells), tuple(chunks))


def select_rows(row: NDArray[np.int64], cells: NDArray[np.int64], device: torch.device) -> RowSelection:
    """The rows that hold the tokens `cells`. Padding takes row 0, which `gather` sets to zero."""
    is_padding = cells == PADDING
    rows = np.where(is_padding, 0, row[np.where(is_padding, 0, cells)])
    if not is_padding.any() and (np.diff(rows) == 1).all():
        return RowSelection(slice(int(rows[0]), int(rows[-1]) + 1), None)
    padding = torch.from_numpy(np.flatnonzero(is_padding)).to(device) if is_padding.any() else None
    return RowSelection(torch.from_numpy(rows).to(device), padding)


def gather(x: Tensor, selection: RowSelection) -> Tensor:
    """[B, rows, C] -> the selected rows; padding is zero."""
    if isinstance(selection.rows, slice):
        return x[:, selection.rows]
    x = x.index_select(1, selection.rows)
    return x if selection.padding is None else x.index_fill(1, selection.padding, 0)
