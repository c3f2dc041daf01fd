"""Reads a video that is stored as a folder of numbered pictures (img_00001.jpg ...), by frame index."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from typing import cast

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from vtag.engine.text import display_path
from vtag.engine.video.read.container import MAX_PIXELS, NO_PICTURE, UnusableVideo, VideoPath
from vtag.engine.video.read.probe import VideoInfo

# what the tools of data sets write: img_00001.jpg (mmaction2, PaddleVideo), frame_000001.png, 00001.jpg
_FRAME = re.compile(rb"(?:img|frame|image)?_?(\d{1,9})\.(jpe?g|png)", re.IGNORECASE)
_DECODERS = {b"jpg": "mjpeg", b"jpeg": "mjpeg", b"png": "png"}
_MAX_PICTURE_BYTES = 64 << 20
_ASSUMED_RATE = 30  # frames a second; only the reported duration depends on it


def is_frame_folder(names: Iterable[bytes]) -> bool:
    """Whether a folder with files of these names is a video."""
    return any(_FRAME.fullmatch(name) for name in names)


class FrameFolder:
    """The frames of one folder, ordered by their numbers. Raises UnusableVideo if there are none."""

    def __init__(self, path: VideoPath) -> None:
        self._folder = os.fsencode(path)
        try:
            matches = [match for name in os.listdir(self._folder) if (match := _FRAME.fullmatch(name))]
        except OSError as error:
            raise UnusableVideo(path, f"cannot be opened ({error.strerror or error})") from error
        self._frames = sorted(matches, key=lambda match: (int(match[1]), match[0]))
        if not self._frames:
            raise UnusableVideo(path, f"{NO_PICTURE} (no frames like img_00001.jpg lie in it)")

    def __len__(self) -> int:
        return len(self._frames)

    def read_frame(self, index: int) -> NDArray[np.uint8]:
        """The `index`-th frame, uint8 [H, W, 3], RGB. Raises UnusableVideo if it cannot be decoded."""
        name, kind = self._frames[index][0], self._frames[index][2].lower()
        path = os.path.join(self._folder, name)
        try:
            info = os.stat(path)
            if not stat.S_ISREG(info.st_mode) or info.st_size > _MAX_PICTURE_BYTES:
                raise UnusableVideo(self._folder, f"its {display_path(name)} is no picture")
            with open(path, "rb") as file:
                data = file.read(_MAX_PICTURE_BYTES)
            return _decode(data, _DECODERS[kind])
        except (OSError, ValueError, av.error.FFmpegError) as error:
            raise UnusableVideo(self._folder, f"its frame {display_path(name)} cannot be decoded") from error

    def info(self) -> VideoInfo:
        """Size and duration; the duration assumes 30 frames a second."""
        height, width = self.read_frame(0).shape[:2]
        duration_ms = max(1, round(1000 * len(self) / _ASSUMED_RATE))
        return VideoInfo(duration_ms, width, height, 0, float(_ASSUMED_RATE), "pictures", "folder", None)


def _decode(data: bytes, decoder: str) -> NDArray[np.uint8]:
    context = av.CodecContext.create(decoder, "r")
    context.options = {"max_pixels": str(MAX_PIXELS)}
    for packet in (av.Packet(data), None):  # None flushes: some decoders return the picture only then
        for frame in context.decode(packet):  # type: ignore[attr-defined]  # video codecs have it
            return cast(NDArray[np.uint8], frame.to_ndarray(format="rgb24"))
    raise ValueError("no picture")
