"""The forward pass beside torchvision's own, ONNX Runtime's and the machine's matrix rate, all in one run.

    python tests/benchmarks/model.py [--sizes t,s,b] [--rounds 5]

Prints Markdown. torchvision is compared where it is installed (`pip install --no-deps torchvision`, its compiled
operators are not needed). As installed means: in a process of its own, without our settings of glibc's malloc.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from machine import OPERATIONS, SIZES, facts, matrix_rate, median_s, print_table, torchvision_swin3d

from vtag.engine.backends.bf16 import processor_has_bf16
from vtag.engine.backends.export.onnx_writer import ExportOptions, write_onnx
from vtag.engine.backends.onnx_backend import OnnxBackend
from vtag.engine.backends.protocol import Backend
from vtag.engine.backends.torch_backend import TorchBackend, keep_large_buffers
from vtag.engine.checkpoints.checkpoint import Checkpoint, with_hashes
from vtag.engine.swin.architecture import VideoSwin
from vtag.engine.swin.config import ModelSpec
from vtag.engine.swin.fast.inference import ComputeConfig, FastSwin

CLIP = (1, 32, 224, 224, 3)


def as_installed(size: str, rounds: int) -> float | None:
    """Seconds of a clip through torchvision's module in a process of its own; None where it is not there."""
    run = subprocess.run(
        [sys.executable, __file__, "--eager", size, "--rounds", str(rounds)], capture_output=True, text=True
    )
    return float(run.stdout) if run.returncode == 0 and run.stdout.strip() else None


def eager(size: str, rounds: int) -> None:
    model = torchvision_swin3d(f"swin3d_{size}")
    if model is not None:
        clip = torch.randn(CLIP).permute(0, 4, 1, 2, 3).contiguous()
        with torch.inference_mode():
            print(median_s(lambda: model(clip), rounds))


def checkpoint_of(plain: VideoSwin) -> Checkpoint:
    spec = ModelSpec("speed", plain.sizes, tuple(map(str, range(400))), 32, 15.0)
    return with_hashes(spec, plain.arrays())


def at_once(name: str, backend: Backend, pixels: torch.Tensor, rounds: int) -> dict[str, float]:
    """Seconds a clip of `run` with a clip for each core, as a scan calls it."""
    some = np.repeat(pixels.numpy(), torch.get_num_threads(), axis=0)
    if len(some) == 1:
        return {}
    passed = median_s(lambda: backend.run(some), rounds)
    return {f"{name}, {len(some)} clips at once": passed / len(some)}


def ours(plain: VideoSwin, precision: str, pixels: torch.Tensor, rounds: int) -> dict[str, float]:
    """Seconds a clip of vtag's forward: one clip that the cores share, and a clip for each core."""
    backend = TorchBackend(checkpoint_of(plain), device="cpu", precision=precision)
    found = {f"vtag {precision}": median_s(lambda: backend.run(pixels.numpy()), rounds)}
    return found | at_once(f"vtag {precision}", backend, pixels, rounds)


def with_onnx(plain: VideoSwin, pixels: torch.Tensor, rounds: int) -> dict[str, float]:
    """The same of the exported model in ONNX Runtime. Random weights have no classes that int8 could agree on:
    what it is worth is not asked here."""
    found: dict[str, float] = {}
    for precision in ("fp32", "int8"):
        name = f"vtag onnx {precision}"
        with tempfile.TemporaryDirectory() as folder:
            backend = OnnxBackend(
                write_onnx(checkpoint_of(plain), Path(folder), ExportOptions(precision)), device="cpu"
            )
            found[name] = median_s(partial(backend.run, pixels.numpy()), rounds)
            found |= at_once(name, backend, pixels, rounds)
    return found


def on_the_processor(size: str, rounds: int) -> list[list[object]]:
    """Rows of one model: configuration, seconds a clip, times the floor, times as fast as installed torchvision."""
    rates = {"fp32": matrix_rate(torch.float32)}
    if processor_has_bf16():
        rates["bf16"] = matrix_rate(torch.bfloat16)
    installed = as_installed(size, rounds)
    keep_large_buffers()
    seconds: dict[str, float] = {}
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, CLIP, np.uint8))
    with torch.inference_mode():
        theirs = torchvision_swin3d(f"swin3d_{size}")
        if theirs is not None:
            clip = torch.randn(CLIP).permute(0, 4, 1, 2, 3).contiguous()
            seconds["torchvision fp32, malloc tuned"] = median_s(lambda: theirs(clip), rounds)
            if "bf16" in rates:
                with torch.autocast("cpu", torch.bfloat16):
                    seconds["torchvision autocast bf16, malloc tuned"] = median_s(
                        lambda: theirs(clip), rounds
                    )
        plain = VideoSwin(SIZES[size]).eval()
        floats = torch.randn(CLIP)
        seconds["vtag, the plain module fp32"] = median_s(lambda: plain(floats), rounds)
        for precision in rates:
            seconds |= ours(plain, precision, pixels, rounds)
    seconds |= with_onnx(plain, pixels, rounds)
    rows: list[list[object]] = []
    for precision, rate in rates.items():
        rows.append(
            [f"floor {precision}: {rate / 1e9:.0f} GFLOP/s", f"{OPERATIONS[size] / rate:.2f}", "1.00", ""]
        )
    if installed:
        seconds = {"torchvision fp32, as installed": installed} | seconds
    else:
        rows.append(["torchvision fp32, as installed", "not measured: not installed", "", ""])
    for name, passed in seconds.items():
        floor = OPERATIONS[size] / rates["bf16" if "bf16" in name else "fp32"]
        times = "" if "int8" in name else f"{passed / floor:.2f}"
        faster = f"{installed / passed:.2f}" if installed else ""
        rows.append([name, f"{passed:.2f}", times, faster])
    return rows


def on_the_card(size: str, rounds: int) -> list[list[object]]:
    """Rows of one model on a CUDA card, bf16: configuration, clips a second, share of the card's matrix rate."""
    rate, batch = matrix_rate(torch.bfloat16, "cuda"), 16
    plain = VideoSwin(SIZES[size]).eval().cuda()
    fast = FastSwin(plain, ComputeConfig(torch.bfloat16))
    theirs = torchvision_swin3d(f"swin3d_{size}")
    clips = torch.randn(batch, *CLIP[1:], device="cuda")
    works = {"vtag bf16": lambda: fast(clips)}
    if theirs is not None:
        theirs = theirs.cuda()
        turned = clips.permute(0, 4, 1, 2, 3).contiguous()
        compiled = torch.compile(theirs)
        works["torchvision bf16"] = lambda: theirs(turned)
        works["torchvision bf16, compiled"] = lambda: compiled(turned)
    rows: list[list[object]] = []
    for name, work in works.items():

        def once(work: object = work, own: bool = name.startswith("vtag")) -> None:
            with torch.autocast("cuda", torch.bfloat16, enabled=not own):
                work()  # type: ignore[operator]
            torch.cuda.synchronize()

        with torch.inference_mode():
            passed = median_s(once, rounds)
        share = batch * OPERATIONS[size] / passed / rate
        rows.append([name, f"{batch / passed:.1f} clips/s", f"{share:.0%} of {rate / 1e12:.0f} TFLOP/s"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="t")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--eager", metavar="SIZE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.eager:
        eager(options.eager, options.rounds)
        return
    print(facts(), end="\n\n")
    for size in options.sizes.split(","):
        print(f"Swin-{size.upper()}, one clip of 32 x 224 x 224, batch 1, median of {options.rounds}:\n")
        print_table(
            ["", "seconds a clip", "times its floor", "times as fast as torchvision as installed"],
            on_the_processor(size, options.rounds),
        )
        if torch.cuda.is_available():
            print_table(["on the card", "speed", "of the matrix rate"], on_the_card(size, options.rounds))
    if not torch.cuda.is_available():
        print("On a card: not measured, there is none here.")


if __name__ == "__main__":
    main()
