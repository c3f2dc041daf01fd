"""Reads torch's `.pth` files, both containers (zip, and the older series of pickles), without torch.

`torch.load(weights_only=True)` executes nothing either, but it trusts the file: it inflates compressed entries,
checks no CRC, and makes views of any size over a single value. Here the pickle is read as data (`pickle_reader.py`),
a view must be inside its storage and no larger than it, and values are read only on request.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vtag.engine.checkpoints.lazy_tensor import decode, item_bytes
from vtag.engine.checkpoints.pickle_reader import AllowedName, BoundedReader, read_pickle
from vtag.engine.errors import ModelError
from vtag.engine.text import printable

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the start of the older container, itself a pickle
_OLD_PROTOCOL = 1001

_MAX_DIRECTORY_BYTES = 4 << 20  # of a zip; Swin-B's takes 60 kB
_MAX_PICKLE_BYTES = 16 << 20  # of data.pkl; Swin-B's takes 100 kB
_MAX_DIMENSIONS = 8
_PLAIN_MEMBERS = frozenset(
    {"data.pkl", "byteorder", "version", ".format_version", ".storage_alignment", ".data/serialization_id"}
)
_STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    numel: int


@dataclass(frozen=True)
class TorchTensor:
    """A view into a storage of the file. It is checked to be inside the storage and no larger than it."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    fetch: Callable[[_Storage], bytes]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.stride)
        if not all(type(n) is int and n >= 0 for n in numbers) or len(self.shape) != len(self.stride):
            raise ModelError("a tensor in it has an impossible size, stride or offset")
        if len(self.shape) > _MAX_DIMENSIONS:
            raise ModelError(f"a tensor in it has {len(self.shape)} dimensions")
        numel = math.prod(self.shape)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        if numel and last >= self.storage.numel:
            raise ModelError(f"a tensor in it of shape {self.shape} passes the end of its storage")
        if numel > self.storage.numel:
            raise ModelError(f"a tensor in it claims the shape {self.shape} over {self.storage.numel} values")

    @property
    def dtype(self) -> str:
        return self.storage.dtype

    def read(self) -> NDArray[Any]:
        flat = decode(self.fetch(self.storage), self.storage.dtype)[self.offset :]
        if not math.prod(self.shape):
            return np.zeros(self.shape, flat.dtype)
        strides = tuple(stride * flat.itemsize for stride in self.stride)
        return np.lib.stride_tricks.as_strided(flat, self.shape, strides, writeable=False)


def read_torch_zip(handle: BinaryIO, size: int) -> Any:
    """The object that `torch.save` wrote into the zip in `handle`: plain values and TorchTensors.

    The tensors read from `handle` later. Raises ModelError for a zip that is damaged or not a plain torch file.
    """
    _check_directory(handle, size)
    with _zip_errors():
        archive = zipfile.ZipFile(handle)
        members = _members(archive, size)
        pickled = members["data.pkl"]
        if pickled.file_size > _MAX_PICKLE_BYTES:
            raise ModelError("its data.pkl is larger than any checkpoint's")
        if "byteorder" in members and _read(archive, members["byteorder"], 16) != b"little":
            raise ModelError("it was written on a big-endian machine, which is not supported")

    def fetch(storage: _Storage) -> bytes:
        info = members.get(f"data/{storage.key}")
        if info is None:
            raise ModelError(f"its storage {storage.key} is missing")
        with _zip_errors():
            return _read(archive, info, storage.numel * item_bytes(storage.dtype))

    storages: dict[str, _Storage] = {}

    def load_storage(identity: Any) -> _Storage:
        storage = _storage(identity, storages, fields=5)
        info = members.get(f"data/{storage.key}")
        if info is None or info.file_size != storage.numel * item_bytes(storage.dtype):
            raise ModelError(f"its storage {printable(storage.key)[:40]} is missing or of another size")
        return storage

    with _zip_errors(), archive.open(pickled) as stream:
        tree = read_pickle(BoundedReader(stream, pickled.file_size), _allowed_names(fetch), load_storage)
        stream.read()  # zipfile compares the CRC at the end
        return tree


def read_torch_legacy(handle: BinaryIO, size: int) -> Any:
    """The object that `torch.save` wrote before torch 1.6.

    The file has five pickles (magic, protocol, machine, values, keys), then the storages.
    Raises ModelError for a file that is damaged or cut short.
    """
    stream = BoundedReader(handle, size)
    offsets: dict[str, int] = {}

    def fetch(storage: _Storage) -> bytes:
        handle.seek(offsets[storage.key])
        return BoundedReader(handle, size - offsets[storage.key]).read(
            storage.numel * item_bytes(storage.dtype)
        )

    storages: dict[str, _Storage] = {}
    stream.read(len(MAGIC))
    if read_pickle(stream, {}) != _OLD_PROTOCOL:
        raise ModelError("a torch file of a format that is not known")
    machine = read_pickle(stream, {})
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ModelError("it was written on a big-endian machine, which is not supported")
    tree = read_pickle(stream, _allowed_names(fetch), lambda identity: _storage(identity, storages, fields=6))
    keys = read_pickle(stream, {})
    is_list = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not is_list or sorted(keys) != sorted(storages):
        raise ModelError("its list of storages does not fit its tensors")
    for key in keys:
        storage = storages[key]
        if struct.unpack("<q", stream.read(8))[0] != storage.numel:
            raise ModelError(f"its storage {printable(storage.key)[:40]} is not of the size that is claimed")
        offsets[storage.key] = size - stream.remaining
        stream.skip(storage.numel * item_bytes(storage.dtype))
    if stream.remaining:
        raise ModelError(f"{stream.remaining} bytes follow its last storage: the file is damaged")
    return tree


def _allowed_names(fetch: Callable[[_Storage], bytes]) -> dict[str, AllowedName]:
    """The names in a state dict's pickle, with the functions that replace them."""

    def tensor(arguments: tuple[Any, ...]) -> TorchTensor:
        if len(arguments) not in (6, 7) or not isinstance(arguments[0], _Storage):
            raise ModelError("a tensor in it is damaged")
        storage, offset, shape, stride = arguments[:4]
        if not isinstance(shape, tuple) or not isinstance(stride, tuple):
            raise ModelError("a tensor in it is damaged")
        return TorchTensor(storage, offset, shape, stride, fetch)

    def parameter(arguments: tuple[Any, ...]) -> TorchTensor:
        if not arguments or not isinstance(arguments[0], TorchTensor):
            raise ModelError("a parameter in it is damaged")
        return arguments[0]

    def ordered(arguments: tuple[Any, ...]) -> dict[Any, Any]:
        if arguments:
            raise ModelError("an ordered dictionary in it is damaged")
        return {}

    return {
        "torch._utils _rebuild_tensor_v2": AllowedName("_rebuild_tensor_v2", tensor),
        "torch._utils _rebuild_parameter": AllowedName("_rebuild_parameter", parameter),
        "collections OrderedDict": AllowedName("OrderedDict", ordered),
        **{f"torch {name}": AllowedName(name) for name in _STORAGES},
    }


def _storage(identity: Any, storages: dict[str, _Storage], *, fields: int) -> _Storage:
    """The storage of a persistent id ('storage', type, key, device, numel[, None for no view])."""
    if not isinstance(identity, tuple) or len(identity) != fields or identity[0] != "storage":
        raise ModelError("a storage in it is damaged")
    kind, key, numel = identity[1], identity[2], identity[4]
    if not isinstance(kind, AllowedName) or kind.name not in _STORAGES:
        raise ModelError("a storage in it is of a type that is not known")
    if not isinstance(key, str) or not key.isascii() or not key.isdigit():
        raise ModelError("a storage in it has no number")
    if type(numel) is not int or numel < 0 or (fields == 6 and identity[5] is not None):
        raise ModelError("a storage in it has an impossible size")
    storage = _Storage(key, _STORAGES[kind.name], numel)
    if storages.setdefault(key, storage) != storage:
        raise ModelError(f"its storage {key[:40]} is claimed twice, with different sizes")
    return storage


@contextmanager
def _zip_errors() -> Iterator[None]:
    """Turn zipfile's errors for a broken zip into a ModelError."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        EOFError,
        ValueError,
        NotImplementedError,
        RuntimeError,
        struct.error,
    ) as error:
        reason = "a checksum in it does not fit" if "CRC" in str(error) else "its zip container is broken"
        raise ModelError(f"the file is damaged: {reason}") from error


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The entries by their name in the archive's folder.

    Raises ModelError for entries that torch does not write, compressed ones and duplicates.
    """
    entries = archive.infolist()
    names = [info.filename.partition("/")[2] for info in entries]
    if "data.pkl" not in names:
        raise ModelError("a zip file, but not one that torch wrote")
    root = entries[0].filename.partition("/")[0]
    members: dict[str, zipfile.ZipInfo] = {}
    for info in entries:
        folder, _, name = info.filename.partition("/")
        is_storage = name.startswith("data/") and name[5:].isascii() and name[5:].isdigit()
        if folder != root or not (is_storage or name in _PLAIN_MEMBERS):
            raise ModelError(f"it has an entry that no weights need: {printable(info.filename)[:80]!r}")
        if name in members:
            raise ModelError(f"it has two entries {printable(info.filename)[:80]!r}")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ModelError("its entries are compressed, which torch never does")
        members[name] = info
    if sum(info.file_size for info in entries) > size:
        raise ModelError("its entries claim more bytes than the file has")
    return members


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, count: int) -> bytes:
    """The `count` bytes of an entry, read to its end, where zipfile compares the CRC."""
    with archive.open(info) as stream:
        data = stream.read(count)
        if len(data) != info.file_size or stream.read(1):
            raise ModelError("an entry of it is damaged")
        return data


def _check_directory(handle: BinaryIO, size: int) -> None:
    """Raise ModelError if the zip's directory is missing or absurdly long, since zipfile reads all of it."""
    start = max(0, size - (1 << 16) - 22)
    handle.seek(start)
    tail = handle.read(size - start)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end < 22:
        raise ModelError("the file is cut short: the directory at the end of the zip is missing")
    length = struct.unpack_from("<L", tail, end + 12)[0]
    lengths = [] if length == 0xFFFFFFFF else [length]
    # torch writes the 64-bit record too (56 bytes), then its locator (20 bytes)
    if (
        end >= 76
        and tail[end - 20 : end - 16] == b"PK\x06\x07"
        and tail[end - 76 : end - 72] == b"PK\x06\x06"
    ):
        lengths.append(struct.unpack_from("<Q", tail, end - 76 + 40)[0])
    if not lengths or max(lengths) > _MAX_DIRECTORY_BYTES:
        raise ModelError("its zip directory is longer than any checkpoint's")
