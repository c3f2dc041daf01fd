"""A checkpoint in memory, with hashes that identify its backbone and its head in any file format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from vtag.engine.swin.config import ModelSpec, SwinSizes
from vtag.engine.swin.weight_names import is_head

Tensors = Mapping[str, NDArray[np.float32]]

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class OnnxGraph:
    """A network in an ONNX file, for clips of one size."""

    file: Path
    precision: str  # fp32, fp16, int8
    size: tuple[int, int, int]  # T, H, W of its clips
    batch: int | None  # clips in a call; None: any number
    sha256: str  # of the file


@dataclass(frozen=True)
class Checkpoint:
    """A model with its weights in float32, with the names and shapes of `weight_names.parameter_shapes`.

    A model from an ONNX file has `onnx`. If the file computes in less than float32, only the file has the backbone,
    and `tensors` are the head's.
    """

    spec: ModelSpec
    tensors: Tensors
    onnx: OnnxGraph | None = None

    @property
    def has_backbone(self) -> bool:
        """Whether the backbone's weights are among the tensors."""
        return not all(is_head(name) for name in self.tensors)


def with_hashes(spec: ModelSpec, tensors: Tensors, onnx: OnnxGraph | None = None) -> Checkpoint:
    """A checkpoint with the hashes of its weights in its spec. A backbone without weights has its file's hash."""
    checkpoint = Checkpoint(spec, tensors, onnx)
    if checkpoint.has_backbone or onnx is None:
        backbone = backbone_hash(spec.sizes, spec.mean, spec.std, tensors)
    else:
        backbone = hashlib.sha256(f"onnx {onnx.sha256}".encode()).hexdigest()
    head = head_hash(spec.labels, tensors)
    return replace(checkpoint, spec=replace(spec, backbone_hash=backbone, head_hash=head))


def backbone_hash(sizes: SwinSizes, mean: Sequence[float], std: Sequence[float], tensors: Tensors) -> str:
    """SHA-256 of all that a pooled feature depends on besides the pixels: sizes, mean, std, weights."""
    description = asdict(sizes) | {"mlp_ratio": float(sizes.mlp_ratio)}
    del description["num_classes"]  # the head's
    description |= {"mean": [float(v) for v in mean], "std": [float(v) for v in std]}
    return _hash(description, tensors, (name for name in tensors if not is_head(name)))


def head_hash(labels: Sequence[str], tensors: Tensors) -> str:
    """SHA-256 of the linear layer and the labels, in their order."""
    return _hash({"labels": list(labels)}, tensors, (name for name in tensors if is_head(name)))


def file_hash(handle: BinaryIO) -> str:
    """SHA-256 of a whole file, in hex."""
    handle.seek(0)
    digest = hashlib.sha256()
    while chunk := handle.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _hash(description: Mapping[str, object], tensors: Tensors, names: Iterable[str]) -> str:
    digest = hashlib.sha256(json.dumps(description, sort_keys=True, ensure_ascii=False).encode())
    for name in sorted(names):
        array = np.ascontiguousarray(tensors[name], "<f4")
        digest.update(f"\0{name}\0{array.shape}\0".encode())
        digest.update(array.data)
    return digest.hexdigest()
