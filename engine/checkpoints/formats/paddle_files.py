"""Reads PaddlePaddle's `.pdparams`, a pickle of NumPy arrays, without Paddle and without unpickling."""

from __future__ import annotations

import math
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vtag.engine.checkpoints.pickle_reader import AllowedName, BoundedReader, Buildable, read_pickle
from vtag.engine.errors import ModelError

_KINDS = {f"{kind}{size}" for kind, sizes in (("f", "248"), ("i", "1248"), ("u", "1248")) for size in sizes}
_KINDS.add("b1")
_MAX_DIMENSIONS = 8
_NOT_TENSORS = "StructuredToParameterName@@"  # Paddle's own names of the tensors


class _Dtype(Buildable):
    """`numpy.dtype('f4')` and the state with its byte order."""

    def __init__(self, kind: str) -> None:
        self.numpy = np.dtype(kind)

    def build(self, state: Any) -> None:
        is_plain = isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None, None, None)
        if not is_plain or state[1] not in ("<", ">", "|", "="):
            raise ModelError("an array in it is not of plain numbers")
        self.numpy = self.numpy.newbyteorder(state[1])


class PickledArray(Buildable):
    """An array in a pickle. Its values stay bytes until they are read."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self._numpy = np.dtype("f4")
        self._data = b""
        self._order: str | None = None

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ModelError("an array in it is damaged")
        _, shape, dtype, is_fortran, data = state
        is_shape = isinstance(shape, tuple) and len(shape) <= _MAX_DIMENSIONS
        if not is_shape or not all(type(size) is int and size >= 0 for size in shape):
            raise ModelError("an array in it has an impossible shape")
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise ModelError("an array in it is not of plain numbers")
        if math.prod(shape) * dtype.numpy.itemsize != len(data):
            raise ModelError(f"an array in it claims the shape {shape}, but has {len(data)} bytes")
        self.shape, self._numpy, self._data = shape, dtype.numpy, data
        self._order = "F" if is_fortran else "C"

    @property
    def dtype(self) -> str:
        return self._numpy.newbyteorder("=").name

    def read(self) -> NDArray[Any]:
        if self._order is None:
            raise ModelError("an array in it is damaged")
        flat = np.frombuffer(self._data, self._numpy)
        return flat.reshape(self.shape, order="F" if self._order == "F" else "C")


def read_paddle(handle: BinaryIO, size: int) -> dict[str, Any]:
    """Name -> PickledArray, or another value, of the `.pdparams` in `handle`.

    Raises ModelError for other pickles.
    """
    remaining = size  # bytes that `encode` may still return: a file could name the same text again and again

    def encode(arguments: tuple[Any, ...]) -> bytes:
        nonlocal remaining
        if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] != "latin1":
            raise ModelError("an array in it is damaged")
        remaining -= len(arguments[0])
        if remaining < 0:
            raise ModelError("its arrays would be larger than the file")
        return arguments[0].encode("latin-1")

    tree = read_pickle(
        BoundedReader(handle, size), _ALLOWED | {"_codecs encode": AllowedName("encode", encode)}
    )
    if not isinstance(tree, dict):
        raise ModelError("a pickle, but not of named weights")
    tree.pop(_NOT_TENSORS, None)
    return {str(name): value for name, value in tree.items()}


def _dtype(arguments: tuple[Any, ...]) -> _Dtype:
    if not arguments or not isinstance(arguments[0], str) or arguments[0] not in _KINDS:
        raise ModelError("an array in it is not of plain numbers")
    return _Dtype(arguments[0])


def _array(arguments: tuple[Any, ...]) -> PickledArray:
    if len(arguments) != 3 or not isinstance(arguments[0], AllowedName) or arguments[0].name != "ndarray":
        raise ModelError("an array in it is damaged")
    return PickledArray()


_ALLOWED = {
    "numpy.core.multiarray _reconstruct": AllowedName("_reconstruct", _array),
    "numpy._core.multiarray _reconstruct": AllowedName("_reconstruct", _array),
    "numpy ndarray": AllowedName("ndarray"),
    "numpy dtype": AllowedName("dtype", _dtype),
}
