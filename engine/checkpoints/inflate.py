"""Turns an image Swin into the start of a video model, as the official `inflate_weights` does."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from vtag.engine.checkpoints.assemble import Weights, infer_sizes
from vtag.engine.checkpoints.checkpoint import Tensors
from vtag.engine.checkpoints.load import read_weights
from vtag.engine.checkpoints.safe_open import open_regular, prefix_errors
from vtag.engine.errors import ModelError
from vtag.engine.swin.config import SwinSizes
from vtag.engine.swin.weight_names import UNPREFIXED, is_head, parameter_shapes

Size = tuple[int, int, int]

_PATCH = "patch_embed.proj.weight"


@dataclass(frozen=True)
class Backbone:
    """A video model without its head: `tensors` float32 under our names, `sizes` with one class."""

    sizes: SwinSizes
    tensors: Tensors

    def with_classes(self, num_classes: int) -> SwinSizes:
        """The sizes of a model on this backbone."""
        return replace(self.sizes, num_classes=num_classes)


def inflate(path: Path, *, window_size: Size = (8, 7, 7), patch_size: Size = (2, 4, 4)) -> Backbone:
    """The backbone of a video model from an image Swin's checkpoint (`.pth` or Paddle's `.pdparams`).

    The patch kernel is repeated along time and divided by the number of frames. A position table is resized (bicubic)
    if the window's height or width differs, and repeated along time.

    Raises ModelError if the file is not a sound image Swin.
    """
    path = Path(path)
    with prefix_errors(path), open_regular(path) as (handle, size):
        weights = read_weights(handle, size)
        kernel = weights.shape(_PATCH)
        if weights.naming is not UNPREFIXED or len(kernel) != 4:
            raise ModelError("not an image Swin: a video model needs no inflating")
        if kernel[2:] != patch_size[1:]:
            raise ModelError(f"its patches are {kernel[2]}x{kernel[3]}, not {patch_size[1]}x{patch_size[2]}")
        sizes = infer_sizes(
            weights, embed_dim=kernel[0], patch_size=patch_size, window_size=window_size, num_classes=1
        )
        return Backbone(
            sizes, {n: _inflate_weight(weights, sizes, n, s) for n, s in _backbone_shapes(sizes).items()}
        )


def _backbone_shapes(sizes: SwinSizes) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in parameter_shapes(sizes).items() if not is_head(name)}


def _inflate_weight(
    weights: Weights, sizes: SwinSizes, name: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    if name == _PATCH:
        return _inflate_kernel(weights.read(name, (*shape[:2], *shape[3:])), shape[2])
    if name.endswith(".relative_position_bias_table"):
        rows, heads = weights.shape(name)[0], shape[1]
        if math.isqrt(rows) ** 2 != rows:
            raise ModelError(
                f"its tensor {weights.file_name(name)!r} has {rows} rows, which is no square window's"
            )
        return _inflate_table(weights.read(name, (rows, heads)), sizes.window_size)
    return weights.read(name, shape)


def _inflate_kernel(kernel: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """[C, 3, h, w] -> [C, 3, t, h, w], with the same output for a still picture."""
    return np.repeat(kernel[:, :, None], frames, axis=2) / np.float32(frames)


def _inflate_table(table: NDArray[np.float32], window: Size) -> NDArray[np.float32]:
    """[S*S, heads] -> [(2t-1)*(2h-1)*(2w-1), heads]."""
    t, h, w = (2 * size - 1 for size in window)
    if table.shape[0] != h * w:
        side, heads = math.isqrt(table.shape[0]), table.shape[1]
        square = torch.from_numpy(table.T.copy()).view(1, heads, side, side)
        resized = F.interpolate(square, size=(h, w), mode="bicubic", align_corners=False)
        table = resized.view(heads, h * w).numpy().T
    return np.ascontiguousarray(np.tile(table, (t, 1)))
