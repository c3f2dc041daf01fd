"""Renders small pictures of a video, and strips of them."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from vtag.engine.video.read.container import NO_PICTURE, UnusableVideo, VideoPath
from vtag.engine.video.read.convert import Scaler, rotate_upright
from vtag.engine.video.read.frames import FrameSource, TimedFrame
from vtag.engine.video.read.probe import StreamInfo, probe_stream
from vtag.engine.video.read.views import Geometry

if TYPE_CHECKING:
    from collections.abc import Iterator

STRIP_TILES = 10
_PICTURE_SIDE = 192  # pixels, the short side of a picture
_STRIP_SIDE = 128  # pixels, the short side of a tile of a strip
_MAX_ASPECT = 3  # the long side of a picture is at most so many times its nominal short side
_JPEG_QUALITY = 4  # mjpeg's quantiser: 2 is best, 31 worst
_SEEK_MS = 2000  # tiles of a strip that are further apart show the key frames before their times


def render_picture(path: VideoPath, time_ms: int, *, tolerance_ms: int = 0) -> bytes:
    """The frame displayed at `time_ms` as JPEG, upright; the last one if the video ends before. Raises VideoError.

    Args:
        path: the file.
        time_ms: the time.
        tolerance_ms: a key frame up to so much earlier will do, or a frame next to it; this is faster.
    """
    stream_info = probe_stream(path, finds_end=False)
    with FrameSource(path, stream_info, threads=1, is_coarse=tolerance_ms > 0) as source:
        (frame,) = _frames_at(source, [time_ms], tolerance_ms)
    return _encode_jpeg(_DisplayConverter(stream_info, _PICTURE_SIDE).convert(frame))


def render_strip(path: VideoPath, start_ms: int, end_ms: int) -> bytes:
    """STRIP_TILES frames as one JPEG, side by side, from the middles of equal parts of a range. Raises VideoError."""
    stream_info = probe_stream(path, finds_end=False)
    step_ms = (end_ms - start_ms) / STRIP_TILES
    times_ms = [round(start_ms + (number + 0.5) * step_ms) for number in range(STRIP_TILES)]
    converter = _DisplayConverter(stream_info, _STRIP_SIDE)
    with FrameSource(path, stream_info, threads=1, is_coarse=True) as source:
        frames = _frames_at(source, times_ms, round(step_ms) if step_ms > _SEEK_MS else 0)
        tiles = [converter.convert(frame) for frame in frames]
    return _encode_jpeg(np.concatenate(tiles, axis=1))


def _encode_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = pixels.shape[:2]
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = Fraction(1, 1)
    encoder.options = {"q": str(_JPEG_QUALITY), "strict": "-1"}
    picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
        format="yuvj420p", dst_color_range="JPEG", dst_colorspace="ITU601"
    )
    return b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])


def _frames_at(source: FrameSource, times_ms: list[int], tolerance_ms: int) -> Iterator[TimedFrame]:
    """For each of the increasing times the frame displayed then, or a key frame up to `tolerance_ms` earlier.

    Raises UnusableVideo if there is no frame at all.
    """
    frames: Iterator[TimedFrame] | None = None
    shown: TimedFrame | None = None
    following: TimedFrame | None = None
    for time_ms in times_ms:
        if frames is None or tolerance_ms:
            frames = _frames_from(source, time_ms)
            following = next(frames, None) or shown
        while following is not None and following.time_us <= time_ms * 1000:
            shown, following = following, None
            if shown.time_us >= (time_ms - tolerance_ms) * 1000 and tolerance_ms:
                break
            following = next(frames, None)
        shown = shown or following  # before the first frame
        if shown is None:
            raise UnusableVideo("", NO_PICTURE)
        yield shown


def _frames_from(source: FrameSource, time_ms: int) -> Iterator[TimedFrame]:
    """The frames from the key frame before `time_ms` on; from the beginning if seeking leads behind it."""
    if time_ms > 0 and source.seek(time_ms * 1000):
        frames = source.frames()
        first = next(frames, None)
        if first is not None and first.time_us <= time_ms * 1000:
            yield first
            yield from frames
            return
    source.restart()
    yield from source.frames()


class _DisplayConverter:
    """Converts frames for display: the whole picture, upright, square pixels, HDR to SDR, even sides."""

    def __init__(self, stream_info: StreamInfo, short_side: int) -> None:
        width, height = stream_info.video.width, stream_info.video.height
        scale = min(short_side / min(width, height), _MAX_ASPECT * short_side / max(width, height))
        self.size = _even(height * scale), _even(width * scale)  # height, width
        self._orientation = stream_info.orientation
        self._scaler: Scaler | None = None
        self._key: tuple[object, ...] = ()

    def convert(self, timed: TimedFrame) -> NDArray[np.uint8]:
        """uint8 [H, W, 3]. Raises UnusableVideo if libav cannot convert the frame."""
        frame = timed.frame
        key = (frame.width, frame.height, frame.format.name, frame.interlaced_frame, frame.color_trc)
        try:
            if self._scaler is None or key != self._key:
                self._scaler, self._key = Scaler(frame, self._geometry(frame.width, frame.height)), key
            return np.ascontiguousarray(rotate_upright(self._scaler(frame), self._orientation))
        except av.error.FFmpegError as error:
            raise UnusableVideo("", f"a frame cannot be shown ({error.strerror})") from error

    def _geometry(self, width: int, height: int) -> Geometry:
        """The whole stored picture, scaled; a stream that changes its shape is stretched to the first one."""
        shown_height, shown_width = self.size
        stored = (shown_height, shown_width) if self._orientation.transpose else (shown_width, shown_height)
        return Geometry(0, 0, width, height, *stored, shown_width, shown_height, ((0, 0),))


def _even(side: float) -> int:
    return max(2, round(side / 2) * 2)
