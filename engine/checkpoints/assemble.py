"""Turns a file's named tensors into vtag's: infers the sizes from names and shapes, and checks each weight."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtag.engine.checkpoints.lazy_tensor import FLOATS, LazyTensor
from vtag.engine.checkpoints.window_size import find_window
from vtag.engine.errors import ModelError
from vtag.engine.swin.config import SwinSizes
from vtag.engine.swin.weight_names import Naming, detect_naming, is_derived, parameter_shapes
from vtag.engine.text import printable

Size = tuple[int, int, int]

# Weights do not share their values, so together they are not much larger than the file. The factor is for
# float16 files, the constant for small ones.
_EXTRA_BYTES = 128 << 20
_MAX_EXPANSION = 4

_PATCH = "patch_embed.proj.weight"
_TABLE = "attn.relative_position_bias_table"
_INDEX = "attn.relative_position_index"


class Weights:
    """A file's tensors under vtag's names, with torch's shapes. They are read one by one."""

    def __init__(self, tensors: Mapping[str, Any], *, transposed: bool, file_bytes: int) -> None:
        """`transposed`: matrices are [in, out], as in Paddle. Raises ModelError if no naming fits."""
        if not tensors:
            raise ModelError("it holds no weights")
        naming = detect_naming(list(tensors))
        if naming is None:
            raise ModelError(
                f"none of its names are a Video Swin's (the first is {printable(next(iter(tensors)))[:80]!r})"
            )
        self.naming: Naming = naming
        self._transposed = transposed
        self._remaining_bytes = _EXTRA_BYTES + _MAX_EXPANSION * file_bytes
        self.derived: dict[str, LazyTensor] = {}
        self._stored: dict[str, LazyTensor] = {}
        for name, tensor in tensors.items():
            if not hasattr(tensor, "read"):
                raise ModelError(f"{printable(name)[:80]!r} is no tensor, but {_kind(tensor)}")
            vtag_name = naming.to_vtag(name)
            if is_derived(name):
                self.derived[vtag_name or name] = tensor
            elif vtag_name is None:
                raise ModelError(f"it has a tensor that a Video Swin has not: {printable(name)[:80]!r}")
            else:
                self._stored[vtag_name] = tensor

    def __contains__(self, name: str) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def file_name(self, name: str) -> str:
        """The file's name for a tensor of vtag, even if the file lacks it."""
        return self.naming.to_file(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor of vtag. Raises ModelError if the file lacks it."""
        if name not in self._stored:
            raise ModelError(f"it lacks the tensor {self.file_name(name)!r}")
        shape = tuple(self._stored[name].shape)
        if not all(shape):
            raise ModelError(f"its tensor {self.file_name(name)!r} is empty: {_format_shape(shape)}")
        return shape[::-1] if self._is_transposed(name, shape) else shape

    def read(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A tensor of vtag as float32. Raises ModelError unless it has that shape and finite numbers."""
        if self.shape(name) != shape:
            raise ModelError(
                f"its tensor {self.file_name(name)!r} is {_format_shape(self.shape(name))}, but the sizes of the "
                f"others ask for {_format_shape(shape)}"
            )
        stored = self._stored[name]
        if stored.dtype not in FLOATS:
            raise ModelError(
                f"its tensor {self.file_name(name)!r} is of {stored.dtype}, and weights are floats"
            )
        self._remaining_bytes -= 4 * math.prod(shape)
        if self._remaining_bytes < 0:
            raise ModelError("its tensors together are much larger than the file: they share their values")
        values = stored.read()
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(
                values.T if self._is_transposed(name, stored.shape) else values, np.float32
            )
        if not np.isfinite(array).all():
            raise ModelError(
                f"its tensor {self.file_name(name)!r} holds NaN or infinity: the weights are broken"
            )
        array.flags.writeable = False
        return array

    def _is_transposed(self, name: str, shape: tuple[int, ...]) -> bool:
        return self._transposed and len(shape) == 2 and name.endswith(".weight")


def infer_video_sizes(weights: Weights, window: Size | None = None) -> SwinSizes:
    """The sizes of a video model, from names and shapes. `window` overrides the inferred window.

    Raises ModelError for an image model, or if a tensor that determines a size is missing.
    """
    patch = weights.shape(_PATCH)
    if len(patch) == 4:
        raise ModelError("an image Swin, which can start a training but cannot tag videos as it is")
    if len(patch) != 5 or patch[1] != 3:
        raise ModelError(
            f"its tensor {weights.file_name(_PATCH)!r} is {_format_shape(patch)}, not [embed, 3, t, h, w]"
        )
    rows = _table(weights, 0)[0]
    return infer_sizes(
        weights,
        embed_dim=patch[0],
        patch_size=(patch[2], patch[3], patch[4]),
        window_size=window or find_window(rows, _index(weights)),
        num_classes=weights.shape("head.weight")[0],
    )


def infer_sizes(
    weights: Weights, *, embed_dim: int, patch_size: Size, window_size: Size, num_classes: int
) -> SwinSizes:
    """The sizes, with depths, heads and MLP ratio inferred from the blocks' names and shapes."""
    depths = _depths(weights)
    hidden = weights.shape("stages.0.blocks.0.mlp.fc1.weight")[0]
    return SwinSizes(
        embed_dim=embed_dim,
        depths=depths,
        num_heads=tuple(_table(weights, i)[1] for i in range(len(depths))),
        num_classes=num_classes,
        window_size=window_size,
        patch_size=patch_size,
        mlp_ratio=_ratio(embed_dim, hidden),
    )


def read_tensors(weights: Weights, sizes: SwinSizes) -> dict[str, NDArray[np.float32]]:
    """All weights of a model of these sizes. Raises ModelError, which names a missing, extra or misshapen one."""
    shapes = parameter_shapes(sizes)
    for name in shapes:
        weights.shape(name)  # raises for a missing tensor before any is read
    for name in weights:
        if name not in shapes:
            raise ModelError(
                f"it has a tensor that a Video Swin has not: {printable(weights.file_name(name))[:80]!r}"
            )
    return {name: weights.read(name, shape) for name, shape in shapes.items()}


def _depths(weights: Weights) -> tuple[int, ...]:
    """The number of blocks in each stage, from the highest numbers in the names."""
    blocks: dict[int, int] = {}
    for name in weights:
        if match := re.match(r"stages\.(\d+)\.(?:blocks\.(\d+)\.)?", name):
            stage, block = int(match[1]), int(match[2] or 0)
            blocks[stage] = max(blocks.get(stage, 0), block + 1)
    return tuple(blocks.get(i, 1) for i in range(max(blocks, default=0) + 1))


def _table(weights: Weights, stage: int) -> tuple[int, int]:
    """The numbers of rows and heads of a stage's first bias table."""
    name = f"stages.{stage}.blocks.0.{_TABLE}"
    shape = weights.shape(name)
    if len(shape) != 2:
        raise ModelError(
            f"its tensor {weights.file_name(name)!r} is {_format_shape(shape)}, not [rows, heads]"
        )
    return shape[0], shape[1]


def _index(weights: Weights) -> NDArray[Any] | None:
    """The first block's position index, which only helps to infer the window. None if the file has no usable one."""
    stored = weights.derived.get(f"stages.0.blocks.0.{_INDEX}")
    if stored is None or len(stored.shape) != 2 or stored.shape[0] != stored.shape[1] or not stored.shape[0]:
        return None
    return stored.read() if stored.dtype.startswith(("int", "uint")) else None


def _ratio(dim: int, hidden: int) -> float:
    """The MLP ratio for which `int(dim * ratio)` is `hidden`."""
    ratio = hidden / dim
    return ratio if int(dim * ratio) == hidden else math.nextafter(ratio, math.inf)


def _format_shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) if shape else "a single number"


def _kind(value: object) -> str:
    names: dict[type, str] = {dict: "a dictionary", list: "a list", tuple: "a list", str: "text"}
    return names.get(type(value), type(value).__name__)
