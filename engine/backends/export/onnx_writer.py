"""A model out as an ONNX file: exported, checked, run and compared with Torch before it gets its name."""

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
from vtag.engine.backends.onnx_backend import OnnxBackend
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

OPSETS = range(18, 24)  # LayerNormalization is an operator since 17, the exporter writes 18 and converts
DEFAULT_OPSET = 18
MIN_WINDOWS = 30  # for a share of windows to mean something
MAX_WINDOWS = 64
MIN_AGREEMENT = 0.97  # of the windows, for int8
_TOLERANCE = {"fp32": 1e-4, "fp16": 3e-2}  # largest difference, relative to the largest value from 1 on
_GENERATED = 2


@dataclass(frozen=True)
class ExportOptions:
    """What to export: `clip` T, H, W (None: the model's own), `batch` clips in a call (None: any)."""

    precision: str = "fp32"
    clip: tuple[int, int, int] | None = None
    batch: int | None = None
    opset: int = DEFAULT_OPSET


@dataclass(frozen=True)
class ExportComparison:
    """How an exported file answers beside Torch in float32: the largest differences, and the share of equal top-1."""

    windows: int
    real: bool  # of videos; else generated
    features: float
    logits: float
    top1: float


def export(
    checkpoint: Checkpoint, folder: Path, options: ExportOptions, windows: Sequence[NDArray[np.uint8]]
) -> ExportComparison:
    """Write `checkpoint` to `folder` as `model.onnx` and `model.json`; the folder appears whole or not at all.

    Args:
        checkpoint: a model with all its weights.
        folder: where to; a model folder there is replaced.
        options: what to export.
        windows: clips uint8 [T, H, W, 3] of real videos that Torch and the file have to agree on. Without any,
            float32 and float16 are compared on generated ones, and int8 is refused.

    Raises ModelError where the model cannot be exported, or the file does not answer as Torch does.
    """
    check_options(checkpoint, options)
    if options.precision == "int8" and len(windows) < MIN_WINDOWS:
        raise ModelError(
            f"int8 is accepted only where it agrees with fp32 on real windows, and {len(windows)} are fewer than "
            f"{MIN_WINDOWS}: give more videos with --clips, or scan some first"
        )
    with atomic_folder(folder) as new:
        exported = write(checkpoint, new, options)
        real = list(windows[:MAX_WINDOWS])
        clips = real or wave_clips(_clip(checkpoint, options), _GENERATED)
        compared = replace(compare(checkpoint, exported, clips, options.precision), real=bool(real))
        told = {**_told(checkpoint, options), "compared": asdict(compared)}
        write_spec(new, exported.spec, ONNX_FILE, {"onnx": told})
    return compared


def write(checkpoint: Checkpoint, folder: Path, options: ExportOptions) -> Checkpoint:
    """Write `checkpoint` into the empty `folder` as `export` does, but compared with nothing; what is read back.

    Raises ModelError where the file is not sound.
    """
    spec = spec_for(checkpoint.spec, options.clip)
    model = _graph(checkpoint, _clip(checkpoint, options), options)
    if options.precision == "int8":
        model = _quantised(model, folder)
    _name_all(model, checkpoint, head_alone=options.precision != "fp32")
    _describe(model, spec, options)
    onnx.checker.check_model(model, full_check=True)
    (folder / ONNX_FILE).write_bytes(model.SerializeToString())
    del model
    told = {"onnx": _told(checkpoint, options)}
    spec = write_spec(folder, replace(spec, backbone_hash="", head_hash=""), ONNX_FILE, told)
    return read_model_folder(folder, name=spec.name)


def check_options(checkpoint: Checkpoint, options: ExportOptions) -> None:
    """Raise ModelError where a model cannot be exported so."""
    if not checkpoint.is_whole:
        raise ModelError("this model is an ONNX file of less than float32: export the one that it came from")
    if options.precision not in PRECISIONS:
        raise ModelError(
            f"there is no export in {printable(options.precision)[:40]!r}; the choices are {', '.join(PRECISIONS)}"
        )
    if options.precision == "int8" and (options.batch or 1) > 1:
        raise ModelError("in int8 a clip's answer would depend on the others of its batch: leave out --batch")
    if options.opset not in OPSETS:
        raise ModelError(f"the opset {options.opset} is none of {OPSETS.start} to {OPSETS.stop - 1}")


def spec_for(spec: ModelSpec, clip: tuple[int, int, int] | None) -> ModelSpec:
    """The spec of a model for clips T, H, W: a square is the new crop, of a short side in proportion."""
    if clip is None or clip[1] != clip[2] or clip[1] == spec.crop:
        return spec
    return replace(spec, crop=clip[1], short_side=max(clip[1], round(spec.short_side * clip[1] / spec.crop)))


def _graph(checkpoint: Checkpoint, clip: tuple[int, int, int], options: ExportOptions) -> onnx.ModelProto:
    """The network as an ONNX model, in float32 or float16, its weights under our names."""
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
            optimize=False,  # it would fold weights into others without a name
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
    """Whether a node computes with none of the weights; those keep their names and shapes."""
    return all(value is None or value.name not in weights for value in node.inputs)


@contextmanager
def _silence() -> Iterator[None]:
    """The exporter's own talk is for its developers."""
    loud = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(loud)


def _describe(model: onnx.ModelProto, spec: ModelSpec, options: ExportOptions) -> None:
    """Write into the file what it is, so that it can be used without its model.json."""
    said = {**spec.to_json(), "sha256": "", "onnx": _about(options)}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA: json.dumps(said, ensure_ascii=False)})
    model.producer_name = "vtag"
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.ClearField("metadata_props")  # stack traces with the paths of this machine
        node.ClearField("doc_string")
    for output in model.graph.output:
        if options.batch is None:
            output.type.tensor_type.shape.dim[0].dim_param = BATCH


def _clip(checkpoint: Checkpoint, options: ExportOptions) -> tuple[int, int, int]:
    """T, H, W of the clips that the file takes."""
    return options.clip or (checkpoint.spec.frames, checkpoint.spec.crop, checkpoint.spec.crop)


def _told(checkpoint: Checkpoint, options: ExportOptions) -> dict[str, Any]:
    """What model.json says of the file."""
    return {**_about(options), "exported_from": checkpoint.spec.backbone_hash}


def _about(options: ExportOptions) -> dict[str, Any]:
    return {
        "precision": options.precision,
        "opset": options.opset,
        "batch": options.batch or "dynamic",
        "input": f"{CLIPS}: uint8 [{BATCH}, T, H, W, 3], RGB, as decoded; normalised in the graph",
        "outputs": f"{FEATURES}: float32 [{BATCH}, D], pooled; {LOGITS}: float32 [{BATCH}, K], before the softmax",
    }


def _quantised(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto:
    """The network with its matrices in int8 and activations quantised as they come; the head stays float32."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain, small = scratch / "plain.onnx", scratch / "int8.onnx"
    _transpose_weights(model)
    del model.graph.value_info[:]  # of the names that the quantiser uses anew
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
    """Replace transpositions of weights by transposed weights, which the quantiser recognises; not the head's."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    for node in [n for n in model.graph.node if n.op_type == "Transpose" and n.input[0] in weights]:
        weight = weights[node.input[0]]
        if len(weight.dims) != 2 or is_head(weight.name):
            continue
        turned = np.ascontiguousarray(onnx.numpy_helper.to_array(weight).T)
        model.graph.initializer.append(onnx.numpy_helper.from_array(turned, node.output[0]))
        model.graph.node.remove(node)
    used = {name for node in model.graph.node for name in node.input}
    for name in set(weights) - used:
        model.graph.initializer.remove(weights[name])


def _name_all(model: onnx.ModelProto, checkpoint: Checkpoint, *, head_alone: bool) -> None:
    """Add the weights that the exporter stored under another's name, since both were equal: norms before training."""
    there = {weight.name for weight in model.graph.initializer}
    for name, array in checkpoint.tensors.items():
        if name not in there and (is_head(name) or not head_alone):
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))


def compare(
    checkpoint: Checkpoint, exported: Checkpoint, clips: Sequence[NDArray[np.uint8]], precision: str
) -> ExportComparison:
    """Run both on the same clips, on the processor. Raises ModelError beyond what the precision allows."""
    ours = TorchBackend(checkpoint, device="cpu", precision="fp32")
    theirs = OnnxBackend(exported, device="cpu")
    features = logits = 0.0
    scale_f = scale_l = 1.0
    same = 0
    for clip in clips:
        a, b = ours.run(clip[None]), theirs.run(clip[None])
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
    if not worst <= _TOLERANCE[precision]:  # NaN is no answer either
        raise ModelError(
            f"the exported file does not answer as Torch does: it is off by {worst:.1e}, and "
            f"{_TOLERANCE[precision]:.0e} is allowed; nothing was written"
        )
    return compared
