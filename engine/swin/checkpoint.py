"""A checkpoint in memory, and what identifies its backbone and its head whatever file they came in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from vtag.engine.swin.names import is_head
from vtag.engine.swin.spec import ModelSpec, SwinSizes

Tensors = Mapping[str, NDArray[np.float32]]

_PIECE = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A model with its weights: float32, named and shaped as `names.parameter_shapes` says."""

    spec: ModelSpec
    tensors: Tensors


def identified(spec: ModelSpec, tensors: Tensors) -> Checkpoint:
    """A checkpoint whose spec carries the hashes of these weights."""
    backbone = backbone_hash(spec.sizes, spec.mean, spec.std, tensors)
    head = head_hash(spec.labels, tensors)
    return Checkpoint(replace(spec, backbone_hash=backbone, head_hash=head), tensors)


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
