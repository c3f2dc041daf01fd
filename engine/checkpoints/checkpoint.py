"""A checkpoint in memory, and what identifies its backbone and its head whatever file they came in."""

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

_PIECE = 1 << 20


@dataclass(frozen=True)
class OnnxGraph:
    """A network as an ONNX file, that takes clips of one size."""

    file: Path
    precision: str  # fp32, fp16, int8
    size: tuple[int, int, int]  # T, H, W of its clips
    batch: int | None  # clips in a call; None: any number
    sha256: str  # of the file


@dataclass(frozen=True)
class Checkpoint:
    """A model with its weights: float32, named and shaped as `weight_names.parameter_shapes` says.

    A model that came as an ONNX file has `onnx`. Where that computes in less than float32 its backbone is in
    the graph alone, and `tensors` are the head's.
    """

    spec: ModelSpec
    tensors: Tensors
    onnx: OnnxGraph | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the backbone's weights are among the tensors."""
        return not all(is_head(name) for name in self.tensors)


def with_hashes(spec: ModelSpec, tensors: Tensors, onnx: OnnxGraph | None = None) -> Checkpoint:
    """A checkpoint whose spec carries the hashes of these weights; of a backbone in a graph, of its file."""
    checkpoint = Checkpoint(spec, tensors, onnx)
    if checkpoint.is_whole or onnx is None:
        backbone = backbone_hash(spec.sizes, spec.mean, spec.std, tensors)
    else:
        backbone = hashlib.sha256(f"onnx {onnx.sha256}".encode()).hexdigest()
    head = head_hash(spec.labels, tensors)
    return replace(checkpoint, spec=replace(spec, backbone_hash=backbone, head_hash=head))


def backbone_hash(sizes: SwinSizes, mean: Sequence[float], std: Sequence[float], tensors: Tensors) -> str:
    """SHA-256 over all that a pooled feature depends on but the pixels: sizes, mean, std, weights."""
    told = asdict(sizes) | {"mlp_ratio": float(sizes.mlp_ratio)}
    del told["num_classes"]  # the head's
    told |= {"mean": [float(v) for v in mean], "std": [float(v) for v in std]}
    return _hash(told, tensors, (name for name in tensors if not is_head(name)))


def head_hash(labels: Sequence[str], tensors: Tensors) -> str:
    """SHA-256 over the linear layer and the labels, in their order."""
    return _hash({"labels": list(labels)}, tensors, (name for name in tensors if is_head(name)))


def file_hash(handle: BinaryIO) -> str:
    """SHA-256 of a file, from its start."""
    handle.seek(0)
    digest = hashlib.sha256()
    while piece := handle.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _hash(told: Mapping[str, object], tensors: Tensors, names: Iterable[str]) -> str:
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=False).encode())
    for name in sorted(names):
        array = np.ascontiguousarray(tensors[name], "<f4")
        digest.update(f"\0{name}\0{array.shape}\0".encode())
        digest.update(array.data)
    return digest.hexdigest()
