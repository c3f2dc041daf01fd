"""The published pipelines, bit for bit: the pixels that PaddleVideo's tools feed to their Video Swin.

Frames by index, plain RGB, OpenCV's resize. For comparisons with published figures; a scan samples by time instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from vtag.engine.video.read.container import NO_PICTURE, UnusableVideo, VideoPath
from vtag.engine.video.read.convert import rotate_upright
from vtag.engine.video.read.frame_folder import FrameFolder
from vtag.engine.video.read.frames import FrameSource
from vtag.engine.video.read.probe import StreamInfo, VideoInfo, count_frames, probe_stream
from vtag.engine.video.read.resize import resize_bilinear
from vtag.engine.video.read.sampling import PublishedProtocol, published_indices, training_indices
from vtag.engine.video.read.views import published_center_crop, published_resize, published_uniform_crops

Pixels = NDArray[np.uint8]

MAX_ASPECT_RATIO = 3  # of a whole picture; a longer one is cropped, to bound its memory


def read_protocol_views(
    path: VideoPath,
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
    """The views of a published test protocol: uint8 [N, T, H, W, 3], RGB.

    - `clip` (tools/predict.py): N = 1 clip of `frames`, every `step`-th, from the middle; short side `short_side`,
      centre crop.
    - `test` (the test pipeline of the yaml): N = 12, 4 clips x 3 crops at short side `crop`, ordered crop*4 + clip.

    The probabilities of a video are the mean over its N views. Pictures are turned upright; pixel aspect, fields and
    HDR stay as stored, as in PaddleVideo. A folder of frames (img_00001.jpg ...) is a video, too.

    Args:
        path: a video file, or a folder of frames.
        protocol: `clip` or `test`.
        frames: of a clip.
        step: index step from one frame to the next.
        short_side: pixels of the short side after resizing (`clip`).
        crop: pixels of the square crop.
        threads: the most threads of the decoder; by default the number of cores.
        on_open: called with the video's data before decoding.
        on_progress: called for every packet with the time reached (ms).

    Raises:
        VideoError: if the video cannot be decoded.
    """
    crops = _CroppedFrames(protocol, short_side, crop)
    indices = _read(
        path,
        lambda count: published_indices(count, protocol, frames=frames, step=step),
        crops,
        _DecodeOptions(threads, on_open, on_progress),
    )
    views = [
        [crops.pictures[i][number] for i in clip] for number in range(crops.per_frame) for clip in indices
    ]
    return np.stack([np.stack(view) for view in views])


def read_training_clip(
    path: VideoPath,
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

    Args:
        path: a video file, or a folder of frames.
        share: where the clip starts: 0 the first possible frame, 1 the last possible one.
        frames: of the clip.
        step: index step from one frame to the next.
        short_side: pixels of the short side after resizing.
        crop: pixels of the centre crop, as the recipes validate (rounded down, unlike `tools/predict.py`). None: the
            whole picture, at most three times as long as its short side.
        threads: the most threads of the decoder; by default the number of cores.
        on_open: called with the video's data before decoding.
        on_progress: called for every packet with the time reached (ms).

    Raises:
        VideoError: if the video cannot be decoded.
    """
    resized = _ResizedFrames(short_side, crop)
    (indices,) = _read(
        path,
        lambda count: [training_indices(count, share, frames=frames, step=step)],
        resized,
        _DecodeOptions(threads, on_open, on_progress),
    )
    return np.stack([resized.pictures[i] for i in indices])


class _DecodeOptions(NamedTuple):
    """Threads of the decoder, and callbacks."""

    threads: int | None
    on_open: Callable[[VideoInfo], None] | None
    on_progress: Callable[[int], None] | None


class _FrameSink(Protocol):
    """Processes and keeps the decoded frames."""

    pictures: dict[int, Any]  # by frame index

    def add(self, index: int, picture: Pixels) -> None: ...


def _read(
    path: VideoPath,
    choose_indices: Callable[[int], list[list[int]]],
    sink: _FrameSink,
    options: _DecodeOptions,
) -> list[list[int]]:
    """Add the chosen frames to `sink`; returns the indices that `choose_indices` chose for the frame count."""
    if os.path.isdir(path):
        return _read_folder(FrameFolder(path), choose_indices, sink, options)
    stream_info = probe_stream(path)
    if options.on_open is not None:
        options.on_open(stream_info.video)
    count = count_frames(path, stream_info)
    while True:
        indices = choose_indices(max(1, count))
        chosen = set().union(*indices)
        sink.pictures.clear()
        decoded = _decode(path, stream_info, chosen, sink, options)
        if chosen <= sink.pictures.keys():
            return indices
        if not decoded or decoded >= count:
            raise UnusableVideo(path, NO_PICTURE)
        count = decoded  # the file contains fewer frames than it claims: choose again


def _read_folder(
    folder: FrameFolder,
    choose_indices: Callable[[int], list[list[int]]],
    sink: _FrameSink,
    options: _DecodeOptions,
) -> list[list[int]]:
    if options.on_open is not None:
        options.on_open(folder.info())
    indices = choose_indices(len(folder))
    for index in sorted(set().union(*indices)):
        sink.add(index, folder.read_frame(index))
        if options.on_progress is not None:
            options.on_progress(0)
    return indices


class _ResizedFrames:
    """Whole pictures at one short side, or their centre crops."""

    def __init__(self, short_side: int, crop: int | None) -> None:
        self.pictures: dict[int, Pixels] = {}
        self._short_side = short_side
        self._crop = crop
        self._region: tuple[tuple[int, int], tuple[int, int, int, int]] | None = None

    def add(self, index: int, picture: Pixels) -> None:
        if self._region is None:  # of the first frame, in case the stream changes its size
            width, height = published_resize(picture.shape[1], picture.shape[0], self._short_side)
            w, h = self._crop or width, self._crop or height
            longest = MAX_ASPECT_RATIO * self._short_side
            w, h = min(w, longest), min(h, longest)
            self._region = (width, height), ((width - w) // 2, (height - h) // 2, w, h)
        (width, height), region = self._region
        self.pictures[index] = resize_bilinear(picture, width, height, region)


class _CroppedFrames:
    """The resized crops of each frame: one, or three for the protocol `test`."""

    def __init__(self, protocol: PublishedProtocol, short_side: int, crop: int) -> None:
        self.per_frame = 3 if protocol == "test" else 1
        self.pictures: dict[int, list[Pixels]] = {}
        self._short_side = crop if protocol == "test" else short_side
        self._crop = crop
        self._size: tuple[int, int] | None = None  # of the first resized frame, in case the stream changes

    def add(self, index: int, picture: Pixels) -> None:
        if self._size is None:
            self._size = published_resize(picture.shape[1], picture.shape[0], self._short_side)
        width, height = self._size
        if self.per_frame == 3:
            corners = published_uniform_crops(width, height, self._crop)
        else:
            corners = [published_center_crop(width, height, self._crop)]
        self.pictures[index] = [
            resize_bilinear(picture, width, height, (x, y, self._crop, self._crop)) for x, y in corners
        ]


def _decode(
    path: VideoPath,
    stream_info: StreamInfo,
    chosen: set[int],
    sink: _FrameSink,
    options: _DecodeOptions,
) -> int:
    """Decode up to the last chosen frame and add the chosen ones to `sink`; returns how many were decoded."""
    last, index = max(chosen), -1
    on_progress = options.on_progress
    on_progress_us = None if on_progress is None else lambda time_us: on_progress(time_us // 1000)
    with FrameSource(path, stream_info, threads=options.threads, on_progress=on_progress_us) as source:
        for index, timed in enumerate(source.frames()):
            if index in chosen:
                picture = cast(Pixels, timed.frame.to_ndarray(format="rgb24"))
                sink.add(index, rotate_upright(picture, stream_info.orientation))
            if index == last:
                break
    return index + 1
