"""Generated footage: real encoders, moving pictures, nothing that belongs to anybody."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def picture(t: float, width: int, height: int, seed: int = 0) -> np.ndarray:
    """One frame uint8 [H, W, 3] at `t` seconds: a gradient with a disc that goes round."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    rng = np.random.default_rng(seed)
    tint = rng.uniform(0.3, 1.0, 3)
    base = (x / width * 120 + y / height * 80)[..., None] * tint
    angle = 2 * np.pi * (t / 2 + seed / 7)
    cx, cy = width * (0.5 + 0.3 * np.cos(angle)), height * (0.5 + 0.3 * np.sin(angle))
    disc = (x - cx) ** 2 + (y - cy) ** 2 < (min(width, height) / 6) ** 2
    base[disc] = 255 * rng.uniform(0.5, 1.0, 3)
    return base.clip(0, 255).astype(np.uint8)


def make_video(
    path: Path,
    *,
    seconds: float = 3.0,
    fps: int = 30,
    width: int = 160,
    height: int = 120,
    codec: str = "libx264",
    seed: int = 0,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Encode a moving picture to `path`, whose ending says the container; returns `path`."""
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, fps)
        for i in range(max(1, round(seconds * fps))):
            frame = av.VideoFrame.from_ndarray(picture(i / fps, width, height, seed), format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
