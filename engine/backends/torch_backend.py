"""The Torch backend: a Video Swin on the CPU, an NVIDIA card or a Mac's GPU."""

from __future__ import annotations

import ctypes
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vtag.engine.backends import bf16
from vtag.engine.backends.cuda_forward import Forward, cuda_forward, requested_forward
from vtag.engine.backends.protocol import MAX_THREADS, Output, check_clips, empty_output
from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.errors import ModelError
from vtag.engine.swin.architecture import VideoSwin
from vtag.engine.swin.config import ModelSpec
from vtag.engine.swin.fast.inference import BFLOAT16_CPU, FLOAT32_CPU, ComputeConfig, FastSwin
from vtag.engine.text import printable

log = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CPU_CONFIGS = {"fp32": FLOAT32_CPU, "bf16": BFLOAT16_CPU}
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


class TorchBackend:
    """A checkpoint that is ready to run. Matrices are in `precision`; norms, sums, pooling and head in float32.

    `run` and `logits` raise ModelError if the device's memory does not suffice.
    """

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, *, device: str = "auto", precision: str = "auto") -> None:
        """Raises ModelError if the device or precision is not available, or memory does not suffice."""
        self.spec: ModelSpec = checkpoint.spec
        self._device = choose_device(device)
        self.device = str(self._device)
        self._max_clips: int | None = None  # in a call; set when memory is short
        self.precision = choose_precision(precision, self._device)
        if self._device.type == "cpu":
            keep_large_buffers()
        elif self.precision == "fp32":
            torch.set_float32_matmul_precision("highest")  # no TF32, which has ten bits of float32's 23
        with _memory_errors("the model", self.device):
            model = VideoSwin.from_arrays(self.spec.sizes, checkpoint.tensors).to(self._device)
            self._clip_threads = _ClipThreads() if self._device.type == "cpu" else None
            config = replace(
                compute_config(self._device, self.precision),
                threads=self._clip_threads.count if self._clip_threads else 1,
            )
            self._model = FastSwin(model, config, mean=self.spec.mean, std=self.spec.std)
        self._card_forward: Forward = self._model.forward_features
        if self._device.type == "cuda":
            self._card_forward = cuda_forward(self._model.forward_features, requested_forward())

    def run(self, clips: NDArray[np.uint8]) -> Output:
        """Features and logits of `clips` uint8 [N, T, H, W, 3] (RGB). Raises ValueError for other clips."""
        check_clips(clips, "uint8", "[N, T, H, W, 3]", channels=4)
        with _memory_errors(f"{len(clips)} clips", self.device), torch.inference_mode():
            return self._compute(self._on_device(clips))

    def logits(self, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32 [N, K] of normalised float32 [N, 3, T, H, W]. Raises ValueError for other clips."""
        check_clips(clips, "float32", "[N, 3, T, H, W]", channels=1)
        with _memory_errors(f"{len(clips)} clips", self.device), torch.inference_mode():
            return self._compute(self._on_device(clips).permute(0, 2, 3, 4, 1)).logits

    def _on_device(self, clips: NDArray[Any]) -> torch.Tensor:
        clips = np.ascontiguousarray(clips)
        if not clips.flags.writeable:
            clips = clips.copy()  # torch has no read-only tensors and warns of read-only arrays
        return torch.from_numpy(clips).to(self._device)

    def _compute(self, clips: torch.Tensor) -> Output:
        """Output of `clips` [N, T, H, W, 3], which are normalised floats or uint8 pixels."""
        if not len(clips):
            return empty_output(self.spec.sizes)
        features = self._features(clips)
        logits = self._model.head(features)
        return Output(features.cpu().numpy(), logits.cpu().numpy())

    def _features(self, clips: torch.Tensor) -> torch.Tensor:
        if self._clip_threads and len(clips) > 1:
            return torch.cat(list(self._clip_threads.map(self._model.forward_features, clips.split(1))))
        if self._clip_threads:
            return self._model.forward_features(clips, self._clip_threads.map)
        try:
            batches = clips.split(self._max_clips or len(clips))
            return torch.cat([self._card_forward(batch) for batch in batches])
        except torch.OutOfMemoryError:
            if len(batches[0]) == 1:
                raise
        # kept for later calls, which would fail again
        self._max_clips = len(batches[0]) // 2
        log.warning(
            "the memory of %s holds no %d clips: %d at once", self.device, len(batches[0]), self._max_clips
        )
        torch.cuda.empty_cache()
        return self._features(clips)


class _ClipThreads:
    """Threads that each compute whole clips, which uses a CPU better than all its cores on one clip.

    Measured on two cores: two threads with a clip each are about a tenth faster than two on one. MKL counts its
    threads for the whole process, so that its products outside of the threads have one thread from then on.
    """

    def __init__(self) -> None:
        cores = torch.get_num_threads()
        self.count = min(cores, MAX_THREADS)
        self._threads_a_clip = max(1, cores // self.count)
        self._pool: ThreadPoolExecutor | None = None

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterable[Any]:
        """`function` of each item, in order, computed in parallel."""
        if self.count == 1:
            return map(function, items)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(
                self.count, "vtag-clip", initializer=torch.set_num_threads, initargs=(self._threads_a_clip,)
            )
        return self._pool.map(torch.inference_mode()(function), items)


@contextmanager
def _memory_errors(work: str, device: str) -> Iterator[None]:
    """Turn torch's errors for too little memory into a ModelError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        is_memory_error = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not is_memory_error and "not enough memory" not in str(error):  # the text of the CPU's allocator
            raise
        message = f"the memory of {device} does not suffice for {work}: use a smaller batch or model"
        raise ModelError(message) from error


def choose_device(device: str) -> torch.device:
    """The torch device of a `--device` value. `auto` is cuda, else mps, else cpu. Raises ModelError."""
    if device not in DEVICES and not re.fullmatch(r"cuda:\d{1,2}", device):
        raise ModelError(f"there is no device {printable(device)!r}; the choices are {', '.join(DEVICES)}")
    if device == "auto":
        has_mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise ModelError(
                f"this torch ({torch.__version__}) finds no CUDA card; `vtag doctor` says what is missing"
            )
        number = int(device.partition(":")[2] or 0)
        if number >= torch.cuda.device_count():
            raise ModelError(f"there is no {device}: this machine has {torch.cuda.device_count()} CUDA cards")
        return torch.device("cuda", number)
    if device == "mps" and not torch.backends.mps.is_available():
        raise ModelError("there is no GPU here that macOS's Metal can use (device mps)")
    return torch.device(device)


def compute_config(device: torch.device, precision: str) -> ComputeConfig:
    """The configuration of the fast network for a device and precision."""
    return _CPU_CONFIGS[precision] if device.type == "cpu" else ComputeConfig(_DTYPES[precision])


def choose_precision(precision: str, device: torch.device) -> str:
    """The precision of a `--precision` value on a device.

    `auto` is bf16 if the device has units for it and they are faster, else fp32. Raises ModelError for a precision
    that the device lacks.
    """
    if precision not in PRECISIONS:
        choices = ", ".join(PRECISIONS)
        raise ModelError(f"there is no precision {printable(precision)!r}; the choices are {choices}")
    cuda_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "auto":
        return "bf16" if cuda_bf16 or (device.type == "cpu" and bf16.is_bf16_faster()) else "fp32"
    if precision == "int8":
        raise ModelError("the precision int8 is not there yet; use fp32, bf16 or fp16")
    if precision == "bf16" and device.type == "cuda" and not cuda_bf16:
        raise ModelError("this CUDA card has no bf16 units; use fp16 or fp32")
    if precision == "bf16" and device.type == "cpu" and not bf16.processor_has_bf16():
        # measured with AVX2 alone: 26.7 s for a clip of Swin-T in bf16, 5.1 s in fp32
        raise ModelError(
            "this processor has no bf16 units, and without them bf16 is slower than fp32: use fp32"
        )
    if precision == "fp16" and device.type == "cpu":
        raise ModelError("fp16 needs a GPU; on the processor use fp32")
    return precision


@cache
def keep_large_buffers() -> bool:
    """Make glibc keep large buffers that are freed, once a process. Returns whether that was done.

    By default each buffer goes back to the system, and the next layer's pages are faulted in again. Measured for a
    clip of Swin-T in fp32 on one thread of a Zen 5: by default 320,000 page faults and 0.5 s in the kernel, for 2.1 s
    of computing. With this, none of either from the third clip on, for 130 MB more memory.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version") or not hasattr(library, "mallopt"):
        return False
    trim = library.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    return bool(library.mallopt(_M_MMAP_MAX, 0)) and bool(trim)
