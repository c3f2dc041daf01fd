"""Exports a model as an ONNX file. The file is checked and compared with Torch before it gets its name."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxscript import optimizer

from vtag.engine.backends.export.graph import Graph
from vtag.engine.backends.onnx_session import Session, apply_head
from vtag.engine.backends.synthetic_clips import wave_clips
from vtag.engine.backends.torch_backend import TorchBackend
from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.checkpoints.formats.onnx_files import BATCH, CLIPS, FEATURES, LOGITS, METADATA, PRECISIONS
from vtag.engine.checkpoints.model_folder import ONNX_FILE, atomic_folder, read_model_folder, write_spec
from vtag.engine.errors import ModelError
from vtag.engine.swin.architecture import VideoSwin
from vtag.engine.swin.config import ModelSpec
from vtag.engine.swin.weight_names import is_head
from vtag.engine.text import printable

OPSETS = range(18, 24)  # LayerNormalization exists since 17; the exporter writes 18 and converts
DEFAULT_OPSET = 18
MIN_WINDOWS = 30  # for int8: with fewer windows, the share that agrees says little
MAX_WINDOWS = 64
MIN_AGREEMENT = 0.97  # share of the windows with the same top-1 in int8 and fp32
_TOLERANCE = {"fp32": 1e-4, "fp16": 3e-2}  # of the largest output, or of 1 if that is larger
_WAVE_CLIPS = 2


@dataclass(frozen=True)
class ExportOptions:
    """What to export.

    `clip` is T, H, W (None: the model's own). `batch` is the number of clips in a call (None: any).
    """

    precision: str = "fp32"
    clip: tuple[int, int, int] | None = None
    batch: int | None = None
    opset: int = DEFAULT_OPSET


@dataclass(frozen=True)
class ExportComparison:
    """An exported file compared with Torch in float32: the largest differences, and the share of equal top-1."""

    windows: int
    real: bool  # whether the windows are from videos, not generated
    features: float
    logits: float
    top1: float


def export_onnx(
    checkpoint: Checkpoint, folder: Path, options: ExportOptions, windows: Sequence[NDArray[np.uint8]]
) -> ExportComparison:
    """Write `checkpoint` to `folder` as `model.onnx` and `model.json`. The folder appears complete or not at all.

    Args:
        checkpoint: a model with all its weights.
        folder: the target; an existing model folder is replaced.
        options: what to export.
        windows: clips uint8 [T, H, W, 3] of real videos on which Torch and the file must agree. Without any,
            float32 and float16 are compared on generated clips, and int8 is refused.

    Raises ModelError if the model cannot be exported, or the file's answers differ from Torch's.
    """
    check_options(checkpoint, options)
    if options.precision == "int8" and len(windows) < MIN_WINDOWS:
        raise ModelError(
            f"int8 is accepted only where it agrees with fp32 on real windows, and {len(windows)} are fewer than "
            f"{MIN_WINDOWS}: give more videos with --clips, or scan some first"
        )
    with atomic_folder(folder) as new:
        exported = write_onnx(checkpoint, new, options)
        real = list(windows[:MAX_WINDOWS])
        clips = real or wave_clips(_clip_size(checkpoint, options), _WAVE_CLIPS)
        compared = replace(
            compare_with_torch(checkpoint, exported, clips, options.precision), real=bool(real)
        )
        details = {**_file_details(checkpoint, options), "compared": asdict(compared)}
        write_spec(new, exported.spec, ONNX_FILE, {"onnx": details})
    return compared


def write_onnx(checkpoint: Checkpoint, folder: Path, options: ExportOptions) -> Checkpoint:
    """Write `checkpoint` into the empty `folder` as `export_onnx` does, but compare nothing. Returns it as read back.

    Raises ModelError if the file is not sound.
    """
    spec = spec_for_clip(checkpoint.spec, options.clip)
    model = _graph(checkpoint, _clip_size(checkpoint, options), options)
    if options.precision == "int8":
        model = _quantise(model, folder)
    _add_duplicate_weights(model, checkpoint, only_head=options.precision != "fp32")
    _describe(model, spec, options)
    onnx.checker.check_model(model, full_check=True)
    (folder / ONNX_FILE).write_bytes(model.SerializeToString())
    del model
    details = {"onnx": _file_details(checkpoint, options)}
    spec = write_spec(folder, replace(spec, backbone_hash="", head_hash=""), ONNX_FILE, details)
    return read_model_folder(folder, name=spec.name)


def check_options(checkpoint: Checkpoint, options: ExportOptions) -> None:
    """Raise ModelError if a model cannot be exported with these options."""
    if not checkpoint.has_backbone:
        raise ModelError("this model is an ONNX file of less than float32: export the one that it came from")
    if options.precision not in PRECISIONS:
        raise ModelError(
            f"there is no export in {printable(options.precision)[:40]!r}; the choices are {', '.join(PRECISIONS)}"
        )
    if options.precision == "int8" and (options.batch or 1) > 1:
        raise ModelError("in int8 a clip's answer would depend on the others of its batch: leave out --batch")
    if options.opset not in OPSETS:
        raise ModelError(f"the opset {options.opset} is none of {OPSETS.start} to {OPSETS.stop - 1}")


def spec_for_clip(spec: ModelSpec, clip: tuple[int, int, int] | None) -> ModelSpec:
    """The spec of a model for clips T, H, W. A square is the new crop, and the short side changes in proportion."""
    if clip is None or clip[1] != clip[2] or clip[1] == spec.crop:
        return spec
    return replace(spec, crop=clip[1], short_side=max(clip[1], round(spec.short_side * clip[1] / spec.crop)))


def _graph(checkpoint: Checkpoint, clip: tuple[int, int, int], options: ExportOptions) -> onnx.ModelProto:
    """The network as an ONNX model, in float32 or float16, its weights under vtag's names."""
    spec = checkpoint.spec
    network = VideoSwin.from_arrays(spec.sizes, checkpoint.tensors)
    frames, height, width = clip
    graph = Graph(
        network,
        frames=frames,
        height=height,
        width=width,
        mean=spec.mean,
        std=spec.std,
        dtype=torch.float16 if options.precision == "fp16" else torch.float32,
    ).eval()
    example = torch.zeros((options.batch or 2, *clip, 3), dtype=torch.uint8)
    with _silence(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            verbose=False,
            optimize=False,  # it would fold weights into new ones without a name
            input_names=[CLIPS],
            output_names=[FEATURES, LOGITS],
            dynamic_shapes=None if options.batch else {CLIPS: {0: torch.export.Dim(BATCH)}},
            opset_version=options.opset,
        )
        assert program is not None
        weights = set(program.model.graph.initializers)
        optimizer.optimize_ir(
            program.model, should_fold=lambda node: None if _is_shape(node, weights) else False
        )
        for name, value in list(program.model.graph.initializers.items()):
            value.name = name.removeprefix("network.")
        return program.model_proto


def _is_shape(node: Any, weights: set[str]) -> bool:
    """Whether a node uses no weights. Nodes with weights are not folded, so weights keep their names and shapes."""
    return all(value is None or value.name not in weights for value in node.inputs)


@contextmanager
def _silence() -> Iterator[None]:
    """Hide what the exporter logs, warns and prints: it is for its developers."""
    disabled_level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled_level)


def _describe(model: onnx.ModelProto, spec: ModelSpec, options: ExportOptions) -> None:
    """Write the spec into the file's metadata, so that the file can be used without its model.json."""
    description = {**spec.to_json(), "sha256": "", "onnx": _options_json(options)}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA: json.dumps(description, ensure_ascii=False)})
    model.producer_name = "vtag"
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.ClearField("metadata_props")  # stack traces with the paths of this machine
        node.ClearField("doc_string")
    for output in model.graph.output:
        if options.batch is None:
            output.type.tensor_type.shape.dim[0].dim_param = BATCH


def _clip_size(checkpoint: Checkpoint, options: ExportOptions) -> tuple[int, int, int]:
    """T, H, W of the clips that the file takes."""
    return options.clip or checkpoint.spec.clip_size


def _file_details(checkpoint: Checkpoint, options: ExportOptions) -> dict[str, Any]:
    """The entry `onnx` of model.json."""
    return {**_options_json(options), "exported_from": checkpoint.spec.backbone_hash}


def _options_json(options: ExportOptions) -> dict[str, Any]:
    return {
        "precision": options.precision,
        "opset": options.opset,
        "batch": options.batch or "dynamic",
        "input": f"{CLIPS}: uint8 [{BATCH}, T, H, W, 3], RGB, as decoded; normalised in the graph",
        "outputs": f"{FEATURES}: float32 [{BATCH}, D], pooled; {LOGITS}: float32 [{BATCH}, K], before the softmax",
    }


def _quantise(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """The network with matrices in int8 and activations quantised dynamically. The head stays in float32."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain, small = scratch / "plain.onnx", scratch / "int8.onnx"
    _transpose_weights(model)
    del model.graph.value_info[:]  # the quantiser uses these names again
    onnx.save(model, plain)
    with _silence():
        quantize_dynamic(
            plain,
            small,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
    quantised = onnx.load(small)
    plain.unlink()
    small.unlink()
    return quantised


def _transpose_weights(model: onnx.ModelProto) -> None:
    """Replace transpositions of weights by transposed weights, which the quantiser recognises. Skips the head."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    for node in [n for n in model.graph.node if n.op_type == "Transpose" and n.input[0] in weights]:
        weight = weights[node.input[0]]
        if len(weight.dims) != 2 or is_head(weight.name):
            continue
        transposed = np.ascontiguousarray(onnx.numpy_helper.to_array(weight).T)
        model.graph.initializer.append(onnx.numpy_helper.from_array(transposed, node.output[0]))
        model.graph.node.remove(node)
    used = {name for node in model.graph.node for name in node.input}
    for name in set(weights) - used:
        model.graph.initializer.remove(weights[name])


def _add_duplicate_weights(model: onnx.ModelProto, checkpoint: Checkpoint, *, only_head: bool) -> None:
    """Add the weights that the exporter merged with equal ones, such as norms before training."""
    stored_names = {weight.name for weight in model.graph.initializer}
    for name, array in checkpoint.tensors.items():
        if name not in stored_names and (is_head(name) or not only_head):
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))


def compare_with_torch(
    checkpoint: Checkpoint, exported: Checkpoint, clips: Sequence[NDArray[np.uint8]], precision: str
) -> ExportComparison:
    """Run Torch and `exported` on the same clips on the CPU.

    Raises ModelError if they differ by more than the precision allows.
    """
    assert exported.onnx is not None
    torch_backend = TorchBackend(checkpoint, device="cpu", precision="fp32")
    session = Session(exported.onnx, "cpu")
    features = logits = 0.0
    scale_f = scale_l = 1.0
    same = 0
    for clip in clips:
        a, b = torch_backend.run(clip[None]), apply_head(exported, session.features(clip[None]))
        features = max(features, float(np.abs(a.features - b.features).max()))
        logits = max(logits, float(np.abs(a.logits - b.logits).max()))
        scale_f = max(scale_f, float(np.abs(a.features).max()))
        scale_l = max(scale_l, float(np.abs(a.logits).max()))
        same += int(a.logits.argmax() == b.logits.argmax())
    compared = ExportComparison(len(clips), True, features, logits, same / len(clips))
    if precision == "int8":
        if compared.top1 < MIN_AGREEMENT:
            raise ModelError(
                f"int8 is refused: it agrees with fp32 on {same} of {len(clips)} real windows, fewer than "
                f"{MIN_AGREEMENT:.0%}; nothing was written"
            )
        return compared
    worst = max(features / scale_f, logits / scale_l)
    if not worst <= _TOLERANCE[precision]:  # false for NaN, too
        raise ModelError(
            f"the exported file does not answer as Torch does: it is off by {worst:.1e}, and "
            f"{_TOLERANCE[precision]:.0e} is allowed; nothing was written"
        )
    return compared
