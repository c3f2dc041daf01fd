"""Small pictures and short playable moments of a video, made on demand for people to look at."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from vtag.engine.video.read.container import NO_PICTURE, UnusableVideo
from vtag.engine.video.read.convert import Converter
from vtag.engine.video.read.frames import FrameSource, TimedFrame
from vtag.engine.video.read.probe import StreamInfo, probe_stream
from vtag.engine.video.read.sampling import Sampling
from vtag.engine.video.read.views import clip_size

if TYPE_CHECKING:
    from collections.abc import Iterator

_PICTURE_SIDE = 192  # pixels, the short side of a picture
_MOMENT_SIDE = 480  # and of a playable moment
_MOMENT_RATE = 25
_JPEG_QUALITY = 4  # mjpeg's quantiser: 2 is best, 31 worst


def render_picture(path: str | bytes | os.PathLike[str], at_ms: int) -> bytes:
    """The frame shown at `at_ms` (the last one where the video ends before) as JPEG, upright. Raises VideoError."""
    facts = probe_stream(path)
    shown = None
    with FrameSource(path, facts, threads=1) as source:
        for timed in _from(source, at_ms):
            shown = timed
            if timed.time_us >= at_ms * 1000:
                break
    if shown is None:
        raise UnusableVideo(path, NO_PICTURE)
    pixels = _Look(facts, _PICTURE_SIDE)(shown)
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = pixels.shape[:2]
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = Fraction(1, 1)
    encoder.options = {"q": str(_JPEG_QUALITY), "strict": "-1"}
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
        format="yuvj420p", dst_color_range="JPEG", dst_colorspace="ITU601"
    )
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def write_moment(path: str | bytes | os.PathLike[str], start_ms: int, end_ms: int, target: Path) -> None:
    """What is shown from `start_ms` to `end_ms` as H.264 in MP4 at `target`, silent, for any browser.

    Times in the moment count from `start_ms`. Raises VideoError.
    """
    facts = probe_stream(path)
    look = _Look(facts, _MOMENT_SIDE)
    last_ms = -1
    with (
        FrameSource(path, facts) as source,
        av.open(str(target), "w", format="mp4", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream("libx264", rate=_MOMENT_RATE)
        stream.height, stream.width = look.size
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = {"preset": "veryfast", "crf": "26"}
        for timed in _from(source, start_ms):
            at_ms = timed.time_us // 1000 - start_ms
            if at_ms <= last_ms:  # before the start, or within the same millisecond
                continue
            if timed.time_us >= end_ms * 1000 and last_ms >= 0:
                break
            frame = av.VideoFrame.from_ndarray(look(timed), format="rgb24")
            frame.pts, frame.time_base = at_ms, Fraction(1, 1000)
            out.mux(stream.encode(frame))
            last_ms = at_ms
        if last_ms < 0:
            raise UnusableVideo(path, NO_PICTURE)
        out.mux(stream.encode(None))


def _from(source: FrameSource, at_ms: int) -> Iterator[TimedFrame]:
    """The frames from the key frame before `at_ms` on; from the beginning where seeking lands behind it."""
    if at_ms > 0 and source.seek(at_ms * 1000):
        frames = source.frames()
        first = next(frames, None)
        if first is not None and first.time_us <= at_ms * 1000:
            yield first
            yield from frames
            return
    source.restart()
    yield from source.frames()


class _Look:
    """Frames as a person sees them: upright, square pixels, mapped from HDR; uint8 [H, W, 3] of even sides."""

    def __init__(self, facts: StreamInfo, short_side: int) -> None:
        sampling = Sampling.create(1, 1.0, view="full", short_side=short_side, crop=short_side)
        self.size = clip_size((facts.info.width, facts.info.height), sampling)
        self._convert = Converter(sampling, facts.orientation, facts.aspect, self.size)

    def __call__(self, timed: TimedFrame) -> NDArray[np.uint8]:
        try:
            view: NDArray[np.uint8] = self._convert.convert(timed.frame)[0]
        except av.error.FFmpegError as error:
            raise UnusableVideo("", f"a frame cannot be shown ({error.strerror})") from error
        return view
