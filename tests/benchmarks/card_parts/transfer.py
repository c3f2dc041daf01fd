"""How fast clips get from the memory that decoding fills to the card: alone, and while it computes."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import numpy as np
import torch

from card_parts.prefetch import Copier, PinnedCopier, ProcessorCopier, prefetch
from card_parts.report import Report, Scale
from card_parts.speed import network

_BATCH = 16
_BATCHES_A_CALL = 4


def run_c(report: Report, scale: Scale) -> None:
    """Milliseconds for a batch of clips, which lie one by one in shared memory, as in a scan."""
    count = _BATCH if scale.has_card else 2
    clip_bytes = int(np.prod(scale.clip)) * 3
    shared = mmap.mmap(-1, count * clip_bytes)
    whole = np.frombuffer(shared, np.uint8).reshape(count, *scale.clip, 3)
    whole[:] = np.random.default_rng(0).integers(0, 256, whole.shape, np.uint8)
    clips = [whole[i : i + 1] for i in range(count)]
    table = report.table(f"{count} clips, {whole.nbytes / 1e6:.0f} MB", "ms", "GB/s", "clips a second")

    def add(name: str, work: Callable[[], object], batches: int = 1) -> None:
        seconds = scale.seconds(work) / batches
        rate = f"{whole.nbytes / seconds / 1e9:.1f}"
        table.add(name, f"{1000 * seconds:.2f}", rate, f"{count / seconds:.0f}")

    def joined() -> torch.Tensor:
        return torch.from_numpy(np.concatenate(clips))

    add("joined on the processor", joined)
    add("joined, pageable, as vtag does it", lambda: joined().to(scale.device))
    if scale.has_card:
        pinned = joined().pin_memory()
        add("pinned already", lambda: pinned.to(scale.device, non_blocking=True))
        with _Registered(whole) as is_registered:
            target = torch.empty(whole.shape, dtype=torch.uint8, device=scale.device)
            sources = [torch.from_numpy(clip) for clip in clips]

            def copy_each() -> None:
                for i, source in enumerate(sources):
                    target[i : i + 1].copy_(source, non_blocking=True)

            add(
                f"each from the shared memory, {'registered' if is_registered else 'not registered'}",
                copy_each,
            )
    copier: Copier = PinnedCopier(scale.device) if scale.has_card else ProcessorCopier()
    add("joined in pinned memory, copied on a stream", lambda: copier.finish(copier.begin(clips)))

    fast = network("t", scale)
    some = joined().to(scale.device)
    with torch.inference_mode():
        add("Swin-T alone", lambda: fast.forward_features(some))
        add(
            "Swin-T, pageable first, as vtag does it",
            lambda: fast.forward_features(joined().to(scale.device)),
        )

        def overlapped() -> None:
            for batch in prefetch([clips] * _BATCHES_A_CALL, copier):
                fast.forward_features(batch)

        add("Swin-T, the next batch copied meanwhile", overlapped, _BATCHES_A_CALL)
        expected = fast.forward_features(some)
        for batch in prefetch([clips] * 3, copier):
            if not torch.allclose(fast.forward_features(batch), expected, rtol=1e-3, atol=1e-3):
                report.say("WRONG: a prefetched batch gave other answers")


class _Registered:
    """Memory that the driver may read while it is registered: CUDA calls it page-locked."""

    def __init__(self, memory: np.ndarray) -> None:
        self._memory = memory

    def __enter__(self) -> bool:
        runtime = torch.cuda.cudart()
        return int(runtime.cudaHostRegister(self._memory.ctypes.data, self._memory.nbytes, 0)) == 0

    def __exit__(self, *_: object) -> None:
        torch.cuda.synchronize()
        torch.cuda.cudart().cudaHostUnregister(self._memory.ctypes.data)
