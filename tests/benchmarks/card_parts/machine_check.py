"""What is there before anything is measured."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from machine import facts

from card_parts.report import Report, Scale

_RATE_SIDE = 8192  # of a matrix product that a large card is busy with
_COPY_BYTES = 1 << 30
_MISSING = ("av", "numpy", "onnx", "sqlite_utils", "typer", "rich", "safetensors", "torchvision", "triton")


def run_check(report: Report, scale: Scale) -> None:
    """Say what is there; fail if the card is not."""
    report.say(facts())
    missing = [name for name in _MISSING if find_spec(name) is None]
    report.say(f"not installed: {', '.join(missing)}" if missing else "all packages are installed")
    free = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    report.say(f"{len(os.sched_getaffinity(0))} cores to use, {free:.0f} GB free for temporary files")
    if "av" not in missing:
        report.say(_decoders())
    if not scale.has_card:
        report.say("a dry run: no card is used")
    elif not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} finds no CUDA card: --dry tries all of this without one")
    else:
        report.say(_card())
    report.say(f"matrix products in {scale.precision}: {matrix_rate(scale) / 1e12:.1f} TFLOP/s")
    report.say(f"copies on the device: {_copy_rate(scale) / 1e9:.0f} GB/s read and written")


def matrix_rate(scale: Scale) -> float:
    """Operations a second of one large square product on random data."""
    side = _RATE_SIDE if scale.has_card else 128
    one = torch.randn(side, side, device=scale.device).to(scale.dtype)
    other = torch.randn(side, side, device=scale.device).to(scale.dtype)
    out = torch.empty_like(one)
    return 2 * side**3 / scale.seconds(lambda: torch.mm(one, other, out=out))


def _copy_rate(scale: Scale) -> float:
    size = _COPY_BYTES if scale.has_card else 1 << 20
    one = torch.randint(0, 255, (size,), dtype=torch.uint8, device=scale.device)
    other = torch.empty_like(one)
    return 2 * size / scale.seconds(lambda: other.copy_(one))


def _card() -> str:
    properties = torch.cuda.get_device_properties(0)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = "unknown"
    if shutil.which(query[0]):
        driver = subprocess.run(query, capture_output=True, text=True).stdout.strip() or driver
    return (
        f"{torch.cuda.device_count()} x {properties.name}, {properties.total_memory / 2**30:.0f} GiB, "
        f"compute capability {properties.major}.{properties.minor}, "
        f"{properties.multi_processor_count} multiprocessors, driver {driver}, CUDA {torch.version.cuda}"
    )


def _decoders() -> str:
    import av
    from av.codec.hwaccel import hwdevices_available

    folders = [Path(path) for path in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if path]
    library = next(
        (str(file) for folder in folders for file in folder.glob("libnvcuvid.so*")), "not in its path"
    )
    return f"PyAV {av.__version__}, hardware: {', '.join(hwdevices_available())}; libnvcuvid: {library}"
