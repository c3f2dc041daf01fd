"""Clips a second of each way to compute the network, beside torchvision's own module and the card's matrix rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from helpers.processor_recorder import ProcessorRecorder
from machine import OPERATIONS, torchvision_network
from torch import Tensor

from card_parts.machine_check import matrix_rate
from card_parts.report import Report, Scale, Table
from vtag.engine.backends.cuda_forward import CudaGraphRecorder, Forward, GraphForward, split_batches
from vtag.engine.swin.architecture import VideoSwin
from vtag.engine.swin.fast.inference import ComputeConfig, FastSwin

_ATTENTION = ("attention", "fmha", "flash", "sdpa", "mha")
_COMPILED_BATCHES = (16,)  # a compilation is for one size, and takes about half a minute
_ORDER = ("t", "b", "s")  # as far as the time suffices
_SHOWN_KERNELS = 8
_PROFILED, _PROFILED_BATCH = "b", 16

Ways = Iterator[tuple[str, Forward]]


def run_b(report: Report, scale: Scale) -> None:
    """Every batch size, without compiling; then what the kernels of one batch are."""
    rate = matrix_rate(scale)
    report.say(f"the card's matrix rate in {scale.precision}: {rate / 1e12:.1f} TFLOP/s")
    summary = report.table(
        "at its best batch", "clips a second", "share of the matrix rate", "times torchvision"
    )
    for size in filter(scale.sizes.__contains__, _ORDER):
        best = _measure(
            _speed_table(report, size, scale.batches), _eager_ways(size, scale), scale, scale.batches
        )
        theirs = max(
            (clips_s for name, clips_s in best.items() if name.startswith("torchvision")), default=0.0
        )
        for name, clips_s in best.items():
            share = f"{clips_s * OPERATIONS[size] / rate:.0%}" if scale.has_card else ""
            times = f"{clips_s / theirs:.2f}" if theirs else ""
            summary.add(f"Swin-{size.upper()}, {name}", f"{clips_s:.0f}", share, times)
    _profile(report, scale)


def run_compile(report: Report, scale: Scale) -> None:
    """The compiled ways, the smallest network first. The first row of a table is not compiled."""
    batches = _COMPILED_BATCHES if scale.has_card else scale.batches[:1]
    for size in _ORDER if scale.has_card else _ORDER[:1]:
        _measure(_speed_table(report, size, batches), _compiled_ways(size, scale), scale, batches)


def _eager_ways(size: str, scale: Scale) -> Ways:
    theirs = torchvision_network(scale.sizes[size])
    if theirs is not None:
        theirs = theirs.to(scale.device)
        yield "torchvision, autocast", partial(_torchvision_autocast, theirs, scale)
        yield "torchvision", partial(_torchvision, theirs.to(scale.dtype), scale)
    fast = network(size, scale)
    record = CudaGraphRecorder() if scale.has_card else ProcessorRecorder()
    yield "vtag", fast.forward_features
    yield "vtag, CUDA graphs", partial(split_batches, GraphForward(fast.forward_features, record))


def _compiled_ways(size: str, scale: Scale) -> Ways:
    compiled = partial(torch.compile, dynamic=False, backend="inductor" if scale.has_card else "eager")
    fast = network(size, scale)
    yield "vtag", fast.forward_features
    forward = compiled(fast.forward_features)
    yield "vtag, compiled", forward
    record = CudaGraphRecorder() if scale.has_card else ProcessorRecorder()
    yield "vtag, compiled, CUDA graphs", GraphForward(forward, record)
    theirs = torchvision_network(scale.sizes[size])
    if theirs is not None:
        theirs = theirs.to(scale.device, scale.dtype)
        yield "torchvision, compiled", partial(_torchvision, compiled(theirs), scale)


def network(size: str, scale: Scale) -> FastSwin:
    """The fast network with random weights on the device, as the backend computes it there."""
    checkpoint = scale.checkpoint(size)
    plain = VideoSwin.from_arrays(checkpoint.spec.sizes, checkpoint.tensors).to(scale.device)
    return FastSwin(plain, ComputeConfig(scale.dtype))


def _torchvision(model: Callable[[Tensor], Tensor], scale: Scale, clips: Tensor) -> Tensor:
    return model(_normalised(clips).to(scale.dtype))


def _torchvision_autocast(model: Callable[[Tensor], Tensor], scale: Scale, clips: Tensor) -> Tensor:
    with torch.autocast(scale.device, torch.bfloat16, enabled=scale.has_card):
        return model(_normalised(clips))


def _normalised(clips: Tensor) -> Tensor:
    """uint8 [N, T, H, W, 3] -> float32 [N, 3, T, H, W], on the device, as the fast network does it itself."""
    return clips.float().sub_(114.0).div_(57.0).permute(0, 4, 1, 2, 3).contiguous()


def _speed_table(report: Report, size: str, batches: tuple[int, ...]) -> Table:
    heads = [f"batch {batch}" for batch in batches]
    return report.table(f"Swin-{size.upper()}, clips a second", *heads, "difference from vtag's own")


def _measure(table: Table, ways: Ways, scale: Scale, batches: tuple[int, ...]) -> dict[str, float]:
    """Add a row for each way; returns the most clips a second of each. A way that fails has its reason."""
    best: dict[str, float] = {}
    reference: Tensor | None = None
    with torch.inference_mode():
        for name, forward in ways:
            cells: list[str] = []
            difference = ""
            for batch in batches:
                clips = scale.pixels(batch)
                try:
                    seconds = scale.seconds(lambda forward=forward, clips=clips: forward(clips))
                except RuntimeError as error:  # too little memory, or a failed capture or compilation
                    cells.append(str(error).splitlines()[0][:80])
                    continue
                cells.append(f"{batch / seconds:.1f}")
                best[name] = max(best.get(name, 0.0), batch / seconds)
                if name.startswith("vtag"):
                    features = forward(clips)[:1].float()
                    reference = features if reference is None else reference
                    difference = f"{float((features - reference).abs().max() / reference.abs().max()):.0e}"
            table.add(name, *cells, difference)
    return best


def _profile(report: Report, scale: Scale) -> None:
    """Which kernels run for one batch of Swin-B, and which of them are attention."""
    size = _PROFILED
    fast, clips = network(size, scale), scale.pixels(_PROFILED_BATCH if scale.has_card else 1)
    activity = torch.profiler.ProfilerActivity
    activities = [activity.CPU, activity.CUDA] if scale.has_card else [activity.CPU]
    with torch.inference_mode():
        fast.forward_features(clips)
        with torch.profiler.profile(activities=activities) as profile:
            fast.forward_features(clips)
            scale.synchronize()
    events = profile.key_averages()
    operators = [
        event.key for event in events if event.key.startswith("aten::_") and _is_attention(event.key)
    ]
    report.say(f"attention of Swin-{size.upper()} runs as {', '.join(operators) or 'nothing known'}")
    times = {event.key: _own_us(event, scale) for event in events if _is_kernel(event, scale)}
    total = sum(times.values()) or 1.0
    table = report.table(f"Swin-{size.upper()}, batch {len(clips)}: kernel", "share of the time", "attention")
    for name, own_us in sorted(times.items(), key=lambda pair: -pair[1])[:_SHOWN_KERNELS]:
        table.add(name[:90].replace("|", "/"), f"{own_us / total:.0%}", "yes" if _is_attention(name) else "")
    share = sum(own_us for name, own_us in times.items() if _is_attention(name)) / total
    report.say(f"attention takes {share:.0%} of the time of all kernels")


def _is_attention(name: str) -> bool:
    return any(part in name.lower() for part in _ATTENTION)


def _is_kernel(event: Any, scale: Scale) -> bool:
    """On a card the operators stand beside their kernels, with the same time."""
    return not scale.has_card or event.device_type == torch.autograd.DeviceType.CUDA


def _own_us(event: Any, scale: Scale) -> float:
    name = "self_device_time_total" if scale.has_card else "self_cpu_time_total"
    return float(getattr(event, name, 0.0))
