"""A tensor in a file: the shape is read at once, the values only on request."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class LazyTensor(Protocol):
    """A tensor of a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str:
        """The type of the values in the file: NumPy's name, or bfloat16."""
        ...

    def read(self) -> NDArray[Any]:
        """The values (bfloat16 as float32). Raises ModelError if the file is damaged."""
        ...


FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
_ITEM_BYTES = {"bfloat16": 2, "bool": 1}


def item_bytes(dtype: str) -> int:
    """The size of one value, in bytes."""
    return _ITEM_BYTES.get(dtype) or np.dtype(dtype).itemsize


def decode(data: bytes, dtype: str) -> NDArray[Any]:
    """Little-endian `data` as a flat array. bfloat16 becomes float32, without loss."""
    if dtype == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))
