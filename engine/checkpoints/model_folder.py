"""vtag's model folder: `model.safetensors` with `model.json`. Reading checks all of it; writing is atomic."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from safetensors.numpy import save_file

from vtag.engine.checkpoints.assemble import Weights, read_tensors
from vtag.engine.checkpoints.checkpoint import Checkpoint, file_hash, with_hashes
from vtag.engine.checkpoints.formats.safetensors_files import read_json, read_safetensors
from vtag.engine.checkpoints.safe_open import open_regular, prefix_errors
from vtag.engine.errors import ModelError
from vtag.engine.swin.config import ModelSpec
from vtag.engine.swin.weight_names import VTAG, is_head, parameter_shapes
from vtag.engine.system.atomic_write import flush_file, replace_folder
from vtag.engine.text import printable

SPEC_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"
ONNX_FILE = "model.onnx"
ONNX_ENDING = ".onnx"
_MAX_SPEC_BYTES = 32 << 20  # more than 100,000 labels of 200 characters


def read_model_folder(
    folder: Path, *, name: str | None = None, labels: Sequence[str] | None = None
) -> Checkpoint:
    """The model in `folder`. Raises ModelError if it is not sound."""
    if base := read_backbone_name(folder):
        raise ModelError(f"it is a head alone, on the backbone of {printable(base)}: name it as a --model")
    spec, weights_file = read_spec(folder, name=name, labels=labels)
    if weights_file.name.endswith(ONNX_ENDING):
        return read_onnx_model(weights_file, spec, _read_spec_file(folder))
    with open_regular(weights_file) as (handle, size):
        weights = Weights(read_safetensors(handle, size), transposed=False, file_bytes=size)
        if weights.naming is not VTAG:
            raise ModelError("the weights of a model folder have vtag's own names, these have not")
        tensors = read_tensors(weights, spec.sizes)
        sha256 = file_hash(handle)
    _check_hash(spec, sha256)
    return with_hashes(replace(spec, sha256=sha256), tensors)


def read_onnx_model(
    file: Path, spec: ModelSpec | None = None, spec_json: Mapping[str, Any] | None = None
) -> Checkpoint:
    """The model in an ONNX file. Its spec and `spec_json` default to the file's metadata.

    All weights of a network in float32 are read, so it is the model that was exported. Raises ModelError.
    """
    try:
        from vtag.engine.checkpoints.formats import onnx_files
    except ImportError as error:
        raise ModelError("an ONNX file is read with the package onnx: `pip install onnx`") from error

    with open_regular(file) as (handle, size):
        parsed = onnx_files.read_onnx(handle, size)
        sha256 = file_hash(handle)
        spec_json = parsed.metadata if spec_json is None else spec_json
        spec = spec or ModelSpec.from_json({**spec_json, "sha256": ""}, name=file.stem)
        _check_hash(spec, sha256)
        graph = onnx_files.matching_graph(parsed, spec.sizes, file, spec_json, sha256)
        only_head = graph.precision != "fp32"
        stored = onnx_files.graph_weights(parsed, spec.sizes, only_head=only_head)
        weights = Weights(stored, transposed=False, file_bytes=size)
        shapes = parameter_shapes(spec.sizes)
        if only_head:
            tensors = {name: weights.read(name, shapes[name]) for name in shapes if is_head(name)}
        else:
            tensors = read_tensors(weights, spec.sizes)
    return with_hashes(replace(spec, sha256=sha256), tensors, graph)


def _check_hash(spec: ModelSpec, sha256: str) -> None:
    """Raise ModelError if `spec` has another hash of the weights' file."""
    if spec.sha256 and spec.sha256 != sha256:
        raise ModelError(
            "its weights are not those that model.json describes (another SHA-256): copy it again"
        )


def read_spec(
    folder: Path, *, name: str | None = None, labels: Sequence[str] | None = None
) -> tuple[ModelSpec, Path]:
    """The spec of the model in `folder`, and the path of its weights, which are not opened. Raises ModelError."""
    spec_json = _read_spec_file(folder)
    model_name = name or _plain_name(spec_json.get("name")) or folder.absolute().name
    if labels is not None:
        spec_json["labels"] = list(labels)
    return ModelSpec.from_json(spec_json, name=printable(model_name)), folder / weights_name(spec_json)


def weights_name(spec_json: Mapping[str, Any]) -> str:
    """The name of the weights' file in a parsed model.json. Raises ModelError if it is outside of the folder."""
    name = spec_json.get("weights", WEIGHTS_FILE)
    plain = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\:\0")
    if not plain or not name.isprintable():
        raise ModelError(
            f"model.json's weights {str(name)[:80]!r} is not the plain name of a file in the folder"
        )
    return str(name)


def is_weights_of_folder(path: Path) -> bool:
    """Whether `path` is the weights' file of a model folder."""
    try:
        return weights_name(_read_spec_file(path.parent)) == path.name
    except ModelError:
        return False


def save_head_folder(
    checkpoint: Checkpoint, folder: Path, *, base: str, extra: Mapping[str, Any] | None = None
) -> None:
    """Write only the head of `checkpoint`, with a reference to the model `base`, a name or path, for its backbone.

    `extra` is added to `model.json`. Otherwise as `save_model_folder`.
    """
    spec = with_hashes(checkpoint.spec, checkpoint.tensors, checkpoint.onnx).spec
    stored = {name: checkpoint.tensors[name] for name in checkpoint.tensors if is_head(name)}
    _save(
        folder,
        Checkpoint(spec, checkpoint.tensors),
        stored,
        {"backbone": {"model": base}, **(extra or {})},
        {},
    )


def read_backbone_name(folder: Path) -> str | None:
    """The name or path of the model whose backbone a head folder uses. None for other folders. Raises ModelError."""
    spec_json = _read_spec_file(folder).get("backbone")
    if spec_json is None:
        return None
    model = spec_json.get("model") if isinstance(spec_json, dict) else None
    if not isinstance(model, str) or not model or not model.isprintable():
        raise ModelError("model.json's backbone does not name a model")
    return model


def read_head_folder(folder: Path, base: Checkpoint, *, name: str | None = None) -> Checkpoint:
    """The model with the head in `folder` and the backbone of `base`. Raises ModelError."""
    spec, weights_file = read_spec(folder, name=name)
    if spec.backbone_hash != base.spec.backbone_hash:
        raise ModelError(f"its head was taught on another {base.spec.name} than the one that is here")
    with open_regular(weights_file) as (handle, size):
        stored = read_safetensors(handle, size)
        shapes = {key: tensor.shape for key, tensor in stored.items()}
        classes, dim = spec.sizes.num_classes, spec.sizes.feature_dim
        if shapes != {"head.weight": (classes, dim), "head.bias": (classes,)}:
            raise ModelError(f"its weights are no head of {classes} labels on {dim} features")
        head = {key: np.ascontiguousarray(tensor.read(), np.float32) for key, tensor in stored.items()}
        sha256 = file_hash(handle)
    _check_hash(spec, sha256)
    if not all(np.isfinite(array).all() for array in head.values()):
        raise ModelError("its weights are no numbers")
    return with_hashes(replace(spec, sha256=sha256), {**base.tensors, **head}, base.onnx)


def save_model_folder(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    dtype: DTypeLike = np.float32,
    extra: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Write `checkpoint` to `folder`, which appears complete or not at all. An existing model folder is replaced.

    Args:
        dtype: float32, or float16 for half the size. A rounded model is a new model with hashes of its own.
        extra: entries of `model.json` in addition to the spec.
        files: further files of the folder, by name.

    Raises ModelError if the folder contains something else, cannot be written, or a weight overflows float16.
    """
    if not checkpoint.has_backbone:
        raise ModelError("the backbone of an ONNX model cannot be taken out of its network")
    stored = {name: _convert(array, dtype, name) for name, array in checkpoint.tensors.items()}
    saved = with_hashes(checkpoint.spec, {n: a.astype(np.float32) for n, a in stored.items()})
    _save(folder, saved, stored, extra or {}, files or {})


def require_place(folder: Path) -> None:
    """Raise ModelError if `folder` is or contains something else than a model, which a model may not replace."""
    with prefix_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise ModelError("it is no folder: name a new folder for the model")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / SPEC_FILE).is_file():
            raise ModelError("the folder is not empty and holds no model: choose another")


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """An empty folder for a model's files, which becomes `folder` in one move at the end.

    An existing model folder is replaced. After an error within, nothing is left. Raises ModelError if `folder`
    contains something else or cannot be written.
    """
    folder = folder.absolute()
    require_place(folder)
    with prefix_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}.", dir=folder.parent))
        try:
            (scratch / "new").mkdir()
            yield scratch / "new"
            for file in (scratch / "new").iterdir():
                with open(file, "rb+") as handle:
                    flush_file(handle)
            replace_folder(scratch / "new", folder, scratch / "old")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def write_spec(folder: Path, spec: ModelSpec, weights: str, extra: Mapping[str, Any]) -> ModelSpec:
    """Write `model.json` for the weights' file in `folder`, with `extra`. Returns the spec with the file's hash."""
    with open_regular(folder / weights) as (handle, _):
        spec = replace(spec, sha256=file_hash(handle))
    spec_json = json.dumps({**spec.to_json(), "weights": weights, **extra}, ensure_ascii=False, indent=1)
    (folder / SPEC_FILE).write_text(spec_json + "\n", encoding="utf-8")
    return spec


def save_onnx_folder(checkpoint: Checkpoint, folder: Path) -> None:
    """Copy a model from an ONNX file to `folder`. Otherwise as `save_model_folder`."""
    assert checkpoint.onnx is not None
    with atomic_folder(folder) as new:
        with open_regular(checkpoint.onnx.file) as (handle, _), open(new / ONNX_FILE, "wb") as copy:
            shutil.copyfileobj(handle, copy)
        write_spec(new, checkpoint.spec, ONNX_FILE, {"onnx": {"precision": checkpoint.onnx.precision}})


def _save(
    folder: Path,
    checkpoint: Checkpoint,
    stored: Mapping[str, NDArray[Any]],
    extra: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> None:
    with atomic_folder(folder) as new:
        save_file(dict(stored), new / WEIGHTS_FILE)
        write_spec(new, checkpoint.spec, WEIGHTS_FILE, extra)
        for name, content in files.items():
            (new / name).write_bytes(content)


def _read_spec_file(folder: Path) -> dict[str, Any]:
    if not (folder / SPEC_FILE).exists():
        raise ModelError(f"a folder without {SPEC_FILE}, so no model")
    with open_regular(folder / SPEC_FILE) as (handle, size):
        if size > _MAX_SPEC_BYTES:
            raise ModelError(f"its {SPEC_FILE} is absurdly large")
        spec_json = read_json(handle.read(), f"its {SPEC_FILE}")
    if not isinstance(spec_json, dict):
        raise ModelError(f"its {SPEC_FILE} is not an object")
    return spec_json


def _plain_name(name: object) -> str | None:
    return name if isinstance(name, str) and 0 < len(name) <= 100 and name.isprintable() else None


def _convert(array: NDArray[np.float32], dtype: DTypeLike, name: str) -> NDArray[Any]:
    if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float16)):
        raise ValueError(f"weights are kept as float32 or float16, not {np.dtype(dtype)}")
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(array, dtype)
    if not np.isfinite(stored).all():
        raise ModelError(f"the weights in {name} do not fit {np.dtype(dtype)}")
    return stored
