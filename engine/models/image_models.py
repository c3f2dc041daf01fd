"""Installed image models, which a training may start from: the published file, and a record of what it is."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from vtag.engine.checkpoints.assemble import infer_sizes
from vtag.engine.checkpoints.formats.safetensors_files import read_json
from vtag.engine.checkpoints.load import read_weights
from vtag.engine.checkpoints.safe_open import open_regular, prefix_errors
from vtag.engine.errors import ModelError
from vtag.engine.swin.weight_names import is_head, parameter_shapes
from vtag.engine.system.atomic_write import flush_file

IMAGE_SPEC = "image.json"  # in the folder of an image model; a video model has model.json
_MAX_SPEC_BYTES = 64 << 10
_PATCH_KERNEL = "patch_embed.proj.weight"
_WINDOW_SIZE = (8, 7, 7)  # any will do: the position tables are resized when the model is inflated


@dataclass(frozen=True)
class ImageSpec:
    """The record of an image model: its file's name in the folder, that file's hash, and its source."""

    file: str
    sha256: str
    source: str = ""
    licence: str = ""


def is_image_file(path: Path) -> bool:
    """Whether `path` is the checkpoint of an image Swin."""
    try:
        check_image_file(path)
    except ModelError:
        return False
    return True


def check_image_file(path: Path) -> None:
    """Raise ModelError unless `path` is the checkpoint of an image Swin with all of its tensors."""
    with prefix_errors(path), open_regular(path) as (handle, size):
        weights = read_weights(handle, size)
        kernel = weights.shape(_PATCH_KERNEL)
        if len(kernel) != 4:
            raise ModelError("not an image Swin, but a video model")
        sizes = infer_sizes(
            weights,
            embed_dim=kernel[0],
            patch_size=(2, kernel[2], kernel[3]),
            window_size=_WINDOW_SIZE,
            num_classes=1,
        )
        for name in parameter_shapes(sizes):
            if not is_head(name):
                weights.shape(name)


def read_image_spec(folder: Path) -> ImageSpec:
    """The record of the image model in `folder`. Raises ModelError."""
    with open_regular(folder / IMAGE_SPEC) as (handle, size):
        if size > _MAX_SPEC_BYTES:
            raise ModelError(f"its {IMAGE_SPEC} is absurdly large")
        record = read_json(handle.read(), f"its {IMAGE_SPEC}")
    keys = ("file", "sha256", "source", "licence")
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in keys):
        raise ModelError(f"its {IMAGE_SPEC} lacks one of {', '.join(keys)}")
    spec = ImageSpec(*(record[key] for key in keys))
    if not spec.file.isprintable() or spec.file in ("", ".", "..") or set(spec.file) & set("/\\:"):
        raise ModelError(f"its {IMAGE_SPEC} names no file in the folder: {spec.file[:80]!r}")
    return spec


def save_image_folder(file: Path, spec: ImageSpec, folder: Path) -> None:
    """Create `folder` with a copy of `file` and its record. Raises ModelError."""
    with prefix_errors(folder):
        folder.mkdir()
        with open_regular(file) as (source, _), open(folder / spec.file, "xb") as copy:
            shutil.copyfileobj(source, copy)
            flush_file(copy)
        with open(folder / IMAGE_SPEC, "x", encoding="utf-8") as stream:
            json.dump({"format": 1, **asdict(spec)}, stream, ensure_ascii=False, indent=1)
            flush_file(stream)
