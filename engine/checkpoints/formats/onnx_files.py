"""Reads ONNX files that vtag exported, and checks them before any runtime opens them.

A graph is a program: it can name other files, load operators from libraries, and allocate any memory. So a file may
contain only plain operators, values with sizes that follow from the clip's, weights inside of the file, and one input
and two outputs of known shapes. The onnx package parses the file. Nothing in it is executed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference

from vtag.engine.checkpoints.checkpoint import OnnxGraph
from vtag.engine.checkpoints.formats.safetensors_files import read_json
from vtag.engine.errors import ModelError
from vtag.engine.swin.config import SwinSizes
from vtag.engine.swin.weight_names import is_head, parameter_shapes
from vtag.engine.text import printable

CLIPS, FEATURES, LOGITS = "clips", "features", "logits"
BATCH = "batch"  # the name of their first dimension if it is dynamic
METADATA = "vtag"  # the metadata key with the model.json
PRECISIONS = ("fp32", "fp16", "int8")

_MAX_BYTES = (2 << 30) - 1  # of a protobuf
_MAX_VALUE_BYTES = 4 << 30  # of one value of one clip; a Swin-B's scores of 32x224x400 take 560 MB
_SMALL_BYTES = 4096
_MAX_OPSET = 25
_OPERATORS = frozenset(
    """
    Add Cast Concat Constant Conv Div DynamicQuantizeLinear Equal Erf Gather Gelu Gemm Identity
    LayerNormalization MatMul MatMulInteger Mul Not Pad ReduceMean Reshape Shape Slice Softmax Split Sqrt Squeeze
    Sub Transpose Unsqueeze Where
    """.split()  # noqa: SIM905 -- a string for each would take forty lines
)


@dataclass(frozen=True)
class _Tensor:
    """A weight in the file."""

    stored: onnx.TensorProto
    shape: tuple[int, ...]
    dtype: str

    def read(self) -> NDArray[Any]:
        try:
            return np.asarray(numpy_helper.to_array(self.stored))
        except (ValueError, TypeError) as error:
            raise ModelError(f"its tensor {printable(self.stored.name)[:80]!r} is damaged") from error


@dataclass(frozen=True)
class OnnxFile:
    """A parsed ONNX file: its weights by name, its shapes, and its metadata."""

    tensors: Mapping[str, _Tensor]
    size: tuple[int, int, int]  # T, H, W of the clips that it takes
    batch: int | None  # the number of clips in a call; None: any
    feature_dim: int
    classes: int
    metadata: Mapping[str, Any]


def read_onnx(handle: BinaryIO, size: int) -> OnnxFile:
    """The parsed file. Raises ModelError, with the reason, for a file that vtag would not export."""
    if size > _MAX_BYTES:
        raise ModelError("an ONNX file of more than 2 GB, which none of vtag's is")
    handle.seek(0)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(handle.read())
    except (DecodeError, RecursionError) as error:
        raise ModelError("an ONNX file that is cut short or damaged") from error
    if not model.graph.node:
        raise ModelError("an ONNX file that is cut short or damaged: it holds no network")
    _check_operators(model)
    _check_weights(model)
    clips, batch = _interface(model)
    inferred = _shapes(model)
    tensors = {t.name: _tensor(t) for t in model.graph.initializer}
    return OnnxFile(
        tensors,
        clips,
        batch,
        feature_dim=_width(inferred, FEATURES),
        classes=_width(inferred, LOGITS),
        metadata=_metadata(model),
    )


def matching_graph(
    file: OnnxFile, sizes: SwinSizes, path: Path, spec_json: Mapping[str, Any], sha256: str
) -> OnnxGraph:
    """The graph of a model of these sizes. `spec_json` is its model.json. Raises ModelError if they do not fit."""
    if file.classes != sizes.num_classes:
        raise ModelError(
            f"its network gives {file.classes} classes, but there are {sizes.num_classes} labels"
        )
    if file.feature_dim != sizes.feature_dim:
        raise ModelError(
            f"its network gives {file.feature_dim} features, but model.json says {sizes.feature_dim}"
        )
    details = spec_json.get("onnx")
    precision = details.get("precision") if isinstance(details, dict) else None
    if precision not in PRECISIONS:
        raise ModelError("its model.json does not say in which precision its network computes")
    return OnnxGraph(path, precision, file.size, file.batch, sha256)


def graph_weights(file: OnnxFile, sizes: SwinSizes, *, only_head: bool) -> dict[str, _Tensor]:
    """The model's weights in the file under vtag's names: all, or only the head's."""
    return {
        name: file.tensors[name]
        for name in parameter_shapes(sizes)
        if name in file.tensors and (is_head(name) or not only_head)
    }


def _check_names(model: onnx.ModelProto) -> None:
    """Refuse names that are not UTF-8: protobuf returns them as bytes."""
    graph = model.graph
    names = (
        *(opset.domain for opset in model.opset_import),
        *(name for node in graph.node for name in (node.domain, node.op_type, *node.input, *node.output)),
        *(attribute.name for node in graph.node for attribute in node.attribute),
        *(tensor.name for tensor in (*graph.initializer, *graph.input, *graph.output)),
        *(text for entry in model.metadata_props for text in (entry.key, entry.value)),
    )
    if not all(isinstance(name, str) for name in names):
        raise ModelError("a damaged ONNX file: a name in it is no text")


def _check_operators(model: onnx.ModelProto) -> None:
    _check_names(model)
    if len(model.functions) or len(model.training_info):
        raise ModelError("an ONNX file with functions of its own, which none of vtag's has")
    for opset in model.opset_import:
        if opset.domain not in ("", "ai.onnx"):
            raise ModelError(
                f"an ONNX file with operators from {printable(opset.domain)[:60]!r}, which vtag loads from nowhere"
            )
        if not 1 <= opset.version <= _MAX_OPSET:
            raise ModelError(f"an ONNX file of opset {opset.version}, which this vtag does not know")
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in _OPERATORS:
            operator = ".".join(filter(None, (node.domain, node.op_type)))
            raise ModelError(
                f"an ONNX file with an operator that no export needs: {printable(operator)[:60]!r}"
            )
        if any(a.HasField("g") or a.graphs for a in node.attribute):
            raise ModelError("an ONNX file with networks inside its network, which none of vtag's has")


def _check_weights(model: onnx.ModelProto) -> None:
    if model.graph.sparse_initializer:
        raise ModelError("an ONNX file with sparse weights, which none of vtag's has")
    for tensor in _all_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError("an ONNX file with weights in another file, which vtag never opens")
        if any(dim < 0 for dim in tensor.dims):
            raise ModelError("an ONNX file with a tensor of impossible shape")


def _all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _interface(model: onnx.ModelProto) -> tuple[tuple[int, int, int], int | None]:
    """T, H, W and batch of the only input. Raises ModelError for other inputs or outputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    outputs = [value.name for value in model.graph.output]
    shape = _dims(inputs[0]) if len(inputs) == 1 else []
    is_bytes = bool(inputs) and inputs[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    if [v.name for v in inputs] != [CLIPS] or outputs != [FEATURES, LOGITS] or not is_bytes:
        raise ModelError(
            f"an ONNX file of something else: vtag's take {CLIPS!r}, uint8 [{BATCH}, T, H, W, 3], and give "
            f"{FEATURES!r} and {LOGITS!r}; `vtag models export` makes them"
        )
    fixed = [d for d in shape[1:] if isinstance(d, int) and 0 < d <= 4096]
    if len(shape) != 5 or len(fixed) != 4 or fixed[3] != 3:
        raise ModelError(f"its input {CLIPS!r} is not uint8 [{BATCH}, T, H, W, 3] of fixed T, H and W")
    batch = shape[0]
    if isinstance(batch, int) and not 1 <= batch <= 1024:
        raise ModelError(f"its input {CLIPS!r} has an absurd number of clips")
    return (fixed[0], fixed[1], fixed[2]), batch if isinstance(batch, int) else None


def _shapes(model: onnx.ModelProto) -> Mapping[str, list[int | str]]:
    """The inferred shape of every value. Raises ModelError if one is too large or dynamic beyond the batch."""
    try:
        inferred = shape_inference.infer_shapes(
            _without_weights(model), check_type=True, strict_mode=True, data_prop=True
        )
    except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise ModelError("an ONNX file whose operators do not fit together") from error
    shapes = {v.name: _dims(v) for v in (*inferred.graph.value_info, *inferred.graph.output)}
    for node in model.graph.node:
        for name in filter(None, node.output):
            dynamic_dims = [dim for dim in shapes.get(name, ["", ""]) if not isinstance(dim, int)]
            if len(dynamic_dims) > 1:
                raise ModelError("an ONNX file with a value whose size cannot be told before it runs")
            if 4 * math.prod(dim for dim in shapes[name] if isinstance(dim, int)) > _MAX_VALUE_BYTES:
                raise ModelError("an ONNX file that would ask for more memory than any model needs")
    return shapes


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with its large weights as inputs, and without the shapes that it claims."""
    stripped = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    stripped.graph.name = "network"
    stripped.graph.node.extend(model.graph.node)
    stripped.graph.input.extend(model.graph.input)
    for weight in model.graph.initializer:
        if weight.ByteSize() <= _SMALL_BYTES:  # it may be a shape, which inference needs
            stripped.graph.initializer.append(weight)
        else:
            value = onnx.helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
            stripped.graph.input.append(value)
    for output in model.graph.output:
        value = stripped.graph.output.add()
        value.CopyFrom(output)
        value.type.tensor_type.ClearField("shape")
    return stripped


def _dims(value: onnx.ValueInfoProto) -> list[int | str]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims]


def _width(shapes: Mapping[str, list[int | str]], name: str) -> int:
    shape = shapes.get(name, [])
    if len(shape) != 2 or not isinstance(shape[1], int):
        raise ModelError(f"its output {name!r} is not [{BATCH}, N]")
    return shape[1]


def _tensor(stored: onnx.TensorProto) -> _Tensor:
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(stored.data_type)).name
    except KeyError:
        dtype = "values of an unknown kind"
    return _Tensor(stored, tuple(stored.dims), dtype)


def _metadata(model: onnx.ModelProto) -> Mapping[str, Any]:
    for entry in model.metadata_props:
        if entry.key == METADATA:
            metadata = read_json(entry.value.encode(), "its metadata")
            if isinstance(metadata, dict):
                return metadata
    raise ModelError("an ONNX file that vtag did not export: it does not say which labels it knows")
