"""A candidate for scan and training: batches go to the card while it computes the batch before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Clips = NDArray[np.uint8]  # [n, T, H, W, 3]


class Copier(Protocol):
    """Copies batches to a device. `begin` returns before the copy is done, `finish` makes the current stream wait."""

    def begin(self, parts: Sequence[Clips]) -> Tensor: ...

    def finish(self, batch: Tensor) -> Tensor: ...


def prefetch(batches: Iterable[Sequence[Clips]], copier: Copier) -> Iterator[Tensor]:
    """The batches on the device, in order: when one is yielded, the copy of the next one has begun."""
    ahead: Tensor | None = None
    for parts in batches:
        begun = copier.begin(parts)
        if ahead is not None:
            yield copier.finish(ahead)
        ahead = begun
    if ahead is not None:
        yield copier.finish(ahead)


class ProcessorCopier:
    """Joins the clips; there is no device to copy them to."""

    def begin(self, parts: Sequence[Clips]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts))

    def finish(self, batch: Tensor) -> Tensor:
        return batch


@dataclass
class _Slot:
    """A pinned buffer, and when the card has what is in it."""

    buffer: Tensor
    copied: torch.cuda.Event


class PinnedCopier:
    """Joins the clips in pinned memory, and copies them on a stream of its own. Two buffers take turns.

    The clips are copied once by the processor, which joining them costs anyway. Out of memory that is not pinned the
    driver would copy them a second time, and the card would wait.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._slots: list[_Slot] = []
        self._next = 0
        self._copies: dict[int, torch.cuda.Event] = {}

    def begin(self, parts: Sequence[Clips]) -> Tensor:
        shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
        slot = self._slot(int(np.prod(shape)))
        host = slot.buffer[: int(np.prod(shape))].view(shape)
        np.concatenate(parts, out=host.numpy())
        with torch.cuda.stream(self._stream):
            batch = torch.empty(shape, dtype=torch.uint8, device=self._device)
            batch.copy_(host, non_blocking=True)
            slot.copied.record(self._stream)
        self._copies[id(batch)] = slot.copied
        return batch

    def finish(self, batch: Tensor) -> Tensor:
        current = torch.cuda.current_stream(batch.device)
        current.wait_event(self._copies.pop(id(batch)))
        batch.record_stream(current)  # its memory was taken on the copying stream
        return batch

    def _slot(self, size: int) -> _Slot:
        """The buffer that was used longest ago, large enough, once the card has what was in it."""
        if len(self._slots) < 2:
            self._slots.append(_Slot(torch.empty(0, dtype=torch.uint8), torch.cuda.Event()))
            self._next = len(self._slots) - 1
        slot = self._slots[self._next]
        self._next = (self._next + 1) % 2
        slot.copied.synchronize()
        if len(slot.buffer) < size:
            slot.buffer = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        return slot
