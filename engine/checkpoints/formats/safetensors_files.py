"""Reads safetensors files. The header is checked against the file before any value is read."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from numpy.typing import NDArray

from vtag.engine.checkpoints.lazy_tensor import decode, item_bytes
from vtag.engine.checkpoints.pickle_reader import BoundedReader
from vtag.engine.errors import ModelError

_MAX_HEADER_BYTES = 4 << 20  # Swin-B's takes 40 kB
_MAX_DIMENSIONS = 8
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class SafeTensor:
    """A tensor in a safetensors file, at `start`, of `bytes` bytes."""

    handle: BinaryIO
    start: int
    bytes: int
    shape: tuple[int, ...]
    dtype: str

    def read(self) -> NDArray[Any]:
        self.handle.seek(self.start)
        return decode(BoundedReader(self.handle, self.bytes).read(self.bytes), self.dtype).reshape(self.shape)


def looks_like_safetensors(head: bytes, size: int) -> bool:
    """Whether a file begins with a header length and an object."""
    return len(head) >= 9 and head[8:9] in (b"{", b"[")


def read_safetensors(handle: BinaryIO, size: int) -> dict[str, SafeTensor]:
    """Name -> SafeTensor, which reads from `handle` later.

    Raises ModelError if the header is damaged, or its tensors do not fill the file exactly.
    """
    handle.seek(0)
    reader = BoundedReader(handle, size)
    length = struct.unpack("<Q", reader.read(8))[0]
    if length > min(reader.remaining, _MAX_HEADER_BYTES):
        raise ModelError("the file is cut short, or its header claims an absurd length")
    header = read_json(reader.read(length), "its header")
    if not isinstance(header, dict):
        raise ModelError("its header is not an object")
    header.pop("__metadata__", None)
    start = 8 + length
    tensors = {name: _tensor(handle, start, entry) for name, entry in header.items()}
    end = start
    for tensor in sorted(tensors.values(), key=lambda t: (t.start, t.bytes)):
        if tensor.start != end:
            raise ModelError("its tensors overlap or leave a hole: the file is damaged")
        end += tensor.bytes
    if end != size:
        raise ModelError("its tensors do not fill the file: it is cut short or damaged")
    return tensors


def read_json(data: bytes, source: str) -> Any:
    """Parsed JSON. Raises ModelError for other text, absurd nesting, NaN or a duplicate key."""
    try:
        return json.loads(data, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{source} is not sound JSON") from error


def _tensor(handle: BinaryIO, start: int, entry: Any) -> SafeTensor:
    entry = entry if isinstance(entry, dict) else {}
    shape, offsets, dtype = entry.get("shape"), entry.get("data_offsets"), entry.get("dtype")
    if not _is_integer_list(shape) or not _is_integer_list(offsets) or len(offsets) != 2:
        raise ModelError("a tensor in its header has an impossible shape or place")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ModelError("a tensor in it is not of floats")
    begin, end = offsets
    if len(shape) > _MAX_DIMENSIONS or math.prod(shape) * item_bytes(_DTYPES[dtype]) != end - begin:
        raise ModelError("a tensor in it has a shape that does not fit its place in the file")
    return SafeTensor(handle, start + begin, end - begin, tuple(shape), _DTYPES[dtype])


def _is_integer_list(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _unique_keys(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands there twice")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
