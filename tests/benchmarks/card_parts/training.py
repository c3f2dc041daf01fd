"""A training step of Swin-T and B beside the same step on torchvision's own module; nothing is decoded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from machine import torchvision_network
from torch import Tensor, nn
from torch.nn import functional as F

from card_parts.prefetch import Copier, PinnedCopier, ProcessorCopier, prefetch
from card_parts.report import Report, Scale
from vtag.trainer.loop.network import build_network, parameter_groups

_SIZES = ("t", "b")
_BATCHES = (8, 32)
_STEPS = 4  # in a call that copies while it trains


def run_g(report: Report, scale: Scale) -> None:
    """Clips a second: forward, backward, AdamW."""
    batches = _BATCHES if scale.has_card else (2,)
    table = report.table(
        f"training, {scale.precision}, clips a second",
        *(f"batch {batch}" for batch in batches),
        "peak memory",
    )
    for size in _SIZES:
        for name, make in _WAYS.items():
            step = make(size, scale)
            if step is None:
                table.add(f"Swin-{size.upper()}, {name}", "not installed")
                continue
            cells = []
            if scale.has_card:
                torch.cuda.reset_peak_memory_stats()
            for batch in batches:
                clips = scale.pixels(batch)
                try:
                    seconds = scale.seconds(lambda step=step, clips=clips: step(clips))
                    cells.append(f"{batch / seconds:.1f}")
                except torch.OutOfMemoryError:
                    cells.append("too little memory")
            peak = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if scale.has_card else ""
            table.add(f"Swin-{size.upper()}, {name}", *cells, peak)
            del step
            if scale.has_card:
                torch.cuda.empty_cache()

    _measure_copies(report, scale)


def _measure_copies(report: Report, scale: Scale) -> None:
    """What it costs that the clips of a step come from the processor: before the step, or during the one before."""
    batch = _BATCHES[-1] if scale.has_card else 2
    step = _vtag("t", scale)
    on_device = scale.pixels(batch)
    host = on_device.cpu().numpy()
    copier: Copier = PinnedCopier(scale.device) if scale.has_card else ProcessorCopier()

    def prefetched() -> None:
        for clips in prefetch([[host]] * _STEPS, copier):
            step(clips)

    table = report.table(f"training Swin-T, batch {batch}", "clips a second")
    for name, work, steps in (
        ("clips on the device", lambda: step(on_device), 1),
        (
            "copied before each step, as vtag does it",
            lambda: step(torch.from_numpy(host).to(scale.device)),
            1,
        ),
        ("copied during the step before", prefetched, _STEPS),
    ):
        table.add(name, f"{steps * batch / scale.seconds(work):.1f}")


Step = Callable[[Tensor], None]


def _vtag(size: str, scale: Scale, *, recompute: bool = False) -> Step:
    base = scale.checkpoint(size)
    head = base.tensors["head.weight"], base.tensors["head.bias"]
    network = build_network(base, *head, recompute=recompute).to(scale.device).train()
    groups = parameter_groups(network, backbone_lr_scale=0.1, weight_decay=0.05)
    optimizer = torch.optim.AdamW(groups, lr=1e-4)
    return _step(network, optimizer, scale, lambda clips: _normalised(clips))


def _vtag_recomputing(size: str, scale: Scale) -> Step:
    return _vtag(size, scale, recompute=True)


def _torchvision(size: str, scale: Scale) -> Step | None:
    model = torchvision_network(scale.sizes[size])
    if model is None:
        return None
    model = model.to(scale.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
    return _step(
        model, optimizer, scale, lambda clips: _normalised(clips).permute(0, 4, 1, 2, 3).contiguous()
    )


_WAYS: dict[str, Callable[[str, Scale], Step | None]] = {
    "vtag": _vtag,
    "torchvision": _torchvision,
    "vtag, recomputing": _vtag_recomputing,
}


def _step(
    model: nn.Module, optimizer: torch.optim.Optimizer, scale: Scale, prepare: Callable[[Tensor], Tensor]
) -> Step:
    def step(clips: Tensor) -> None:
        labels = torch.arange(len(clips), device=clips.device)
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=scale.has_card):
            logits = model(prepare(clips))
        F.cross_entropy(logits.float(), labels, label_smoothing=0.1).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _normalised(clips: Tensor) -> Tensor:
    return clips.float().sub_(114.0).div_(57.0)
