"""Opens a backend for a model: Torch or ONNX Runtime, on the requested device."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from vtag.engine.backends.protocol import Backend
from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.errors import ModelError
from vtag.engine.models.registry import load_model
from vtag.engine.system.signals import delay_interrupts
from vtag.engine.text import printable

BACKENDS = ("auto", "torch", "onnx")


def open_backend(
    model: str | Path | Checkpoint,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: str | None = "auto",
    sizes_vary: bool = False,
) -> Backend:
    """A backend for `model`: a catalogue name, a path, or a checkpoint in memory.

    Args:
        model: a name from `vtag models list`, a checkpoint file, a model folder, or a Checkpoint.
        backend: auto, torch, onnx.
        device: auto, cpu, cuda (or cuda:1 ...), mps with Torch, tensorrt with ONNX.
        precision: auto, fp32, bf16, fp16, int8. None: fp32, or the precision of the model's ONNX file.
        sizes_vary: clips of other sizes than the model's own will come. ONNX needs an export for each size, so auto
            runs such a model with Torch.

    Raises ModelError if the model cannot be read, or the backend, device or precision is not available.
    """
    if backend not in BACKENDS:
        raise ModelError(f"there is no backend {printable(backend)!r}; the choices are {', '.join(BACKENDS)}")
    checkpoint = model if isinstance(model, Checkpoint) else load_model(model)
    precision = precision or (checkpoint.onnx.precision if checkpoint.onnx else "fp32")
    if backend == "auto":
        checkpoint, backend = _choose_runtime(checkpoint, device, precision, sizes_vary)
    if backend == "onnx":
        return _open_onnx(checkpoint, device, precision, sizes_vary)
    if find_spec("torch") is None:
        raise ModelError(
            "torch is not installed here: `pip install torch`, or give an ONNX model that `vtag models export` "
            "made on another machine"
        )
    if not checkpoint.has_backbone:
        raise ModelError("this model's network is an ONNX file of less than float32: use --backend onnx")
    with delay_interrupts():
        from vtag.engine.backends.torch_backend import TorchBackend

    return TorchBackend(checkpoint, device=device, precision=precision)


def _choose_runtime(
    checkpoint: Checkpoint, device: str, precision: str, sizes_vary: bool
) -> tuple[Checkpoint, str]:
    """The checkpoint, with the graph to run if there is one, and the runtime that `auto` uses."""
    from vtag.engine.backends import autotune

    if checkpoint.has_backbone and (pinned := autotune.pinned_backend()):
        return checkpoint, pinned
    if checkpoint.onnx:
        return checkpoint, "onnx"
    if (
        not sizes_vary
        and find_spec("torch")
        and (graph := autotune.faster_graph(checkpoint, device, precision))
    ):
        return replace(checkpoint, onnx=graph), "onnx"
    return checkpoint, "torch"


def _open_onnx(checkpoint: Checkpoint, device: str, precision: str, sizes_vary: bool) -> Backend:
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise ModelError(
                f"an ONNX model runs with {package}: `pip install {package}`, or use --backend torch"
            )
    from vtag.engine.backends import autotune
    from vtag.engine.backends.onnx_backend import OnnxBackend

    onnx_backend = OnnxBackend(checkpoint, device=device, precision=precision, sizes_vary=sizes_vary)
    if checkpoint.onnx is None and onnx_backend.device == "cpu" and not sizes_vary:
        autotune.measure_backends(checkpoint, onnx_backend)
    return onnx_backend
