"""Clips of moving stripes in one colour, whose labels a small network learns in seconds."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

from helpers.footage import make_video

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def stripes(kind: str, seed: int) -> Callable[[int], np.ndarray]:
    """Draws red stripes, green stripes or grey noise, which even random weights distinguish."""
    rng = np.random.default_rng(seed)
    width = int(rng.integers(6, 12))

    def draw(i: int) -> np.ndarray:
        picture = np.zeros((48, 64, 3), np.uint8)
        if kind == "noise":
            return np.repeat(rng.integers(60, 200, (48, 64, 1), np.uint8), 3, axis=2)
        lit = (np.arange(64) + 2 * i) // width % 2 == 0
        picture[:, lit, 0 if kind == "red" else 1] = 255
        return picture

    return draw


def make_clips(folder: Path, kind: str, count: int, *, first: int = 0, seconds: float = 3) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        make_video(
            folder / f"{kind}{number}.mp4",
            seconds=seconds,
            fps=10,
            width=64,
            height=48,
            draw=stripes(kind, number + 1000 * len(kind)),
        )
