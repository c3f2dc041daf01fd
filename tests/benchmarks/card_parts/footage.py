"""Generated 1080p that costs a decoder about what camera footage does, and differs from file to file."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from card_parts.report import Scale

_FPS = 30
_DRAWN = 15  # frames, which repeat
_BLOCK = 8  # pixels of a patch of one colour
_GRAIN = 12
CODECS = {"H.264": "libx264", "HEVC": "libx265"}


def make_videos(folder: Path, scale: Scale, *, codec: str, count: int, seconds: float) -> list[Path]:
    """`count` files of moving, grainy patches, encoded side by side."""
    folder.mkdir(exist_ok=True)
    make = partial(_make_video, folder, _draw(*scale.picture), codec, round(seconds * _FPS))
    with ThreadPoolExecutor(min(count, os.cpu_count() or 1)) as pool:
        return list(pool.map(make, range(count)))


def _make_video(folder: Path, drawn: list[NDArray[np.uint8]], codec: str, frames: int, number: int) -> Path:
    """The file `number`, which begins with another frame than the others.

    Each frame is converted once: with that for all, the processor would encode at a tenth of its speed.
    """
    path = folder / f"{codec}-{number}.mp4"
    options = {"preset": "ultrafast", "crf": "26"}
    if codec == "libx265":
        options["x265-params"] = "log-level=none"
    pictures = [
        av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p") for pixels in drawn
    ]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=_FPS, options=options)
        stream.height, stream.width = drawn[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for i in range(frames):
            frame = pictures[(i + number) % len(pictures)]
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _draw(width: int, height: int) -> list[NDArray[np.uint8]]:
    """Patches that move by four pixels a frame, under grain that stays."""
    rng = np.random.default_rng(0)
    patches = rng.integers(40, 215, (-(-height // _BLOCK), -(-width // _BLOCK), 3))
    picture = patches.repeat(_BLOCK, 0).repeat(_BLOCK, 1)[:height, :width]
    grain = rng.integers(-_GRAIN, _GRAIN + 1, picture.shape)
    return [(np.roll(picture, 4 * i, axis=1) + grain).astype(np.uint8) for i in range(_DRAWN)]
