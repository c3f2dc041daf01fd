"""The Video Swin Transformer as a trainable module.

Liu et al., "Video Swin Transformer", 2021, arXiv 2106.13230. It computes what the official repository
(SwinTransformer/Video-Swin-Transformer, Apache-2.0) and torchvision's `SwinTransformer3d` (BSD-3-Clause) compute,
in new code. All layers use one layout: [B, T, H, W, C].
"""

from __future__ import annotations

# mypy: disable-error-code="no-any-return"
# torch does not type the result of calling a module
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vtag.engine.swin.config import SwinSizes
from vtag.engine.swin.weight_names import hidden_dim
from vtag.engine.swin.windows import (
    BLOCKED,
    Size,
    fit_window,
    join,
    pad_to,
    padded_size,
    partition,
    relative_position_index,
    shift_mask,
)

_NORM_EPS = 1e-5
_MAX_TABLES = 24  # enough for four sizes of clips; a clip of 32x224x224 needs 28 MB of tables


class PatchEmbed(nn.Module):
    """Clips [B, T, H, W, 3] -> tokens [B, T', H', W', C]."""

    def __init__(self, patch: Size, dim: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(3, dim, patch, patch)
        self.norm = nn.LayerNorm(dim, _NORM_EPS)

    def forward(self, clips: Tensor) -> Tensor:
        clips = pad_to(clips, padded_size(_map_size(clips), self.patch))
        b, t, h, w, c = clips.shape
        pt, ph, pw = self.patch
        x = clips.reshape(b, t // pt, pt, h // ph, ph, w // pw, pw, c)
        # patches do not overlap, so the convolution is one matrix; the kernel's order is [..., 3, pt, ph, pw]
        x = x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(4)
        return self.norm(F.linear(x, self.proj.weight.flatten(1), self.proj.bias))


class WindowAttention(nn.Module):
    """Attention among the tokens of a window, with a learned bias for each relative position and head."""

    # a trainer may set a faster function
    attention: Callable[..., Tensor] = staticmethod(F.scaled_dot_product_attention)

    def __init__(self, dim: int, heads: int, window: Size) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        rows = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, heads))

    def forward(self, x: Tensor, index: Tensor, mask: Tensor | None) -> Tensor:
        """Attention of `x` [B, windows, tokens, C], in the same shape.

        `index` [tokens, tokens] are rows of the bias table. `mask` bool [windows, tokens, tokens] is True for pairs
        that must not attend to each other. None masks no pair.
        """
        b, windows, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(b, windows, tokens, 3, self.heads, -1).permute(3, 0, 1, 4, 2, 5)
        bias = self.bias(index).to(q.dtype)[None]
        if mask is not None:
            bias = torch.where(mask[:, None], bias + BLOCKED, bias)  # [windows, heads, tokens, tokens]
        # The fused kernels take four dimensions. The bias is broadcast over the clips of a batch, never repeated.
        # With masks it differs by window, so windows are then joined with the heads instead of the batch.
        groups = (b * windows, self.heads, tokens, -1)
        if mask is not None and b > 1:
            groups, bias = (b, windows * self.heads, tokens, -1), bias.reshape(1, -1, tokens, tokens)
        out = self.attention(q.reshape(groups), k.reshape(groups), v.reshape(groups), bias)
        out = out.reshape(b, windows, self.heads, tokens, -1).transpose(
            2, 3
        )  # a token's heads next to each other
        return self.proj(out.reshape(b, windows, tokens, dim))

    def bias(self, index: Tensor) -> Tensor:
        """The bias of each pair of tokens, [heads, tokens, tokens]."""
        rows = self.relative_position_bias_table.t().index_select(1, index.flatten())
        return rows.reshape(self.heads, *index.shape)


class Mlp(nn.Module):
    """Two layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class DropPath(nn.Module):
    """Drops a residual branch for random clips of a batch in training (Huang et al., 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep_mask = torch.empty(x.shape[0], *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return x * keep_mask.bernoulli_(1 - self.rate) / (1 - self.rate)


class SwinBlock(nn.Module):
    """Attention within (shifted) windows, then an MLP, each with a residual connection."""

    def __init__(
        self, dim: int, heads: int, hidden: int, window: Size, shift: Size, drop_path: float
    ) -> None:
        super().__init__()
        self.window = window
        self.shift = shift
        self.norm1 = nn.LayerNorm(dim, _NORM_EPS)
        self.attn = WindowAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim, _NORM_EPS)
        self.mlp = Mlp(dim, hidden)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, tables: AttentionTables) -> Tensor:
        x = x + self.drop_path(self.attend(self.norm1(x), tables))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def attend(self, x: Tensor, tables: AttentionTables) -> Tensor:
        """Pad, roll, attend in windows, roll back, cut: [B, T, H, W, C] -> the same."""
        size = _map_size(x)
        window, shift = fit_window(size, self.window, self.shift)
        padded = padded_size(size, window)
        x = pad_to(x, padded)
        if any(shift):
            x = x.roll((-shift[0], -shift[1], -shift[2]), (1, 2, 3))
        windows = partition(x, window)
        index = tables.index(self.window, windows.shape[2], x.device)
        x = self.attn(windows, index, tables.mask(padded, window, shift, x.device))
        x = join(x, window, padded)
        if any(shift):
            x = x.roll(shift, (1, 2, 3))
        return x[:, : size[0], : size[1], : size[2]]


class AttentionTables:
    """A cache of position indices and shift masks, on the device that uses them. All blocks of a model share it."""

    def __init__(self) -> None:
        self._tables: dict[tuple[object, ...], Tensor] = {}

    def index(self, window: Size, tokens: int, device: torch.device) -> Tensor:
        """Rows of the bias table for the first `tokens` tokens of a window, [tokens, tokens]."""
        return self._get((window, tokens), device, lambda: relative_position_index(window, tokens))

    def mask(self, padded: Size, window: Size, shift: Size, device: torch.device) -> Tensor | None:
        """The shift mask [windows, tokens, tokens]. None without a shift."""
        if not any(shift):
            return None
        return self._get((padded, window, shift), device, lambda: shift_mask(padded, window, shift))

    def _get(
        self, sizes: tuple[object, ...], device: torch.device, make: Callable[[], NDArray[Any]]
    ) -> Tensor:
        key = (*sizes, device)
        table = self._tables.get(key)
        if table is None:
            while len(self._tables) >= _MAX_TABLES:
                self._tables.pop(next(iter(self._tables)))
            with torch.inference_mode(False):  # a cached table must work in training, too
                table = self._tables[key] = torch.from_numpy(make()).to(device)
        return table


class PatchMerging(nn.Module):
    """Joins 2x2 tokens of a frame: [B, T, H, W, C] -> [B, T, H/2, W/2, 2C]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim, _NORM_EPS)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to(x, padded_size(_map_size(x), (1, 2, 2)))
        corners = [x[:, :, h::2, w::2] for w in (0, 1) for h in (0, 1)]  # the weights expect 00, 10, 01, 11
        return self.reduction(self.norm(torch.cat(corners, -1)))


class Stage(nn.Module):
    """Blocks of one width, every second one shifted by half a window. All stages but the last end with merging."""

    downsample: PatchMerging | None

    def __init__(
        self, sizes: SwinSizes, number: int, drop_paths: list[float], tables: AttentionTables
    ) -> None:
        super().__init__()
        dim = sizes.embed_dim << number
        window = sizes.window_size
        half = (window[0] // 2, window[1] // 2, window[2] // 2)
        self.blocks = nn.ModuleList(
            SwinBlock(dim, sizes.num_heads[number], hidden_dim(sizes, number), window, shift, rate)
            for rate, shift in zip(drop_paths, _alternate((0, 0, 0), half), strict=False)
        )
        is_last = number + 1 == len(sizes.depths)
        self.downsample = None if is_last else PatchMerging(dim)
        self.tables = tables
        self.recomputes = False  # recompute activations in the backward pass, which saves memory

    def attend(self, x: Tensor) -> Tensor:
        """The feature map after the last block, before merging."""
        for block in self.blocks:
            if self.recomputes and torch.is_grad_enabled():
                x = checkpoint(block, x, self.tables, use_reentrant=False)
            else:
                x = block(x, self.tables)
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.attend(x)
        return x if self.downsample is None else self.downsample(x)


class VideoSwin(nn.Module):
    """A Video Swin Transformer of any sizes, for clips of any T, H, W of at least 1.

    Args:
        sizes: what to build.
        drop_path: the rate at which branches of the last block are dropped in training. It rises from 0 at the
            first block. The official recipes use 0.1 for T, 0.2 for S and 0.3 for B.
    """

    def __init__(self, sizes: SwinSizes, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.sizes = sizes
        tables = AttentionTables()
        rates = iter(np.linspace(0, drop_path, sum(sizes.depths)).tolist())
        self.patch_embed = PatchEmbed(sizes.patch_size, sizes.embed_dim)
        self.stages = nn.ModuleList(
            Stage(sizes, i, [next(rates) for _ in range(depth)], tables)
            for i, depth in enumerate(sizes.depths)
        )
        self.norm = nn.LayerNorm(sizes.feature_dim, _NORM_EPS)
        self.head = nn.Linear(sizes.feature_dim, sizes.num_classes)
        self.apply(_initialise)

    def forward_features(self, clips: Tensor) -> Tensor:
        """Pooled features float [B, D] of normalised `clips` [B, T, H, W, 3]."""
        x = self.patch_embed(clips)
        for stage in self.stages:
            x = stage(x)
        return self.norm(x).mean((1, 2, 3))

    def forward(self, clips: Tensor) -> Tensor:
        """Logits float [B, K] of normalised `clips` [B, T, H, W, 3]."""
        return self.head(self.forward_features(clips))

    def no_weight_decay(self) -> frozenset[str]:
        """Names of the parameters without weight decay: biases, norms and the position tables."""
        return frozenset(
            name
            for name, parameter in self.named_parameters()
            if parameter.ndim == 1 or name.endswith("relative_position_bias_table")
        )

    @classmethod
    def from_arrays(cls, sizes: SwinSizes, tensors: Mapping[str, NDArray[np.float32]]) -> VideoSwin:
        """A model with these weights, in eval mode. It skips the random initialisation."""
        with torch.device("meta"):
            model = cls(sizes)
        weights = {name: torch.from_numpy(array.copy()) for name, array in tensors.items()}
        model.load_state_dict(weights, assign=True)
        return model.eval()

    def load_arrays(self, tensors: Mapping[str, NDArray[np.float32]]) -> VideoSwin:
        """Load all weights of a Checkpoint's `tensors`. Returns the module."""
        self.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in tensors.items()})
        return self

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the weights in float32, named as in a Checkpoint's `tensors`."""
        return {
            name: tensor.detach().to("cpu", torch.float32).numpy().copy()
            for name, tensor in self.state_dict().items()
        }


def _map_size(x: Tensor) -> Size:
    return x.shape[1], x.shape[2], x.shape[3]


def _alternate(even: Size, odd: Size) -> Iterator[Size]:
    while True:
        yield even
        yield odd


def _initialise(module: nn.Module) -> None:
    """Initialise as the official repository: matrices and tables truncated normal of 0.02, biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
