"""Sessions of ONNX Runtime, on the requested device or not at all, with nothing written to vtag's stdout."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vtag.engine.backends.protocol import Output, usable_processors
from vtag.engine.checkpoints.checkpoint import Checkpoint, OnnxGraph, file_hash
from vtag.engine.checkpoints.formats.onnx_files import CLIPS, FEATURES
from vtag.engine.checkpoints.safe_open import open_regular, prefix_errors
from vtag.engine.errors import ModelError
from vtag.engine.paths import home, make_private_dir
from vtag.engine.text import printable

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_CUDA_LIBRARIES = (  # of CUDA 13, for which the published wheels are built
    ("cudart64_13.dll", "cublasLt64_13.dll", "cudnn64_9.dll")
    if sys.platform == "win32"
    else ("libcudart.so.13", "libcublasLt.so.13", "libcudnn.so.9")
)
_FATAL = 4  # the runtime's log level; vtag reports what it raises

# Bounds the memory. On a CPU another clip of Swin-T costs 1.3 GB more, and both take the same time for a clip.
_MAX_BATCH = {"cpu": 1, "cuda": 16, "tensorrt": 16}

log = logging.getLogger(__name__)


class Session:
    """A graph on one device."""

    def __init__(self, graph: OnnxGraph, device: str) -> None:
        """Raises ModelError if the file changed or the device cannot be used."""
        self._is_fixed = graph.batch is not None
        self._batch = graph.batch or batch_limit(graph.precision, device)
        self._device = "cuda" if device.startswith(("cuda", "tensorrt")) else "cpu"
        self._device_id = int(device.partition(":")[2] or 0)
        model, providers = _read_graph(graph), _providers(device, graph, self._batch)
        if device == "tensorrt" and cuda_cards() and not any(_engines(graph).glob("*.engine")):
            log.warning("building the TensorRT engine for clips of %dx%dx%d; this takes minutes", *graph.size)
        self._session = _session(model, device, providers)

    def features(self, clips: NDArray[np.uint8], *, keep_memory: bool = True) -> NDArray[np.float32]:
        """Features float32 [N, D] of `clips` uint8 [N, T, H, W, 3], computed in batches. N is at least 1.

        Without `keep_memory`, memory of the CPU is freed after each batch, which costs a tenth of the time. Raises
        ModelError if the runtime fails.
        """
        return np.concatenate(list(self._batches(np.ascontiguousarray(clips), keep_memory)))

    def run(
        self, clips: NDArray[np.uint8], outputs: Sequence[str], *, keep_memory: bool = True
    ) -> list[NDArray[np.float32]]:
        """The outputs with these names for one batch of `clips` uint8 [N, T, H, W, 3].

        Raises ModelError if the runtime fails.
        """
        ort = import_runtime()
        try:
            binding = self._session.io_binding()
            value = ort.OrtValue.ortvalue_from_numpy(clips, self._device, self._device_id)
            binding.bind_ortvalue_input(CLIPS, value)
            for name in outputs:
                binding.bind_output(name, self._device, self._device_id)
            options = ort.RunOptions()
            if not keep_memory and self._device == "cpu":
                options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
            self._session.run_with_iobinding(binding, options)
            return [np.asarray(array, np.float32) for array in binding.copy_outputs_to_cpu()]
        except Exception as error:  # the runtime's errors have no other base class
            if "alloc" in str(error).lower():
                raise ModelError(
                    f"the memory of {self._device} does not suffice for {len(clips)} clips: use a smaller model"
                ) from error
            raise ModelError(f"ONNX Runtime cannot run the model: {_first_line(error)}") from error

    def _batches(self, clips: NDArray[np.uint8], keep_memory: bool) -> Iterator[NDArray[np.float32]]:
        """Features, batch by batch. A graph of a fixed batch gets a padded last batch."""
        for start in range(0, len(clips), self._batch):
            batch = clips[start : start + self._batch]
            count = len(batch)
            if self._is_fixed and count < self._batch:
                padding = np.zeros((self._batch - count, *batch.shape[1:]), np.uint8)
                batch = np.concatenate([batch, padding])
            yield self.run(batch, [FEATURES], keep_memory=keep_memory)[0][:count]


def batch_limit(precision: str, device: str) -> int:
    """The number of clips in a call of a graph that does not fix it.

    int8 scales by the whole input, so that a clip's answer would depend on the rest of its batch.
    """
    return 1 if precision == "int8" else _MAX_BATCH[device.split(":")[0]]


def apply_head(checkpoint: Checkpoint, features: NDArray[np.float32]) -> Output:
    """`features` with the logits of the checkpoint's head, which may be newer than the head in the graph."""
    head = checkpoint.tensors
    return Output(features, features @ head["head.weight"].T + head["head.bias"])


@cache
def import_runtime() -> ModuleType:
    """The onnxruntime module. Raises ModelError if it is not installed or broken."""
    try:
        with suppress_output():
            import onnxruntime
    except ImportError as error:
        raise ModelError(
            f"ONNX Runtime cannot be imported ({_first_line(error)}): `pip install onnxruntime`"
        ) from error
    onnxruntime.set_default_logger_severity(_FATAL)
    module: ModuleType = onnxruntime
    return module


@contextlib.contextmanager
def suppress_output() -> Iterator[None]:
    """Discard what libraries write to stdout and stderr within, even below Python."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink:
        saved_descriptors = [os.dup(descriptor) for descriptor in (1, 2)]
        try:
            for descriptor in (1, 2):
                os.dup2(sink.fileno(), descriptor)
            with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
                yield
        finally:
            for descriptor, saved in zip((1, 2), saved_descriptors, strict=True):
                os.dup2(saved, descriptor)
                os.close(saved)


@cache
def cuda_cards() -> int:
    """The number of CUDA cards of the driver; 0 without a driver. Initialises nothing on the cards."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
        count = ctypes.c_int(0)
        return (
            count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0
        )
    except (OSError, AttributeError):
        return 0


def missing_cuda_libraries() -> list[str]:
    """Names of the libraries that the CUDA provider needs and that cannot be loaded."""
    ort = import_runtime()
    with suppress_output():
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
    return [name for name in _CUDA_LIBRARIES if not _loads(name)]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def time_small_network(device: str) -> float:
    """Seconds that a small network takes on a device, with its session.

    Raises ModelError if it does not run there or computes wrongly.
    """
    matrix = np.ones((64, 64), np.float32)
    weight = numpy_helper.from_array(matrix, "w")
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 64]) for name in ("x", "y")]
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([product], "try", shapes[:1], shapes[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    start = time.perf_counter()
    session = _session(model.SerializeToString(), device, [(CPU if device == "cpu" else CUDA, {})])
    (answer,) = session.run(["y"], {"x": matrix})
    if not (answer == 64).all():
        raise ModelError(f"ONNX Runtime computes wrongly on {device}")
    return time.perf_counter() - start


def _session(model: bytes, device: str, providers: list[tuple[str, dict[str, Any]]]) -> Any:
    """An InferenceSession. Raises ModelError if it cannot use the first of `providers`."""
    ort = import_runtime()
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = usable_processors()
    options.inter_op_num_threads = 1
    # waiting threads sleep, since the decoders need the CPUs, too
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if providers[0][0] not in ort.get_available_providers():
        raise ModelError(
            f"this ONNX Runtime ({ort.__version__}) was built without {providers[0][0]}; "
            "`vtag doctor` says what to do"
        )
    try:
        with suppress_output():
            if device != "cpu" and hasattr(ort, "preload_dlls"):
                ort.preload_dlls()  # loads the CUDA libraries of torch or from pip
            session = ort.InferenceSession(model, options, providers=providers)
    except Exception as error:
        raise ModelError(f"ONNX Runtime cannot use the model on {device}: {_first_line(error)}") from error
    if session.get_providers()[0] != providers[0][0]:  # the runtime falls back without an error
        raise ModelError(
            f"ONNX Runtime cannot use {device} here and would have run on the processor; "
            "`vtag doctor` says what is missing, --device cpu runs there"
        )
    return session


def _providers(device: str, graph: OnnxGraph, batch: int) -> list[tuple[str, dict[str, Any]]]:
    if device == "cpu":
        return [(CPU, {})]
    device_id = int(device.partition(":")[2] or 0)
    cuda: tuple[str, dict[str, Any]] = (CUDA, {"device_id": device_id, "use_tf32": 0})
    if device != "tensorrt":
        return [cuda]
    engines = make_private_dir(_engines(graph))
    t, h, w = graph.size

    def shape(clips: int) -> str:
        return f"{CLIPS}:{clips}x{t}x{h}x{w}x3"

    options = {
        "device_id": device_id,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(engines),
        "trt_fp16_enable": graph.precision == "fp16",
        "trt_layer_norm_fp32_fallback": True,  # Swin's norms overflow in fp16
        "trt_profile_min_shapes": shape(graph.batch or 1),
        "trt_profile_opt_shapes": shape(batch),
        "trt_profile_max_shapes": shape(batch),
    }
    return [(TENSORRT, options), cuda]


def _engines(graph: OnnxGraph) -> Path:
    """The folder of the engines that TensorRT built from a graph."""
    return home() / "cache" / "tensorrt" / graph.sha256[:32]


def _read_graph(graph: OnnxGraph) -> bytes:
    """The content of the file. Raises ModelError if it changed since it was checked."""
    with prefix_errors(graph.file), open_regular(graph.file) as (handle, _):
        if file_hash(handle) != graph.sha256:
            raise ModelError("it changed while it was opened: try again")
        handle.seek(0)
        return handle.read()


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return printable(text.splitlines()[0])[:300]
