"""The same Video Swin for inference alone: equal answers, as fast as the device allows.

What `architecture.py` says block by block is done here with tables made once for each size of clip (`layout.py`):

- one gather a block puts a window's tokens side by side; nothing is padded, rolled, cut and put back;
- the windows of the border are taken apart instead of masked, which saves 21 % of Swin-T's attention;
- a chunk of windows goes through the whole block before the next one starts, so that it stays in the cache;
- on a processor the weights are packed once (oneDNN) and GELU is part of the layer's own loop;
- in bfloat16 on a processor, attention is two batched products with powers of two between them: as soon as its
  scores are in the cache this beats the fused kernel, which computes in float32.

Between tokens that a shift's mask parts, the references add -100 to the score: a weight of 4e-44, taken for zero.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vtag.engine.swin.config import IMAGENET_MEAN, IMAGENET_STD
from vtag.engine.swin.fast.attention import by_hand, fused
from vtag.engine.swin.fast.layout import PADDING, Group, cells_of, lay_out, merged_cells, row_of
from vtag.engine.swin.model import Block, PatchMerging, Stage, VideoSwin
from vtag.engine.swin.windows import BLOCKED, Size, pad_to, padded_size

_NORM_EPS = 1e-5
_PLANS_KEPT = 4  # sizes of clips in turn; the biases of Swin-T take 163 MB in float32 for the published size


@dataclass(frozen=True)
class Way:
    """How a device likes it. `chunk_bytes` bounds a chunk's widest activation (None: all windows at once)."""

    dtype: torch.dtype = torch.float32  # of matrices; the residual stream, norms and sums stay float32
    packed: bool = False
    split: bool = False
    chunk_bytes: int | None = None
    by_hand: bool = False  # attention by powers of two, else torch's fused kernel
    lanes: int = 1  # that share the chunks of one clip: they are as many times some, about even in size


Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]  # as `map`

PLAIN = Way()  # nothing but plain operators: what an exporter can write down
FLOAT32_CPU = Way(packed=True, split=True, chunk_bytes=16 << 20)  # 5 % faster than with 4 MB
BFLOAT16_CPU = Way(torch.bfloat16, packed=True, split=True, chunk_bytes=4 << 20, by_hand=True)


class FastSwin(nn.Module):
    """A VideoSwin's weights, ready for inference in one `Way`; `forward_features` equals the plain module's."""

    def __init__(
        self,
        model: VideoSwin,
        way: Way = PLAIN,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        """`mean` and `std` of pixels 0..255 normalise clips that come as uint8."""
        super().__init__()
        self.sizes, self.way = model.sizes, way
        place = model.norm.weight.device
        self.mean = torch.tensor(mean, dtype=torch.float32, device=place)
        self.std = torch.tensor(std, dtype=torch.float32, device=place)
        embed = model.patch_embed
        kernel = embed.proj.weight.detach().permute(0, 2, 3, 4, 1).flatten(1)  # [C, pt, ph, pw, 3]
        self.embed = _Linear(kernel, embed.proj.bias, way)
        self.embed_norm = embed.norm
        self.blocks = nn.ModuleList(
            nn.ModuleList(_Block(block, way) for block in stage.blocks if isinstance(block, Block))
            for stage in model.stages
            if isinstance(stage, Stage)
        )
        self.merging = nn.ModuleList(
            _Merging(stage.downsample, way)
            for stage in model.stages
            if isinstance(stage, Stage) and stage.downsample is not None
        )
        self.norm, self.head = model.norm, model.head
        self._plans: dict[Size, tuple[_StagePlan, ...]] = {}
        self.requires_grad_(False).eval()

    def forward_features(self, clips: Tensor, each: Each = map) -> Tensor:
        """Pooled features float32 [B, D] of `clips` [B, T, H, W, 3]: normalised ones, or pixels uint8.

        `each` applies a function to all chunks of a block that has as many as lanes, in any order, at once if it can.
        """
        x, size = self.embedded(clips)
        for number, stage in enumerate(self.plan(size)):
            for place, block in enumerate(_listed(self.blocks[number])):
                x = block(x, stage.blocks[place], each)
            x = _taken(x, stage.after)
            if number < len(self.merging):
                x = self.merging[number](x)
        return _norm(x, self.norm).mean(1)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits float32 [B, K] of `clips` [B, T, H, W, 3]: normalised ones, or pixels uint8."""
        logits: Tensor = self.head(self.forward_features(clips))
        return logits

    def embedded(self, clips: Tensor) -> tuple[Tensor, Size]:
        """Tokens [B, T'H'W', C] and (T', H', W')."""
        frames, patch = clips.shape[1], self.sizes.patch_size
        size = padded_size((frames, clips.shape[2], clips.shape[3]), patch)
        step = patch[0] if self.way.chunk_bytes else size[0]  # frame by frame of tokens, or all at once
        parts = [self._embedded(clips[:, at : at + step]) for at in range(0, frames, step)]
        x = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return x, (size[0] // patch[0], size[1] // patch[1], size[2] // patch[2])

    def _embedded(self, clips: Tensor) -> Tensor:
        pt, ph, pw = patch = self.sizes.patch_size
        if clips.dtype == torch.uint8:
            clips = clips.to(torch.float32).sub_(self.mean).div_(self.std)
        clips = pad_to(clips, padded_size((clips.shape[1], clips.shape[2], clips.shape[3]), patch))
        b, t, h, w, colours = clips.shape
        x = clips.reshape(b, t // pt, pt, h // ph, ph, w // pw, pw * colours).permute(0, 1, 3, 5, 2, 4, 6)
        x = self.embed(x.reshape(b, -1, pt * ph * pw * colours))
        return _norm(x.float(), self.embed_norm)

    def plan(self, size: Size) -> tuple[_StagePlan, ...]:
        """The tables for a map of `size` tokens; made once and kept for the sizes met lately."""
        plan = self._plans.get(size)
        if plan is None:
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.clear()
                for block in self.blocks.modules():
                    if isinstance(block, _Block):
                        block.biases = nn.Module()
            with torch.inference_mode(False):
                plan = self._plans[size] = self._planned(size)
        return plan

    def _planned(self, size: Size) -> tuple[_StagePlan, ...]:
        stages = []
        for number, blocks in enumerate(map(_listed, self.blocks)):
            last = number + 1 == len(self.blocks)
            stages.append(
                _plan_stage(size, [block for block in blocks if isinstance(block, _Block)], last, self.way)
            )
            size = (size[0], -(-size[1] // 2), -(-size[2] // 2))
        return tuple(stages)


# --- weights ----------------------------------------------------------------------------------------------------


class _Linear(nn.Module):
    """A linear layer, packed for the processor where that is asked for and there."""

    def __init__(self, weight: Tensor, bias: Tensor | None, way: Way) -> None:
        super().__init__()
        self.weight = weight.detach().to(way.dtype)
        self.bias = None if bias is None else bias.detach().to(way.dtype)
        self.width = len(weight)
        self.packed = way.packed and can_pack(way.dtype)
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight.contiguous(), 1024)

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        x = x.to(self.weight.dtype)
        if not self.packed:
            x = F.linear(x, self.weight, self.bias)
            return F.gelu(x) if gelu else x
        shape = (*x.shape[:-1], self.width)
        kind: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x.flatten(0, -2), self.weight, self.bias, *kind)
        return y.reshape(shape)


class _Block(nn.Module):
    """A Block's weights, and its biases for the windows met so far."""

    def __init__(self, block: Block, way: Way) -> None:
        super().__init__()
        attn = block.attn
        self.way, self.heads, self.window, self.shift = way, attn.heads, block.window, block.shift
        self.norm1, self.norm2 = block.norm1, block.norm2
        weight, bias = attn.qkv.weight.detach(), attn.qkv.bias.detach()
        if way.by_hand:  # 2^(q k) instead of e^(q k / sqrt d): the factors go into q's weights
            factor = torch.ones(len(bias))
            factor[: len(bias) // 3] = math.log2(math.e) * (len(bias) / 3 / attn.heads) ** -0.5
            weight, bias = weight * factor[:, None], bias * factor
        self.qkv = _Linear(weight, bias, way)
        self.proj = _Linear(attn.proj.weight, attn.proj.bias, way)
        self.fc1 = _Linear(block.mlp.fc1.weight, block.mlp.fc1.bias, way)
        self.fc2 = _Linear(block.mlp.fc2.weight, block.mlp.fc2.bias, way)
        self.table = attn.relative_position_bias_table.detach()
        self.biases = nn.Module()  # of the groups of windows met lately, as buffers

    def keep_bias(self, group: Group) -> None:
        """Make what is added to the scores of a group's pairs, unless it is there: [heads, tokens, tokens]."""
        if not hasattr(self.biases, group.key):
            self.biases.register_buffer(group.key, self._bias(group), persistent=False)

    def _bias(self, group: Group) -> Tensor:
        tokens = len(group.rows)
        bias = self.table.t()[:, torch.from_numpy(group.rows).to(self.table.device)]
        if group.blocked is not None:
            bias = bias + BLOCKED * torch.from_numpy(group.blocked).to(bias)
        if self.way.by_hand:
            bias = bias * math.log2(math.e)
        # CUDA's fused kernels want rows that begin at multiples of eight numbers
        room = bias.new_empty((self.heads, tokens, -(-tokens // 8) * 8), dtype=self.way.dtype)
        kept = room[..., :tokens] if bias.is_cuda else room.new_empty(bias.shape)
        return kept.copy_(bias)

    def forward(self, x: Tensor, plan: _BlockPlan, each: Each) -> Tensor:
        if len(plan.chunks) == 1:
            return self._through(x, plan.chunks[0], None)
        out = x.new_empty((x.shape[0], plan.rows, x.shape[2]))
        # where there are fewer chunks than lanes, all cores on each chunk are more than some with one each
        taken = each if len(plan.chunks) >= self.way.lanes else map
        for _ in taken(lambda chunk: self._through(x, chunk, out[:, chunk.start : chunk.end]), plan.chunks):
            pass
        return out

    def _through(self, x: Tensor, chunk: _Chunk, out: Tensor | None) -> Tensor:
        """Both residual branches for the windows of one chunk."""
        x = _taken(x, chunk.take)
        h = _norm(x, self.norm1).to(self.way.dtype)
        if chunk.take.blank is not None:  # padding comes after the norm: its keys and values are the biases
            h = h.index_fill(1, chunk.take.blank, 0)
        x = x + self.proj(self._attend(self.qkv(h), chunk.pieces))
        h = self.fc1(_norm(x, self.norm2), gelu=True)
        return torch.add(x, self.fc2(h), out=out)

    def _attend(self, qkv: Tensor, pieces: Sequence[_Piece]) -> Tensor:
        """[B, rows, 3C] -> [B, rows, C]"""
        b, _, width = qkv.shape
        attend = by_hand if self.way.by_hand else fused
        parts = []
        for piece in pieces:
            part = qkv[:, piece.start : piece.start + piece.windows * piece.tokens]
            part = part.reshape(b * piece.windows, piece.tokens, 3, self.heads, -1)
            parts.append(attend(part, getattr(self.biases, piece.key)).reshape(b, -1, width // 3))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class _Merging(nn.Module):
    """A PatchMerging's weights, for tokens that lie four by four already."""

    def __init__(self, merging: PatchMerging, way: Way) -> None:
        super().__init__()
        self.norm = merging.norm
        self.reduction = _Linear(merging.reduction.weight, None, way)

    def forward(self, x: Tensor) -> Tensor:
        b, _, dim = x.shape
        y: Tensor = self.reduction(_norm(x.reshape(b, -1, 4 * dim), self.norm))
        return y.float()


def _norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, _NORM_EPS)


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch and processor have packed linear layers of `dtype` (oneDNN on x86, tried once)."""
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return False
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(torch.eye(16, dtype=dtype), 1024)
        one = torch.ops.mkldnn._linear_pointwise(torch.ones(1, 16, dtype=dtype), weight, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    return bool((one == 1).all())


# --- tables on the device -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Take:
    """Rows to take (None: as they lie), and which of those are padding."""

    rows: Tensor | slice
    blank: Tensor | None


@dataclass(frozen=True)
class _Piece:
    """Windows of one group among a chunk's rows."""

    start: int
    windows: int
    tokens: int
    key: str


@dataclass(frozen=True)
class _Chunk:
    start: int
    end: int
    take: _Take
    pieces: tuple[_Piece, ...]


@dataclass(frozen=True)
class _BlockPlan:
    rows: int
    chunks: tuple[_Chunk, ...]


@dataclass(frozen=True)
class _StagePlan:
    """`after` takes the last block's rows four by four for merging, or, at the end, without padding."""

    blocks: tuple[_BlockPlan, ...]
    after: _Take


def _plan_stage(size: Size, blocks: list[_Block], last: bool, way: Way) -> _StagePlan:
    tokens = math.prod(size)
    device = blocks[0].table.device
    row = np.arange(tokens)  # where each token lies
    plans = []
    for block in blocks:
        groups = lay_out(size, block.window, block.shift, split=way.split)
        for group in groups:
            block.keep_bias(group)
        widest = block.fc1.width * (2 if way.dtype == torch.bfloat16 else 4)
        most_rows = _even(tokens, way.chunk_bytes // widest, way.lanes) if way.chunk_bytes else None
        plans.append(_plan_block(groups, row, most_rows, device))
        row = row_of(cells_of(groups), tokens)
    after = np.arange(tokens) if last else merged_cells(size).ravel()
    return _StagePlan(tuple(plans), _take(row, after, device))


def _even(rows: int, most: int, lanes: int) -> int:
    """Rows a chunk, `most` at most, so that `lanes` have as much to do as one another."""
    chunks = -(-rows // max(1, most))
    return -(-rows // (-(-chunks // lanes) * lanes))


def _plan_block(
    groups: Sequence[Group], row: NDArray[np.int64], most_rows: int | None, device: torch.device
) -> _BlockPlan:
    """Whole windows, group after group, in chunks of about `most_rows` rows."""
    cells = cells_of(groups)
    chunks: list[_Chunk] = []
    pieces: list[_Piece] = []
    start = at = 0

    def close() -> None:
        nonlocal start
        if at > start:
            take = _take(row, cells[start:at], device)
            chunks.append(_Chunk(start, at, take, tuple(pieces)))
            pieces.clear()
            start = at

    for group in groups:
        windows, tokens = group.cells.shape
        while windows:
            room = windows if most_rows is None else (most_rows - (at - start)) // tokens
            if room < 1 and at > start:
                close()
                continue
            some = min(windows, max(1, room))
            pieces.append(_Piece(at - start, some, tokens, group.key))
            at += some * tokens
            windows -= some
    close()
    return _BlockPlan(len(cells), tuple(chunks))


def _take(row: NDArray[np.int64], cells: NDArray[np.int64], device: torch.device) -> _Take:
    padding = cells == PADDING
    rows = np.where(padding, 0, row[np.where(padding, 0, cells)])
    if not padding.any() and (np.diff(rows) == 1).all():
        return _Take(slice(int(rows[0]), int(rows[-1]) + 1), None)
    blank = torch.from_numpy(np.flatnonzero(padding)).to(device) if padding.any() else None
    return _Take(torch.from_numpy(rows).to(device), blank)


def _taken(x: Tensor, take: _Take) -> Tensor:
    """[B, rows, C] -> the rows to take; padding is zero."""
    if isinstance(take.rows, slice):
        return x[:, take.rows]
    x = x.index_select(1, take.rows)
    return x if take.blank is None else x.index_fill(1, take.blank, 0)


def _listed(blocks: nn.Module) -> nn.ModuleList:
    """What a list of lists holds is a list: torch's types say a module."""
    assert isinstance(blocks, nn.ModuleList)
    return blocks
