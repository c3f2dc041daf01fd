"""Loads published checkpoints without their frameworks. The format is detected by content, and nothing is executed.

Formats are torchvision's and the official repository's `.pth` (both containers of torch), PaddleVideo's `.pdparams`,
and vtag's model folder. Sizes are inferred from the tensors. Unknown or missing tensors are errors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from vtag.assets import kinetics400_labels
from vtag.engine.checkpoints.assemble import Weights, infer_video_sizes, read_tensors
from vtag.engine.checkpoints.checkpoint import Checkpoint, backbone_hash, file_hash, head_hash, with_hashes
from vtag.engine.checkpoints.formats.paddle_files import read_paddle
from vtag.engine.checkpoints.formats.safetensors_files import looks_like_safetensors
from vtag.engine.checkpoints.formats.torch_files import MAGIC, TorchTensor, read_torch_legacy, read_torch_zip
from vtag.engine.checkpoints.model_folder import (
    is_weights_of_folder,
    read_model_folder,
    read_onnx_model,
    save_model_folder,
)
from vtag.engine.checkpoints.safe_open import open_regular, prefix_errors
from vtag.engine.errors import ModelError
from vtag.engine.swin.config import ModelSpec
from vtag.engine.text import printable

__all__ = [
    "Checkpoint",
    "backbone_hash",
    "head_hash",
    "load_checkpoint",
    "read_weights",
    "save_model_folder",
    "with_hashes",
]

_HEAD_BYTES = 512
_KINETICS_CLASSES = 400
_WRAPPERS = ("state_dict", "model", "model_state", "model_state_dict")


def load_checkpoint(
    path: Path,
    *,
    name: str | None = None,
    labels: Sequence[str] | None = None,
    window_size: tuple[int, int, int] | None = None,
) -> Checkpoint:
    """The model at `path`: a published checkpoint, a model folder, or a weights file in a model folder.

    Args:
        name: the model's name; by default the file's or folder's name.
        labels: one for each class, in the order of the class ids. By default a checkpoint of 400 classes gets the
            labels of Kinetics-400, any other one `class 0`, `class 1`, ...
        window_size: T, H, W of a published checkpoint's window, if the inferred one is wrong.

    Raises ModelError, one sentence that begins with the path and says what is wrong with the file.
    """
    path = Path(path)
    with prefix_errors(path):
        if path.is_dir():
            return read_model_folder(path, name=name, labels=labels)
        with open_regular(path) as (handle, size):
            head = handle.read(_HEAD_BYTES)
            if looks_like_safetensors(head, size) and size:
                if not is_weights_of_folder(path):
                    raise ModelError(
                        "safetensors weights without the model.json that describes them beside it"
                    )
                return read_model_folder(path.parent, name=name, labels=labels)
            if looks_like_onnx(head):
                if is_weights_of_folder(path):
                    return read_model_folder(path.parent, name=name, labels=labels)
                return read_onnx_model(path)
            weights = read_weights(handle, size)
            sizes = infer_video_sizes(weights, window_size)
            tensors = read_tensors(weights, sizes)
            sha256 = file_hash(handle)
        named = tuple(labels) if labels is not None else default_labels(sizes.num_classes)
        spec = ModelSpec(name=printable(name or path.stem), sizes=sizes, labels=named, sha256=sha256)
        return with_hashes(spec, tensors)


def default_labels(num_classes: int) -> tuple[str, ...]:
    """The labels of a checkpoint without labels."""
    if num_classes == _KINETICS_CLASSES:
        return kinetics400_labels()
    return tuple(f"class {i}" for i in range(num_classes))


def read_weights(handle: BinaryIO, size: int) -> Weights:
    """The tensors of a published checkpoint in an open file. Their values are read from `handle` later.

    Raises ModelError for other content, and says what it is if that is recognised.
    """
    handle.seek(0)
    head = handle.read(_HEAD_BYTES)
    handle.seek(0)
    if head.startswith(b"PK"):
        return Weights(_state_dict(read_torch_zip(handle, size)), transposed=False, file_bytes=size)
    if head.startswith(MAGIC):
        return Weights(_state_dict(read_torch_legacy(handle, size)), transposed=False, file_bytes=size)
    if head.startswith(b"\x80") and size > 1:
        return Weights(read_paddle(handle, size), transposed=True, file_bytes=size)
    raise ModelError(_describe_content(head))


def looks_like_onnx(head: bytes) -> bool:
    """Whether a file begins like an ONNX model: with the format's version and a field that can follow it."""
    return re.match(rb"\x08[\x01-\x1f][\x12\x1a\x22\x3a\x42]", head) is not None


def _state_dict(tree: Any) -> dict[str, Any]:
    """The weights in torch's saved object: the object itself, or the value of one of the usual keys."""
    if isinstance(tree, TorchTensor):
        raise ModelError("a torch file with a single tensor, not a model's weights")
    if not isinstance(tree, dict):
        raise ModelError("a torch file, but not of named weights")
    for wrapper in _WRAPPERS:
        if wrapper in tree:
            tree = tree[wrapper]
            break
    if not isinstance(tree, dict):
        raise ModelError("a torch file, but not of named weights")
    return {str(name): tensor for name, tensor in tree.items()}


def _describe_content(head: bytes) -> str:
    """What a file is that is not a checkpoint, and what to do about it."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "the file is empty: download it again"
    if re.match(rb"<(!doctype html|html|head|\?xml|!--)", text):
        return "a web page, not a checkpoint: the download went wrong, fetch it again"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the checkpoint itself: fetch it with `git lfs pull`"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")):
        return "a compressed file: unpack it first"
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    return "not a checkpoint that vtag knows (torch .pth, Paddle .pdparams, a model folder)"
