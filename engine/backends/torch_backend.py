"""The Torch backend: a Video Swin on the processor, an NVIDIA card or a Mac's GPU."""

from __future__ import annotations

import ctypes
import logging
import re
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vtag.engine.backends import bf16
from vtag.engine.backends.protocol import MAX_THREADS, Output, check_clips
from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.errors import ModelError
from vtag.engine.swin.architecture import VideoSwin
from vtag.engine.swin.config import ModelSpec
from vtag.engine.swin.fast.inference import BFLOAT16_CPU, FLOAT32_CPU, ComputeConfig, FastSwin
from vtag.engine.text import printable

log = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CPU_CONFIGS = {"fp32": FLOAT32_CPU, "bf16": BFLOAT16_CPU}
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


class TorchBackend:
    """A checkpoint, ready to run. Matrices are in `precision`; norms, sums, pooling and head in float32."""

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, *, device: str = "auto", precision: str = "auto") -> None:
        """Raises ModelError where device or precision are not there, or memory does not suffice."""
        self.spec: ModelSpec = checkpoint.spec
        self._device = choose_device(device)
        self.device = str(self._device)
        self._most_at_once: int | None = None  # clips; found out where memory is short
        self.precision = choose_precision(precision, self._device)
        if self._device.type == "cpu":
            keep_large_buffers()
        elif self.precision == "fp32":
            torch.set_float32_matmul_precision("highest")  # no TF32: ten bits are not float32
        with _enough_memory("the model", self.device):
            model = VideoSwin.from_arrays(self.spec.sizes, checkpoint.tensors).to(self._device)
            self._clip_threads = _ClipThreads() if self._device.type == "cpu" else None
            config = replace(
                compute_config(self._device, self.precision),
                threads=self._clip_threads.count if self._clip_threads else 1,
            )
            self._model = FastSwin(model, config, mean=self.spec.mean, std=self.spec.std)

    def run(self, clips: NDArray[np.uint8]) -> Output:
        """Features and logits of `clips` uint8 [N, T, H, W, 3] (RGB); normalised on the device.

        Raises ValueError for another type or shape, ModelError where the device's memory does not suffice.
        """
        check_clips(clips, "uint8", "[N, T, H, W, 3]", channels=4)
        with _enough_memory(f"{len(clips)} clips", self.device), torch.inference_mode():
            return self._answer(self._on_device(clips))

    def logits(self, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32 [N, K] of `clips` float32 [N, 3, T, H, W] that are normalised already.

        Raises ValueError for another type or shape, ModelError where the device's memory does not suffice.
        """
        check_clips(clips, "float32", "[N, 3, T, H, W]", channels=1)
        with _enough_memory(f"{len(clips)} clips", self.device), torch.inference_mode():
            return self._answer(self._on_device(clips).permute(0, 2, 3, 4, 1)).logits

    def _on_device(self, clips: NDArray[Any]) -> torch.Tensor:
        clips = np.ascontiguousarray(clips)
        if not clips.flags.writeable:
            clips = clips.copy()  # torch has no read-only tensors and warns of every array that is
        return torch.from_numpy(clips).to(self._device)

    def _answer(self, clips: torch.Tensor) -> Output:
        """Output of clips [N, T, H, W, 3], normalised or pixels."""
        sizes = self.spec.sizes
        if not len(clips):
            none = np.zeros((0, sizes.feature_dim), np.float32)
            return Output(none, np.zeros((0, sizes.num_classes), np.float32))
        features = self._features(clips)
        logits = self._model.head(features)
        return Output(features.cpu().numpy(), logits.cpu().numpy())

    def _features(self, clips: torch.Tensor) -> torch.Tensor:
        if self._clip_threads and len(clips) > 1:
            return torch.cat(list(self._clip_threads.each(self._model.forward_features, clips.split(1))))
        if self._clip_threads:
            return self._model.forward_features(clips, self._clip_threads.each)
        try:
            some = clips.split(self._most_at_once or len(clips))
            return torch.cat([self._model.forward_features(part) for part in some])
        except torch.OutOfMemoryError:
            if len(some[0]) == 1:
                raise
        # from now on, so that later batches do not run into it again
        self._most_at_once = len(some[0]) // 2
        log.warning(
            "the memory of %s holds no %d clips: %d at once", self.device, len(some[0]), self._most_at_once
        )
        torch.cuda.empty_cache()
        return self._features(clips)


class _ClipThreads:
    """Threads that each take whole clips: a processor is busier so than with all its cores on one clip.

    Measured on two cores: two threads with a clip each are about a tenth faster than two on one. MKL counts its
    threads for the whole process, so that its products outside of the threads have one thread from then on.
    """

    def __init__(self) -> None:
        cores = torch.get_num_threads()
        self.count = min(cores, MAX_THREADS)
        self._threads = max(1, cores // self.count)
        self._pool: ThreadPoolExecutor | None = None

    def each(self, work: Callable[[Any], Any], parts: Iterable[Any]) -> Iterable[Any]:
        """`work` of each part, in their order."""
        if self.count == 1:
            return map(work, parts)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(
                self.count, "vtag-lane", initializer=torch.set_num_threads, initargs=(self._threads,)
            )
        return self._pool.map(torch.inference_mode()(work), parts)


class _enough_memory(AbstractContextManager[None]):
    """Torch's ways to say that memory is short, as a ModelError."""

    def __init__(self, what: str, device: str) -> None:
        self._message = f"the memory of {device} does not suffice for {what}: use a smaller batch or model"

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        short = isinstance(error, RuntimeError) and "not enough memory" in str(error)  # on the processor
        if short or isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            raise ModelError(self._message) from error


def choose_device(device: str) -> torch.device:
    """The device that a word means here: `auto` is cuda, else mps, else cpu. Raises ModelError."""
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
    """How the fast forward is to run there."""
    return _CPU_CONFIGS[precision] if device.type == "cpu" else ComputeConfig(_TYPES[precision])


def choose_precision(precision: str, device: torch.device) -> str:
    """The precision that a word means on a device: `auto` is bf16 where it has the units and they pay, else fp32.

    Raises ModelError for one that the device lacks, with the reason.
    """
    if precision not in PRECISIONS:
        choices = ", ".join(PRECISIONS)
        raise ModelError(f"there is no precision {printable(precision)!r}; the choices are {choices}")
    cuda_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "auto":
        return "bf16" if cuda_bf16 or (device.type == "cpu" and bf16.pays()) else "fp32"
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
    """Tell glibc to keep the large buffers it gets back, once a process; whether that was done.

    By default each goes back to the system, and the next layer's pages are faulted in anew. Measured for a clip
    of Swin-T in fp32 on one thread of a Zen 5: 320,000 page faults and 0.5 s in the kernel beside 2.1 s of
    computing as installed; none of either from the third clip on so, for 130 MB more memory.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version") or not hasattr(library, "mallopt"):
        return False
    trim = library.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    return bool(library.mallopt(_M_MMAP_MAX, 0)) and bool(trim)
