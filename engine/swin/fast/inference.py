"""The Video Swin for inference only: the answers of `architecture.py`, as fast as the device allows.

The tables of `plan.py` are made once for each size of clip. They replace the work of the plain blocks:

- One gather a block puts the tokens of each window next to each other. Nothing is padded, rolled, cut or restored.
- Border windows are split into parts instead of masked, which saves 21 % of Swin-T's attention.
- A chunk of windows runs through the whole block before the next chunk starts, so it stays in the cache.
- On a CPU the weights are packed once (oneDNN), and GELU is part of the layer's own loop.
- In bfloat16 on a CPU, attention is two batched products with powers of two between them. While its scores fit the
  cache, this is faster than the fused kernel, which computes in float32.

Splitting drops pairs of tokens that the references mask with a score of -100. Their weight of 4e-44 counts as zero.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vtag.engine.swin.architecture import PatchMerging, Stage, SwinBlock, VideoSwin
from vtag.engine.swin.config import IMAGENET_MEAN, IMAGENET_STD
from vtag.engine.swin.fast.attention import exp2_attention, fused_attention
from vtag.engine.swin.fast.layout import Group, group_cells, group_windows, merged_cells, token_rows
from vtag.engine.swin.fast.plan import (
    BlockPlan,
    Chunk,
    StagePlan,
    WindowRun,
    even_rows,
    gather,
    plan_block,
    select_rows,
)
from vtag.engine.swin.windows import BLOCKED, Size, pad_to, padded_size

_NORM_EPS = 1e-5
_MAX_PLANS = 4  # cached sizes of clips; the biases of Swin-T take 163 MB in float32 for the published size


@dataclass(frozen=True)
class ComputeConfig:
    """How the network computes on a device."""

    dtype: torch.dtype = torch.float32  # of matrices; the residual stream, norms and sums stay float32
    packed: bool = False  # weights in oneDNN's own order
    split: bool = False  # border windows are split into parts instead of masked
    chunk_bytes: int | None = None  # limit of a chunk's widest activation; None: all windows at once
    exp2_attention: bool = False  # softmax by powers of two; else torch's fused kernel
    threads: int = 1  # threads that share one clip; the number of chunks is a multiple of this


ParallelMap = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]  # called as `map` is

PLAIN_OPERATORS = ComputeConfig()  # runs on every device
FLOAT32_CPU = ComputeConfig(packed=True, split=True, chunk_bytes=16 << 20)  # 5 % faster than with 4 MB
BFLOAT16_CPU = ComputeConfig(
    torch.bfloat16, packed=True, split=True, chunk_bytes=4 << 20, exp2_attention=True
)


class FastSwin(nn.Module):
    """A VideoSwin for inference. `forward_features` gives the answers of the plain module."""

    def __init__(
        self,
        model: VideoSwin,
        config: ComputeConfig = PLAIN_OPERATORS,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        """`mean` and `std` are of pixels 0..255. They normalise clips in uint8."""
        super().__init__()
        self.sizes, self.config = model.sizes, config
        device = model.norm.weight.device
        self.mean = torch.tensor(mean, dtype=torch.float32, device=device)
        self.std = torch.tensor(std, dtype=torch.float32, device=device)
        embed = model.patch_embed
        kernel = embed.proj.weight.detach().permute(0, 2, 3, 4, 1).flatten(1)  # [C, pt, ph, pw, 3]
        self.embed = _FastLinear(kernel, embed.proj.bias, config)
        self.embed_norm = embed.norm
        self.blocks = nn.ModuleList(
            nn.ModuleList(FastBlock(block, config) for block in stage.blocks if isinstance(block, SwinBlock))
            for stage in model.stages
            if isinstance(stage, Stage)
        )
        self.merging = nn.ModuleList(
            _FastMerging(stage.downsample, config)
            for stage in model.stages
            if isinstance(stage, Stage) and stage.downsample is not None
        )
        self.norm, self.head = model.norm, model.head
        self._plans: dict[Size, tuple[StagePlan, ...]] = {}
        self.requires_grad_(False).eval()

    def forward_features(self, clips: Tensor, parallel_map: ParallelMap = map) -> Tensor:
        """Pooled features float32 [B, D] of `clips` [B, T, H, W, 3], which are normalised floats or uint8 pixels.

        `parallel_map` computes the chunks of a block, in any order, if there are at least as many as threads.
        """
        x, size = self.embed_patches(clips)
        for number, stage in enumerate(self.plan(size)):
            for index, block in enumerate(_as_list(self.blocks[number])):
                x = block(x, stage.blocks[index], parallel_map)
            x = gather(x, stage.output)
            if number < len(self.merging):
                x = self.merging[number](x)
        return _norm(x, self.norm).mean(1)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits float32 [B, K] of `clips` [B, T, H, W, 3], which are normalised floats or uint8 pixels."""
        logits: Tensor = self.head(self.forward_features(clips))
        return logits

    def embed_patches(self, clips: Tensor) -> tuple[Tensor, Size]:
        """Tokens [B, T'H'W', C] and (T', H', W')."""
        frames, patch = clips.shape[1], self.sizes.patch_size
        size = padded_size((frames, clips.shape[2], clips.shape[3]), patch)
        step = (
            patch[0] if self.config.chunk_bytes else size[0]
        )  # one frame of tokens at a time, or all at once
        parts = [self._embed_frames(clips[:, start : start + step]) for start in range(0, frames, step)]
        x = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return x, (size[0] // patch[0], size[1] // patch[1], size[2] // patch[2])

    def _embed_frames(self, clips: Tensor) -> Tensor:
        pt, ph, pw = patch = self.sizes.patch_size
        if clips.dtype == torch.uint8:
            clips = clips.to(torch.float32).sub_(self.mean).div_(self.std)
        clips = pad_to(clips, padded_size((clips.shape[1], clips.shape[2], clips.shape[3]), patch))
        b, t, h, w, colours = clips.shape
        x = clips.reshape(b, t // pt, pt, h // ph, ph, w // pw, pw * colours).permute(0, 1, 3, 5, 2, 4, 6)
        x = self.embed(x.reshape(b, -1, pt * ph * pw * colours))
        return _norm(x.float(), self.embed_norm)

    def plan(self, size: Size) -> tuple[StagePlan, ...]:
        """The tables for a map of `size` tokens, from a cache of the last sizes."""
        plan = self._plans.get(size)
        if plan is None:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
                for block in self.blocks.modules():
                    if isinstance(block, FastBlock):
                        block.biases = nn.Module()
            with torch.inference_mode(False):
                plan = self._plans[size] = self._make_plan(size)
        return plan

    def _make_plan(self, size: Size) -> tuple[StagePlan, ...]:
        stages = []
        for number, blocks in enumerate(map(_as_list, self.blocks)):
            is_last = number + 1 == len(self.blocks)
            stages.append(
                _plan_stage(
                    size, [block for block in blocks if isinstance(block, FastBlock)], is_last, self.config
                )
            )
            size = (size[0], -(-size[1] // 2), -(-size[2] // 2))
        return tuple(stages)


# --- weights ----------------------------------------------------------------------------------------------------


class _FastLinear(nn.Module):
    """A linear layer. Its weight is packed if `config` asks for that and the CPU supports it."""

    def __init__(self, weight: Tensor, bias: Tensor | None, config: ComputeConfig) -> None:
        super().__init__()
        self.weight = weight.detach().to(config.dtype)
        self.bias = None if bias is None else bias.detach().to(config.dtype)
        self.width = len(weight)
        self.packed = config.packed and can_pack(config.dtype)
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


class FastBlock(nn.Module):
    """The weights of a SwinBlock, and its attention biases for the cached sizes."""

    def __init__(self, block: SwinBlock, config: ComputeConfig) -> None:
        super().__init__()
        attn = block.attn
        self.config, self.heads, self.window, self.shift = config, attn.heads, block.window, block.shift
        self.norm1, self.norm2 = block.norm1, block.norm2
        weight, bias = attn.qkv.weight.detach(), attn.qkv.bias.detach()
        if config.exp2_attention:  # 2^(q k) replaces e^(q k / sqrt d): q's weights contain the factor
            factor = torch.ones(len(bias))
            factor[: len(bias) // 3] = math.log2(math.e) * (len(bias) / 3 / attn.heads) ** -0.5
            weight, bias = weight * factor[:, None], bias * factor
        self.qkv = _FastLinear(weight, bias, config)
        self.proj = _FastLinear(attn.proj.weight, attn.proj.bias, config)
        self.fc1 = _FastLinear(block.mlp.fc1.weight, block.mlp.fc1.bias, config)
        self.fc2 = _FastLinear(block.mlp.fc2.weight, block.mlp.fc2.bias, config)
        self.table = attn.relative_position_bias_table.detach()
        self.biases = nn.Module()  # a buffer for each group of windows

    def add_bias(self, group: Group) -> None:
        """Compute and store the attention bias of a group, [heads, tokens, tokens], if it is missing."""
        if not hasattr(self.biases, group.key):
            self.biases.register_buffer(group.key, self._bias(group), persistent=False)

    def _bias(self, group: Group) -> Tensor:
        tokens = len(group.rows)
        bias = self.table.t()[:, torch.from_numpy(group.rows).to(self.table.device)]
        if group.blocked is not None:
            bias = bias + BLOCKED * torch.from_numpy(group.blocked).to(bias)
        if self.config.exp2_attention:
            bias = bias * math.log2(math.e)
        # CUDA's fused kernels need rows that begin at multiples of eight numbers
        padded = bias.new_empty((self.heads, tokens, -(-tokens // 8) * 8), dtype=self.config.dtype)
        aligned = padded[..., :tokens] if bias.is_cuda else padded.new_empty(bias.shape)
        return aligned.copy_(bias)

    def forward(self, x: Tensor, plan: BlockPlan, parallel_map: ParallelMap) -> Tensor:
        if len(plan.chunks) == 1:
            return self._compute_chunk(x, plan.chunks[0], None)
        out = x.new_empty((x.shape[0], plan.rows, x.shape[2]))
        # with fewer chunks than threads, all cores on one chunk are faster than a thread for each
        chunk_map = parallel_map if len(plan.chunks) >= self.config.threads else map
        chunk_results = chunk_map(
            lambda chunk: self._compute_chunk(x, chunk, out[:, chunk.start : chunk.end]), plan.chunks
        )
        for _ in chunk_results:
            pass
        return out

    def _compute_chunk(self, x: Tensor, chunk: Chunk, out: Tensor | None) -> Tensor:
        """Both residual branches for the windows of one chunk."""
        x = gather(x, chunk.source)
        h = _norm(x, self.norm1).to(self.config.dtype)
        if (
            chunk.source.padding is not None
        ):  # padding is zero after the norm: its keys and values are the biases
            h = h.index_fill(1, chunk.source.padding, 0)
        x = x + self.proj(self._attend(self.qkv(h), chunk.runs))
        h = self.fc1(_norm(x, self.norm2), gelu=True)
        return torch.add(x, self.fc2(h), out=out)

    def _attend(self, qkv: Tensor, runs: Sequence[WindowRun]) -> Tensor:
        """[B, rows, 3C] -> [B, rows, C]"""
        b, _, width = qkv.shape
        attend = exp2_attention if self.config.exp2_attention else fused_attention
        parts = []
        for run in runs:
            part = qkv[:, run.start : run.start + run.windows * run.tokens]
            part = part.reshape(b * run.windows, run.tokens, 3, self.heads, -1)
            parts.append(attend(part, getattr(self.biases, run.key)).reshape(b, -1, width // 3))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class _FastMerging(nn.Module):
    """The weights of a PatchMerging, for tokens whose groups of four are already next to each other."""

    def __init__(self, merging: PatchMerging, config: ComputeConfig) -> None:
        super().__init__()
        self.norm = merging.norm
        self.reduction = _FastLinear(merging.reduction.weight, None, config)

    def forward(self, x: Tensor) -> Tensor:
        b, _, dim = x.shape
        y: Tensor = self.reduction(_norm(x.reshape(b, -1, 4 * dim), self.norm))
        return y.float()


def _norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, _NORM_EPS)


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch and CPU support packed linear layers of `dtype` (oneDNN on x86). Tries it."""
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return False
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(torch.eye(16, dtype=dtype), 1024)
        product = torch.ops.mkldnn._linear_pointwise(
            torch.ones(1, 16, dtype=dtype), weight, None, "none", [], ""
        )
    except (AttributeError, RuntimeError):
        return False
    return bool((product == 1).all())


def _plan_stage(size: Size, blocks: list[FastBlock], is_last: bool, config: ComputeConfig) -> StagePlan:
    tokens = math.prod(size)
    device = blocks[0].table.device
    row = np.arange(tokens)  # the row of each token
    plans = []
    for block in blocks:
        groups = group_windows(size, block.window, block.shift, split=config.split)
        for group in groups:
            block.add_bias(group)
        widest = block.fc1.width * (2 if config.dtype == torch.bfloat16 else 4)
        max_rows = (
            even_rows(tokens, config.chunk_bytes // widest, config.threads) if config.chunk_bytes else None
        )
        plans.append(plan_block(groups, row, max_rows, device))
        row = token_rows(group_cells(groups), tokens)
    output = np.arange(tokens) if is_last else merged_cells(size).ravel()
    return StagePlan(tuple(plans), select_rows(row, output, device))


def _as_list(blocks: nn.Module) -> nn.ModuleList:
    """`blocks`, an element of a ModuleList of ModuleLists, with its own type: torch's types say Module."""
    assert isinstance(blocks, nn.ModuleList)
    return blocks
