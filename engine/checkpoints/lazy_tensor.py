"""A tensor as it lies in a file: its shape is known at once, its values are read when asked for."""

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
        """What the file holds, by NumPy's name, or bfloat16."""
        ...

    def read(self) -> NDArray[Any]:
        """The values (bfloat16 as float32). Raises ModelError where the file is damaged."""
        ...


FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
_ITEM_BYTES = {"bfloat16": 2, "bool": 1}


def item_bytes(dtype: str) -> int:
    """Bytes of one value."""
    return _ITEM_BYTES.get(dtype) or np.dtype(dtype).itemsize


def decode(data: bytes, dtype: str) -> NDArray[Any]:
    """Little-endian `data` as a flat array; bfloat16 becomes float32, which holds all its values."""
    if dtype == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))
