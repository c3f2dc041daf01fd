"""What the benchmarks share: the machine, medians, matrix floors, and torchvision's own module where it imports."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from vtag.engine.swin.config import SwinSizes

SIZES = {
    "t": SwinSizes(96, (2, 2, 6, 2), (3, 6, 12, 24), 400),
    "s": SwinSizes(96, (2, 2, 18, 2), (3, 6, 12, 24), 400),
    "b": SwinSizes(128, (2, 2, 18, 2), (4, 8, 16, 32), 400),
}
OPERATIONS = {"t": 175.5e9, "s": 331.4e9, "b": 562.7e9}  # of one clip, linear layers and attention
# rows, inputs, outputs of Swin-T's linear layers (32 x 224 x 224) as they come in chunks
_PRODUCTS = [(3136, 96, 384), (3136, 384, 96), (3136, 384, 1536), (3136, 1536, 384), (784, 768, 3072)]


def facts() -> str:
    """One line: processor, units, threads, versions."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11 may not say
    units = [name for name, has in capabilities.items() if has is True]
    return (
        f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; "
        f"{', '.join(u for u in units if u.startswith(('avx', 'amx', 'bf16')))}; "
        f"Python {platform.python_version()}, torch {torch.__version__}; "
        f"{torch.cuda.get_device_name() if torch.cuda.is_available() else 'no CUDA card'}; "
        f"load {os.getloadavg()[0]:.1f}"
    )


def median_s(work: Callable[[], object], rounds: int) -> float:
    """Median seconds of `rounds` calls after one that does not count."""
    work()
    passed = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        passed.append(time.perf_counter() - started)
    return statistics.median(passed)


def matrix_rate(dtype: torch.dtype, device: str = "cpu") -> float:
    """The best rate, in operations a second, of products of the sizes that a Swin-T has."""
    best = 0.0
    for rows, inputs, outputs in _PRODUCTS:
        one = torch.randn(rows, inputs, device=device).to(dtype)
        other = torch.randn(inputs, outputs, device=device).to(dtype)
        out = torch.empty(rows, outputs, dtype=dtype, device=device)

        def products(a: Any = one, b: Any = other, c: Any = out) -> None:
            for _ in range(8):
                torch.mm(a, b, out=c)
            if device != "cpu":
                torch.cuda.synchronize()

        best = max(best, 8 * 2 * rows * inputs * outputs / median_s(products, 5))
    return best


def torchvision_swin3d(name: str) -> Any:
    """torchvision's own module with random weights; None where torchvision is not installed."""
    module = _torchvision_module()
    return None if module is None else getattr(module, name)().eval()


def torchvision_network(sizes: SwinSizes, drop_path: float = 0.1) -> Any:
    """torchvision's own module of these sizes; None where torchvision is not installed."""
    module = _torchvision_module()
    if module is None:
        return None
    return module.SwinTransformer3d(
        patch_size=list(sizes.patch_size),
        embed_dim=sizes.embed_dim,
        depths=list(sizes.depths),
        num_heads=list(sizes.num_heads),
        window_size=list(sizes.window_size),
        stochastic_depth_prob=drop_path,
        num_classes=sizes.num_classes,
    ).eval()


def _torchvision_module() -> Any:
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return None
    except RuntimeError:  # its compiled operators do not fit this torch; the model needs none of them
        sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
    from torchvision.models.video import swin_transformer

    return swin_transformer


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table as Markdown."""
    print(f"| {' | '.join(head)} |")
    print(f"|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |", flush=True)
    print(flush=True)


def peak_mb(pid: int | str = "self") -> float:
    """The most memory a process had resident so far, in MB; Linux alone."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
