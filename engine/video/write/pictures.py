"""Renders small pictures and short playable moments of a video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from vtag.engine.video.read.container import NO_PICTURE, UnusableVideo, VideoPath
from vtag.engine.video.read.convert import Converter
from vtag.engine.video.read.frames import FrameSource, TimedFrame
from vtag.engine.video.read.probe import StreamInfo, probe_stream
from vtag.engine.video.read.sampling import Sampling
from vtag.engine.video.read.views import clip_size

if TYPE_CHECKING:
    from collections.abc import Iterator

_PICTURE_SIDE = 192  # pixels, the short side of a picture
_MOMENT_SIDE = 480  # pixels, the short side of a playable moment
_MOMENT_RATE = 25  # frames a second, nominal: each frame keeps its own time
_JPEG_QUALITY = 4  # mjpeg's quantiser: 2 is best, 31 worst


def render_picture(path: VideoPath, time_ms: int) -> bytes:
    """The frame displayed at `time_ms` as JPEG, upright; the last one if the video ends before. Raises VideoError."""
    stream_info = probe_stream(path)
    frame = None
    with FrameSource(path, stream_info, threads=1) as source:
        for frame in _frames_from(source, time_ms):
            if frame.time_us >= time_ms * 1000:
                break
    if frame is None:
        raise UnusableVideo(path, NO_PICTURE)
    pixels = _DisplayConverter(stream_info, _PICTURE_SIDE).convert(frame)
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = pixels.shape[:2]
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = Fraction(1, 1)
    encoder.options = {"q": str(_JPEG_QUALITY), "strict": "-1"}
    picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
        format="yuvj420p", dst_color_range="JPEG", dst_colorspace="ITU601"
    )
    return b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])


def write_moment(path: VideoPath, start_ms: int, end_ms: int, target: Path) -> None:
    """Write the moment from `start_ms` to `end_ms` to `target`: H.264 in MP4 without sound, for any browser.

    The times in the file count from `start_ms`. Raises VideoError.
    """
    stream_info = probe_stream(path)
    converter = _DisplayConverter(stream_info, _MOMENT_SIDE)
    last_ms = -1
    with (
        FrameSource(path, stream_info) as source,
        av.open(str(target), "w", format="mp4", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream("libx264", rate=_MOMENT_RATE)
        stream.height, stream.width = converter.size
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = {"preset": "veryfast", "crf": "26"}
        for frame in _frames_from(source, start_ms):
            time_ms = frame.time_us // 1000 - start_ms
            if time_ms <= last_ms:  # before the start, or within the same millisecond
                continue
            if frame.time_us >= end_ms * 1000 and last_ms >= 0:
                break
            picture = av.VideoFrame.from_ndarray(converter.convert(frame), format="rgb24")
            picture.pts, picture.time_base = time_ms, Fraction(1, 1000)
            out.mux(stream.encode(picture))
            last_ms = time_ms
        if last_ms < 0:
            raise UnusableVideo(path, NO_PICTURE)
        out.mux(stream.encode(None))


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
    """Converts frames for display: upright, square pixels, HDR to SDR, even sides."""

    def __init__(self, stream_info: StreamInfo, short_side: int) -> None:
        sampling = Sampling.create(1, 1.0, view="full", short_side=short_side, crop=short_side)
        self.size = clip_size((stream_info.video.width, stream_info.video.height), sampling)
        self._converter = Converter(sampling, stream_info.orientation, stream_info.aspect, self.size)

    def convert(self, frame: TimedFrame) -> NDArray[np.uint8]:
        """uint8 [H, W, 3]. Raises UnusableVideo if libav cannot convert the frame."""
        try:
            view: NDArray[np.uint8] = self._converter.convert(frame.frame)[0]
        except av.error.FFmpegError as error:
            raise UnusableVideo("", f"a frame cannot be shown ({error.strerror})") from error
        return view
