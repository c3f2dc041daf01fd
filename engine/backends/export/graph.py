"""The Video Swin as exported to ONNX: fixed T, H, W, plain operators, pixels in, features and logits out.

It has the weights and the results of `engine.swin.architecture`, with another order of work. ONNX graphs are slow at
padding, rolling and cutting into windows. One gather of tokens replaces all three, and another gather reverses it.
Windows are sorted by the pairs that the shift mask blocks, so that each kind of window adds one bias to its scores.
The bias is gathered from the model's own table, and no mask is stored.
"""

from __future__ import annotations

# mypy: disable-error-code="no-any-return"
# torch does not type the result of calling a module
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vtag.engine.swin.architecture import PatchMerging, Stage, SwinBlock, VideoSwin
from vtag.engine.swin.windows import (
    BLOCKED,
    Size,
    fit_window,
    pad_to,
    padded_size,
    partition,
    relative_position_index,
    shift_mask,
)


class Graph(nn.Module):
    """Features [B, D] and logits [B, K] of clips uint8 [B, T, H, W, 3], for one T, H, W.

    Args:
        network: the weights, in eval mode.
        frames: T.
        height: H.
        width: W.
        mean: of each channel of the pixels, 0..255.
        std: the same.
        dtype: of the blocks' matrices, which are cast in place. Norms, softmax, sums and head stay in float32.
    """

    def __init__(
        self,
        network: VideoSwin,
        *,
        frames: int,
        height: int,
        width: int,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        sizes = network.sizes
        self.tables = nn.ModuleDict()
        patch = sizes.patch_size
        size = _divide(padded_size((frames, height, width), patch), patch)
        self.maps = []
        for stage in _stages(network):
            self.maps.append(size)
            if stage.downsample is not None:
                stage.downsample.reduction.to(dtype)
            for block in _blocks(stage):
                for layer in (block.attn.qkv, block.attn.proj, block.mlp):
                    layer.to(dtype)
                kind = _kind(size, block)
                if kind not in self.tables:
                    self.tables[kind] = tables = _WindowTables(size, block)
                    index = f"index{tables.tokens}"  # shared by all maps, since it is large
                    if not hasattr(self, index):
                        rows = relative_position_index(block.window, tables.tokens)
                        self.register_buffer(index, torch.from_numpy(rows.astype(np.int32)))
            size = _divide(padded_size(size, (1, 2, 2)), (1, 2, 2))

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        x = (clips.to(torch.float32) - self.mean) / self.std
        x = self.network.patch_embed(x)
        for size, stage in zip(self.maps, _stages(self.network), strict=True):
            tokens = x.flatten(1, 3)
            for block in _blocks(stage):
                tables = self.tables[_kind(size, block)]
                assert isinstance(tables, _WindowTables)
                tokens = self._block(tokens, block, tables)
            x = tokens.unflatten(1, size)
            if stage.downsample is not None:
                x = _merge(x, stage.downsample)
        features = self.network.norm(x).mean((1, 2, 3))
        head = self.network.head  # as a Gemm operator its weight would be quantised
        return features, features @ head.weight.t() + head.bias

    def _block(self, x: Tensor, block: SwinBlock, tables: _WindowTables) -> Tensor:
        """[B, T*H*W, C] -> the same."""
        x_windows = tables.into_windows(block.norm1(x).to(self.dtype))
        heads = block.attn.heads
        qkv = block.attn.qkv(x_windows).unflatten(-1, (3, heads, -1)).permute(3, 0, 1, 4, 2, 5)
        q, k, v = qkv.unbind(0)  # [B, windows, heads, tokens, d]
        q = q * q.shape[-1] ** -0.5
        bias = block.attn.bias(getattr(self, f"index{tables.tokens}")).to(self.dtype)
        parts = [
            self._attend(q[:, windows], k[:, windows], v[:, windows], tables.masked_bias(bias, number))
            for number, windows in enumerate(tables.kinds)
        ]
        out = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        out = block.attn.proj(out.transpose(2, 3).flatten(3))
        x = x + tables.out_of_windows(out).float()
        return x + block.mlp(block.norm2(x).to(self.dtype)).float()

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        scores = q @ k.transpose(-2, -1) + bias
        return torch.softmax(scores.float(), -1).to(self.dtype) @ v


class _WindowTables(nn.Module):
    """The gathers into windows and back, and the masks of the windows. Blocks with the same shift share it.

    Windows that block the same pairs are adjacent. `kinds` are their ranges.
    """

    tokens_of_windows: Tensor
    rows_of_tokens: Tensor

    def __init__(self, size: Size, block: SwinBlock) -> None:
        super().__init__()
        window, shift = fit_window(size, block.window, block.shift)
        padded = padded_size(size, window)
        window_tokens = _window_tokens(size, padded, window, shift)
        self.kinds = [slice(0, len(window_tokens))]
        blocked = np.zeros((1, 1, 1), np.bool_)
        if any(shift):
            masks = shift_mask(padded, window, shift)
            blocked, kind = np.unique(masks, axis=0, return_inverse=True)
            order = np.argsort(kind.ravel(), kind="stable")
            window_tokens = window_tokens[order]
            bounds = [0, *np.cumsum(np.bincount(kind.ravel())).tolist()]
            self.kinds = [slice(start, end) for start, end in itertools.pairwise(bounds)]
        count, self.tokens = window_tokens.shape
        flat = window_tokens.ravel()
        token_rows = np.zeros(int(np.prod(size)), np.int64)
        token_rows[flat[flat < len(token_rows)]] = np.flatnonzero(flat < len(token_rows))
        self.padding = padded != size
        self.windows = count
        self.is_masked = [bool(mask.any()) for mask in blocked]
        self.register_buffer("tokens_of_windows", torch.from_numpy(flat))
        self.register_buffer("rows_of_tokens", torch.from_numpy(token_rows))
        for number, mask in enumerate(blocked):
            if self.is_masked[number]:
                regions = torch.from_numpy(_regions(mask))
                self.register_buffer(f"regions{number}", regions)

    def into_windows(self, x: Tensor) -> Tensor:
        """[B, T*H*W, C] -> [B, windows, tokens, C]; padding is zero."""
        if self.padding:
            x = F.pad(x, (0, 0, 0, 1))
        return x.index_select(1, self.tokens_of_windows).unflatten(1, (self.windows, self.tokens))

    def out_of_windows(self, x: Tensor) -> Tensor:
        """The inverse of `into_windows`."""
        return x.flatten(1, 2).index_select(1, self.rows_of_tokens)

    def masked_bias(self, bias: Tensor, number: int) -> Tensor:
        """`bias` [heads, tokens, tokens] with the mask of the windows of kind `number`."""
        if not self.is_masked[number]:
            return bias
        regions = getattr(self, f"regions{number}")
        return bias + (regions[:, None] != regions[None, :]).to(bias.dtype) * BLOCKED


def _window_tokens(size: Size, padded: Size, window: Size, shift: Size) -> NDArray[np.int64]:
    """Token numbers of each window, [windows, tokens]. Padding has the number after the last token."""
    number = np.full(padded, int(np.prod(size)), np.int64)
    number[: size[0], : size[1], : size[2]] = np.arange(int(np.prod(size))).reshape(size)
    rolled = np.roll(number, [-s for s in shift], (0, 1, 2))
    return partition(torch.from_numpy(rolled)[None, ..., None], window)[0, :, :, 0].numpy()


def _regions(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A region number for each token [tokens]. `mask` blocks the pairs of different regions."""
    return np.argmin(mask, axis=1).astype(np.float32)  # the first token that is not blocked


def _stages(network: VideoSwin) -> list[Stage]:
    return [stage for stage in network.stages if isinstance(stage, Stage)]


def _blocks(stage: Stage) -> list[SwinBlock]:
    return [block for block in stage.blocks if isinstance(block, SwinBlock)]


def _merge(x: Tensor, merging: PatchMerging) -> Tensor:
    """PatchMerging by one transposition: [B, T, H, W, C] -> [B, T, H/2, W/2, 2C]."""
    x = pad_to(x, padded_size((x.shape[1], x.shape[2], x.shape[3]), (1, 2, 2)))
    t, h, w, c = x.shape[1:]
    corners = x.reshape(-1, t, h // 2, 2, w // 2, 2, c).permute(0, 1, 2, 4, 5, 3, 6)  # 00, 10, 01, 11
    x = merging.norm(corners.flatten(4)).to(merging.reduction.weight.dtype)
    return merging.reduction(x).float()


def _kind(size: Size, block: SwinBlock) -> str:
    window, shift = fit_window(size, block.window, block.shift)
    return "_".join(map(str, (*size, *window, *shift)))


def _divide(size: Size, divisor: Size) -> Size:
    t, h, w = (s // b for s, b in zip(size, divisor, strict=True))
    return t, h, w
