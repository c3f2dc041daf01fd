"""Decoded pixels on disk: written once, read by every stage without a copy in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vtag.trainer.recipes.starter.data import Item, Pixels


class PixelStore(Sequence[Pixels]):
    """Videos and pictures, each uint8 [T, H, W, 3], in one file beside the list of what they show."""

    def __init__(self, path: Path) -> None:
        table = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        self.items = [Item(Path(place), label, source) for place, label, source, _ in table]
        self.shapes = [tuple(shape) for *_, shape in table]
        self._starts = np.cumsum([0, *(int(np.prod(shape)) for shape in self.shapes)])
        self._pixels = np.memmap(path, np.uint8, "r")

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Pixels:  # type: ignore[override]  # no slices
        shape, start = self.shapes[i], self._starts[i % len(self.items)]
        return self._pixels[start : start + np.prod(shape)].reshape(shape)


def write_store(path: Path, items: Sequence[Item], decoded: Iterable[Pixels]) -> None:
    """Write `decoded`, one for each of `items`; the list is written last, so that it names whole files only."""
    table = []
    with open(path, "wb") as handle:
        for item, pixels in zip(items, decoded, strict=True):
            handle.write(np.ascontiguousarray(pixels).tobytes())
            table.append([str(item.path), item.label, item.source, list(pixels.shape)])
    path.with_suffix(".json").write_text(json.dumps(table), encoding="utf-8")
