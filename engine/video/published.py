"""The published pipelines, pixel for pixel: what PaddleVideo's tools show their Video Swin of one file.

Frames by index, plain RGB, OpenCV's resize: for comparing with published figures. The scan looks by time instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from vtag.engine.video.container import NO_PICTURE, UnusableVideo
from vtag.engine.video.convert import turn
from vtag.engine.video.frames import FrameSource
from vtag.engine.video.probe import Facts, VideoInfo, count_frames, examine
from vtag.engine.video.resize import resize_bilinear
from vtag.engine.video.sampling import Protocol, published_indices
from vtag.engine.video.views import published_center_crop, published_resize, published_uniform_crops

Pixels = NDArray[np.uint8]


def predict_clip(
    path: str | bytes | os.PathLike[str],
    *,
    protocol: Protocol = "clip",
    frames: int = 32,
    step: int = 2,
    short_side: int = 256,
    crop: int = 224,
    threads: int | None = None,
    opened: Callable[[VideoInfo], None] | None = None,
    tick: Callable[[int], None] | None = None,
) -> Pixels:
    """What the protocol looks at of the file at `path`: uint8 [N, T, H, W, 3], RGB.

    - `clip` (tools/predict.py): N = 1 clip of `frames`, every `step`-th, from the middle; short side `short_side`,
      centre crop.
    - `test` (the yaml's test pipeline): N = 12, 4 clips x 3 crops at short side `crop`, ordered crop*4 + clip.

    A video's answer is the mean of the probabilities of its N views. Turned upright; pixel aspect, fields and HDR
    are left as they are stored, as there. Only the wanted frames are kept. Raises VideoError.

    `threads` are a decoder's at most; `opened` is told what the file holds before decoding, `tick` for every packet
    the milliseconds decoded so far.
    """
    facts = examine(path)
    if opened is not None:
        opened(facts.info)
    count = count_frames(path, facts)
    while True:
        indices = published_indices(max(1, count), protocol, frames=frames, step=step)
        wanted = set().union(*indices)
        crops = _Crops(protocol, short_side, crop)
        seen = _gather(path, facts, wanted, crops, threads, tick)
        if wanted <= crops.pictures.keys():
            break
        if not seen or seen >= count:
            raise UnusableVideo(path, NO_PICTURE)
        count = seen  # fewer can be decoded than the file says: then those are the video
    return np.stack(
        [np.stack([crops.pictures[i][at] for i in clip]) for at in range(crops.count) for clip in indices]
    )


class _Crops:
    """The resized crops of the frames that were asked for, by frame index."""

    def __init__(self, protocol: Protocol, short_side: int, crop: int) -> None:
        self.count = 3 if protocol == "test" else 1
        self.pictures: dict[int, list[Pixels]] = {}
        self._short_side = crop if protocol == "test" else short_side
        self._crop = crop
        self._size: tuple[int, int] | None = (
            None  # after resizing; the first frame's, should the stream change
        )

    def add(self, index: int, picture: Pixels) -> None:
        if self._size is None:
            self._size = published_resize(picture.shape[1], picture.shape[0], self._short_side)
        width, height = self._size
        if self.count == 3:
            places = published_uniform_crops(width, height, self._crop)
        else:
            places = [published_center_crop(width, height, self._crop)]
        self.pictures[index] = [
            resize_bilinear(picture, width, height, (x, y, self._crop, self._crop)) for x, y in places
        ]


def _gather(
    path: str | bytes | os.PathLike[str],
    facts: Facts,
    wanted: set[int],
    crops: _Crops,
    threads: int | None,
    tick: Callable[[int], None] | None,
) -> int:
    """Decode up to the last wanted frame and keep the wanted ones; returns how many frames were decoded."""
    last, index = max(wanted), -1
    told = None if tick is None else lambda time_us: tick(time_us // 1000)
    with FrameSource(path, facts, threads=threads, tick=told) as source:
        for index, timed in enumerate(source.frames()):
            if index in wanted:
                picture = cast(Pixels, timed.frame.to_ndarray(format="rgb24"))
                crops.add(index, turn(picture, facts.orientation))
            if index == last:
                break
    return index + 1
