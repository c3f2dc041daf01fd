"""What a part reports, row by row, and how large everything is: for a card, or tiny for a processor."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import SIZES

from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.swin.config import ModelSpec, SwinSizes
from vtag.trainer.loop.network import random_checkpoint

_ROUNDS = 3
_TINY_SIZES = SwinSizes(16, (2, 1), (1, 2), 400, (2, 7, 7))


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    device: str
    sizes: dict[str, SwinSizes]
    clip: tuple[int, int, int]  # frames, height, width
    batches: tuple[int, ...]
    measure_s: float  # how long one measurement runs, three times
    picture: tuple[int, int]  # width, height of generated videos
    video_s: float  # length of a generated video
    videos: int  # in a scan
    files: int  # that are decoded at once

    @property
    def has_card(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def dtype(self) -> torch.dtype:
        """bf16 on a card; on a processor a type that every one computes."""
        return torch.bfloat16 if self.has_card else torch.float32

    @property
    def precision(self) -> str:
        return "bf16" if self.has_card else "fp32"

    def checkpoint(self, size: str) -> Checkpoint:
        """Random weights from a fixed seed, of the size `t`, `s` or `b`."""
        frames, _, crop = self.clip
        labels = tuple(f"class {i}" for i in range(self.sizes[size].num_classes))
        spec = ModelSpec(f"random-{size}", self.sizes[size], labels, frames, 15.0, crop * 8 // 7, crop)
        return random_checkpoint(spec, seed=0)

    def pixels(self, count: int, clip: tuple[int, int, int] | None = None) -> torch.Tensor:
        """`count` random clips uint8 [N, T, H, W, 3] on the device."""
        shape = (count, *(clip or self.clip), 3)
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).to(self.device)

    def synchronize(self) -> None:
        """Wait for the card."""
        if self.has_card:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object]) -> float:
        """Median seconds of a call, of three rounds of calls that do not wait for each other."""
        for _ in range(2):  # the first calls load kernels and take memory
            work()
        calls = max(1, int(self.measure_s / self._seconds_of(work, 1)))
        return statistics.median(self._seconds_of(work, calls) / calls for _ in range(_ROUNDS))

    def _seconds_of(self, work: Callable[[], object], calls: int) -> float:
        self.synchronize()
        started = time.perf_counter()
        for _ in range(calls):
            work()
        self.synchronize()
        return time.perf_counter() - started


CARD = Scale(
    device="cuda",
    sizes=SIZES,
    clip=(32, 224, 224),
    batches=(1, 2, 4, 8, 16, 32, 64),
    measure_s=0.12,
    picture=(1920, 1080),
    video_s=60.0,
    videos=16,
    files=8,
)
TINY = Scale(
    device="cpu",
    sizes=dict.fromkeys("tb", _TINY_SIZES),
    clip=(4, 28, 28),
    batches=(1, 2),
    measure_s=0.0,
    picture=(160, 120),
    video_s=6.0,
    videos=2,
    files=2,
)


class Table:
    """Rows that are saved as they come."""

    def __init__(self, report: Report, head: Sequence[str]) -> None:
        self._report = report
        self.content: dict[str, Any] = {"head": list(head), "rows": []}

    def add(self, *cells: object) -> None:
        """Add a row."""
        self.content["rows"].append([str(cell) for cell in cells])
        self._report.save()


class Report:
    """What one part found so far, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._started = time.monotonic()
        self._lines: list[str] = []
        self._tables: list[Table] = []
        self._status = "unfinished"

    def say(self, line: str) -> None:
        """Add a line of text."""
        self._lines.append(line)
        self.save()

    def table(self, *head: str) -> Table:
        """A new table with these columns."""
        self._tables.append(Table(self, head))
        return self._tables[-1]

    def finish(self, status: str) -> None:
        self._status = status
        self.save()

    def save(self) -> None:
        """Write everything so far."""
        content = {
            "status": self._status,
            "seconds": time.monotonic() - self._started,
            "lines": self._lines,
            "tables": [table.content for table in self._tables if table.content["rows"]],
        }
        temporary = self._path.with_suffix(".part")
        temporary.write_text(json.dumps(content))
        os.replace(temporary, self._path)
