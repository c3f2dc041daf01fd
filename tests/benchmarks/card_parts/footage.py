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
_DRAWN = 16  # frames, which repeat: so many files differ
_ENCODED = 120  # frames of a file that are encoded; they repeat as they are
_BLOCK = 8  # pixels of a patch of one colour
_GRAIN = 10
CODECS = {"H.264": "libx264", "HEVC": "libx265"}


def make_videos(folder: Path, scale: Scale, *, codec: str, count: int, seconds: float) -> list[Path]:
    """`count` files of moving, grainy patches, encoded side by side."""
    folder.mkdir(exist_ok=True)
    make = partial(_make_video, folder, _draw(*scale.picture), codec, round(seconds * _FPS))
    with ThreadPoolExecutor(min(count, os.cpu_count() or 1)) as pool:
        return list(pool.map(make, range(count)))


def _make_video(folder: Path, drawn: list[NDArray[np.uint8]], codec: str, frames: int, number: int) -> Path:
    """The file `number`, which begins with another frame than the others. What is encoded is a part that repeats."""
    path = folder / f"{codec}-{number}.mp4"
    options = {"preset": "ultrafast", "crf": "24"}
    if codec == "libx265":
        options["x265-params"] = "log-level=none:open-gop=0"
    pictures = [
        av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p") for pixels in drawn
    ]
    part = min(frames, _ENCODED)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=_FPS, options=options)
        stream.height, stream.width = drawn[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        packets = []
        for i in range(part):
            frame = pictures[(i + number) % len(pictures)]
            frame.pts = i
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for start in range(0, frames, part):
            for packet in packets:
                container.mux(_later(packet, start))
    return path


def _later(packet: av.Packet, frames: int) -> av.Packet:
    """A copy of `packet`, whose times are in frames, that many frames later."""
    copy = av.Packet(bytes(packet))
    copy.stream, copy.time_base = packet.stream, packet.time_base
    copy.pts, copy.dts, copy.duration = packet.pts + frames, packet.dts + frames, packet.duration
    copy.is_keyframe = packet.is_keyframe
    return copy


def _draw(width: int, height: int) -> list[NDArray[np.uint8]]:
    """Patches that move by four pixels a frame, under the grain of a sensor."""
    rng = np.random.default_rng(0)
    patches = rng.integers(40, 215, (-(-height // _BLOCK), -(-width // _BLOCK), 3))
    picture = patches.repeat(_BLOCK, 0).repeat(_BLOCK, 1)[:height, :width].astype(np.int16)
    grain = rng.integers(-_GRAIN, _GRAIN + 1, (*picture.shape[:2], 1), np.int16)
    return [
        (np.roll(picture, 4 * i, axis=1) + np.roll(grain, (131 * i, 57 * i), (0, 1))).astype(np.uint8)
        for i in range(_DRAWN)
    ]
