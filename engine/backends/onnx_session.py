"""ONNX Runtime, kept honest: sessions on the device that was asked for, and silence on our stdout."""

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

from vtag.engine.backends.protocol import usable_processors
from vtag.engine.checkpoints.checkpoint import OnnxGraph, file_hash
from vtag.engine.checkpoints.formats.onnx_files import CLIPS
from vtag.engine.checkpoints.safe_open import open_regular, prefix_errors
from vtag.engine.errors import ModelError
from vtag.engine.paths import home, make_private_dir
from vtag.engine.text import printable

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_CUDA_LIBRARIES = (  # of CUDA 13, which the published wheels are built for
    ("cudart64_13.dll", "cublasLt64_13.dll", "cudnn64_9.dll")
    if sys.platform == "win32"
    else ("libcudart.so.13", "libcublasLt.so.13", "libcudnn.so.9")
)
_FATAL = 4  # what the runtime may write to stderr by itself: all that it raises, we say

log = logging.getLogger(__name__)


class Session:
    """A graph on one device. `batch` is how many clips one call takes at most, or, where `fixed`, exactly."""

    def __init__(self, graph: OnnxGraph, device: str, at_once: int) -> None:
        """Raises ModelError where the file changed, or the device cannot be had."""
        self.fixed = graph.batch is not None
        self.batch = graph.batch or at_once
        self._device = "cuda" if device.startswith(("cuda", "tensorrt")) else "cpu"
        self._number = int(device.partition(":")[2] or 0)
        model, providers = _bytes_of(graph), _providers(device, graph, self.batch)
        if device == "tensorrt" and cuda_cards() and not any(_engines(graph).glob("*.engine")):
            log.warning("building the TensorRT engine for clips of %dx%dx%d; this takes minutes", *graph.size)
        self._session = _session(model, device, providers)

    def run(
        self, clips: NDArray[np.uint8], outputs: Sequence[str], *, keep_memory: bool = True
    ) -> list[NDArray[np.float32]]:
        """The outputs of that name for `clips` uint8 [N, T, H, W, 3]. Raises ModelError where it fails.

        Without `keep_memory` a processor's is given back after the run, which costs a tenth of its time.
        """
        ort = import_runtime()
        try:
            binding = self._session.io_binding()
            value = ort.OrtValue.ortvalue_from_numpy(clips, self._device, self._number)
            binding.bind_ortvalue_input(CLIPS, value)
            for name in outputs:
                binding.bind_output(name, self._device, self._number)
            options = ort.RunOptions()
            if not keep_memory and self._device == "cpu":
                options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
            self._session.run_with_iobinding(binding, options)
            return [np.asarray(array, np.float32) for array in binding.copy_outputs_to_cpu()]
        except Exception as error:  # the runtime's errors share no other class
            if "alloc" in str(error).lower():
                raise ModelError(
                    f"the memory of {self._device} does not suffice for {len(clips)} clips: use a smaller model"
                ) from error
            raise ModelError(f"ONNX Runtime cannot run the model: {_first_line(error)}") from error


@cache
def import_runtime() -> ModuleType:
    """The onnxruntime module. Raises ModelError where it is not installed or broken."""
    try:
        with quiet():
            import onnxruntime
    except ImportError as error:
        raise ModelError(
            f"ONNX Runtime cannot be imported ({_first_line(error)}): `pip install onnxruntime`"
        ) from error
    onnxruntime.set_default_logger_severity(_FATAL)
    module: ModuleType = onnxruntime
    return module


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what libraries write to stdout and stderr by themselves, below Python too, away from ours."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink:
        kept = [os.dup(descriptor) for descriptor in (1, 2)]
        try:
            for descriptor in (1, 2):
                os.dup2(sink.fileno(), descriptor)
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                yield
        finally:
            for descriptor, was in zip((1, 2), kept, strict=True):
                os.dup2(was, descriptor)
                os.close(was)


@cache
def cuda_cards() -> int:
    """How many CUDA cards the driver shows; 0 without a driver. Nothing is set up on them."""
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
    """Which of the libraries that the CUDA provider needs cannot be loaded, wherever they came from."""
    ort = import_runtime()
    with quiet():
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
    return [name for name in _CUDA_LIBRARIES if not _loads(name)]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def try_out(device: str) -> float:
    """Seconds that a small network takes on a device, with its session. Raises ModelError where it does not run
    there, or answers wrongly."""
    ones = np.ones((64, 64), np.float32)
    weight = numpy_helper.from_array(ones, "w")
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 64]) for name in ("x", "y")]
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([product], "try", shapes[:1], shapes[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    start = time.perf_counter()
    session = _session(model.SerializeToString(), device, [(CPU if device == "cpu" else CUDA, {})])
    (answer,) = session.run(["y"], {"x": ones})
    if not (answer == 64).all():
        raise ModelError(f"ONNX Runtime computes wrongly on {device}")
    return time.perf_counter() - start


def _session(model: bytes, device: str, wanted: list[tuple[str, dict[str, Any]]]) -> Any:
    ort = import_runtime()
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = usable_processors()
    options.inter_op_num_threads = 1
    # waiting threads sleep: the decoders need the processors too
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if wanted[0][0] not in ort.get_available_providers():
        raise ModelError(
            f"this ONNX Runtime ({ort.__version__}) was built without {wanted[0][0]}; `vtag doctor` says what to do"
        )
    try:
        with quiet():
            if device != "cpu" and hasattr(ort, "preload_dlls"):
                ort.preload_dlls()  # finds the CUDA libraries that came with torch or from pip
            session = ort.InferenceSession(model, options, providers=wanted)
    except Exception as error:
        raise ModelError(f"ONNX Runtime cannot use the model on {device}: {_first_line(error)}") from error
    has = session.get_providers()
    if has[0] != wanted[0][0]:  # it falls back in silence
        raise ModelError(
            f"ONNX Runtime cannot use {device} here and would have run on the processor; "
            "`vtag doctor` says what is missing, --device cpu runs there"
        )
    return session


def _providers(device: str, graph: OnnxGraph, batch: int) -> list[tuple[str, dict[str, Any]]]:
    if device == "cpu":
        return [(CPU, {})]
    number = int(device.partition(":")[2] or 0)
    cuda: tuple[str, dict[str, Any]] = (CUDA, {"device_id": number, "use_tf32": 0})
    if device != "tensorrt":
        return [cuda]
    engines = make_private_dir(_engines(graph))
    t, h, w = graph.size

    def shape(clips: int) -> str:
        return f"{CLIPS}:{clips}x{t}x{h}x{w}x3"

    options = {
        "device_id": number,
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
    """Where TensorRT keeps what it built of a graph."""
    return home() / "cache" / "tensorrt" / graph.sha256[:32]


def _bytes_of(graph: OnnxGraph) -> bytes:
    """The file, held against the hash that it had when it was read and checked."""
    with prefix_errors(graph.file), open_regular(graph.file) as (handle, _):
        if file_hash(handle) != graph.sha256:
            raise ModelError("it changed while it was opened: try again")
        handle.seek(0)
        return handle.read()


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return printable(text.splitlines()[0])[:300]
