"""The published pipelines, pixel for pixel: what PaddleVideo's tools show their Video Swin of one file.

Frames by index, plain RGB, OpenCV's resize: for comparing with published figures. The scan looks by time instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from vtag.engine.video.read.container import NO_PICTURE, UnusableVideo
from vtag.engine.video.read.convert import rotate_upright
from vtag.engine.video.read.frame_folder import FrameFolder
from vtag.engine.video.read.frames import FrameSource
from vtag.engine.video.read.probe import StreamInfo, VideoInfo, count_frames, probe_stream
from vtag.engine.video.read.resize import resize_bilinear
from vtag.engine.video.read.sampling import PublishedProtocol, published_indices, training_indices
from vtag.engine.video.read.views import published_center_crop, published_resize, published_uniform_crops

Pixels = NDArray[np.uint8]

MAX_ASPECT_RATIO = (
    3  # times its short side is a whole picture at most: what is longer would need memory without end
)


def read_protocol_views(
    path: str | bytes | os.PathLike[str],
    *,
    protocol: PublishedProtocol = "clip",
    frames: int = 32,
    step: int = 2,
    short_side: int = 256,
    crop: int = 224,
    threads: int | None = None,
    on_open: Callable[[VideoInfo], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Pixels:
    """What the protocol looks at of the file at `path`: uint8 [N, T, H, W, 3], RGB.

    - `clip` (tools/predict.py): N = 1 clip of `frames`, every `step`-th, from the middle; short side `short_side`,
      centre crop.
    - `test` (the yaml's test pipeline): N = 12, 4 clips x 3 crops at short side `crop`, ordered crop*4 + clip.

    A video's answer is the mean of the probabilities of its N views. Turned upright; pixel aspect, fields and HDR
    are left as they are stored, as there. A folder of frames (img_00001.jpg ...) is a video, too. Only the wanted
    frames are kept. Raises VideoError.

    `threads` are a decoder's at most; `opened` is told what the file holds before decoding, `tick` for every packet
    the milliseconds decoded so far.
    """
    crops = _Crops(protocol, short_side, crop)
    indices = _read(
        path,
        lambda count: published_indices(count, protocol, frames=frames, step=step),
        crops,
        _Watched(threads, on_open, on_progress),
    )
    return np.stack(
        [np.stack([crops.pictures[i][at] for i in clip]) for at in range(crops.count) for clip in indices]
    )


def read_training_clip(
    path: str | bytes | os.PathLike[str],
    *,
    share: float,
    frames: int = 32,
    step: int = 2,
    short_side: int = 256,
    crop: int | None = None,
    threads: int | None = None,
    on_open: Callable[[VideoInfo], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Pixels:
    """One clip as the published recipes train on it: uint8 [T, H, W, 3], RGB.

    `frames`, every `step`-th by index, from a start that lies at `share` (0 to 1) of the possible ones, at short side
    `short_side`; with `crop` the centre of it, as they validate (rounded down, unlike `tools/predict.py`), else the
    whole picture, but for what makes it longer than three times its short side. Raises VideoError.
    """
    whole = _Whole(short_side, crop)
    (indices,) = _read(
        path,
        lambda count: [training_indices(count, share, frames=frames, step=step)],
        whole,
        _Watched(threads, on_open, on_progress),
    )
    return np.stack([whole.pictures[i] for i in indices])


class _Watched(NamedTuple):
    """How a video is decoded, and who is told."""

    threads: int | None
    on_open: Callable[[VideoInfo], None] | None
    on_progress: Callable[[int], None] | None


class _Keeper(Protocol):
    """Takes the pictures that were asked for."""

    pictures: dict[int, Any]

    def add(self, index: int, picture: Pixels) -> None: ...


def _read(
    path: str | bytes | os.PathLike[str],
    indices_of: Callable[[int], list[list[int]]],
    keeper: _Keeper,
    watched: _Watched,
) -> list[list[int]]:
    """Give `keeper` every picture of the indices that `indices_of` chooses for the video's frame count."""
    if os.path.isdir(path):
        return _read_folder(FrameFolder(path), indices_of, keeper, watched)
    facts = probe_stream(path)
    if watched.on_open is not None:
        watched.on_open(facts.info)
    count = count_frames(path, facts)
    while True:
        indices = indices_of(max(1, count))
        wanted = set().union(*indices)
        keeper.pictures.clear()
        seen = _gather(path, facts, wanted, keeper, watched)
        if wanted <= keeper.pictures.keys():
            return indices
        if not seen or seen >= count:
            raise UnusableVideo(path, NO_PICTURE)
        count = seen  # fewer can be decoded than the file says: then those are the video


def _read_folder(
    folder: FrameFolder, indices_of: Callable[[int], list[list[int]]], keeper: _Keeper, watched: _Watched
) -> list[list[int]]:
    if watched.on_open is not None:
        watched.on_open(folder.info())
    indices = indices_of(len(folder))
    for index in sorted(set().union(*indices)):
        keeper.add(index, folder.read_frame(index))
        if watched.on_progress is not None:
            watched.on_progress(0)
    return indices


class _Whole:
    """Whole pictures at one short side, or their centre."""

    def __init__(self, short_side: int, crop: int | None) -> None:
        self.pictures: dict[int, Pixels] = {}
        self._short_side = short_side
        self._crop = crop
        self._region: tuple[tuple[int, int], tuple[int, int, int, int]] | None = None

    def add(self, index: int, picture: Pixels) -> None:
        if self._region is None:  # the first frame's, should the stream change
            width, height = published_resize(picture.shape[1], picture.shape[0], self._short_side)
            w, h = self._crop or width, self._crop or height
            w, h = min(w, MAX_ASPECT_RATIO * self._short_side), min(h, MAX_ASPECT_RATIO * self._short_side)
            self._region = (width, height), ((width - w) // 2, (height - h) // 2, w, h)
        (width, height), region = self._region
        self.pictures[index] = resize_bilinear(picture, width, height, region)


class _Crops:
    """The resized crops of the frames that were asked for, by frame index."""

    def __init__(self, protocol: PublishedProtocol, short_side: int, crop: int) -> None:
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
    facts: StreamInfo,
    wanted: set[int],
    keeper: _Keeper,
    watched: _Watched,
) -> int:
    """Decode up to the last wanted frame and keep the wanted ones; returns how many frames were decoded."""
    last, index = max(wanted), -1
    on_progress = watched.on_progress
    told = None if on_progress is None else lambda time_us: on_progress(time_us // 1000)
    with FrameSource(path, facts, threads=watched.threads, on_progress=told) as source:
        for index, timed in enumerate(source.frames()):
            if index in wanted:
                picture = cast(Pixels, timed.frame.to_ndarray(format="rgb24"))
                keeper.add(index, rotate_upright(picture, facts.orientation))
            if index == last:
                break
    return index + 1
