"""Encodes a part of a video again: H.264 and AAC, exact to the frame and to the sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, cast

import av
import av.error
import av.filter

from vtag.engine.video.read.container import open_container, video_stream
from vtag.engine.video.read.convert import COLOUR_MATRICES, COLOUR_RANGES, buffer_arguments
from vtag.engine.video.read.frames import FrameSource, TimedFrame
from vtag.engine.video.read.probe import StreamInfo
from vtag.engine.video.read.restarts import on_one_clock, seek
from vtag.engine.video.write.streams import (
    copy_chapters,
    copy_container_tags,
    copy_start_timecode,
    copy_stream_tags,
)

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.video.stream import VideoStream

_TIME_BASE = Fraction(1, 90000)  # seconds
_SEEK_FROM_US = 2_000_000  # an earlier start is read from the beginning
_BT709 = _LIMITED_RANGE = 1  # AVCOL_SPC_BT709, AVCOL_RANGE_MPEG
_FULL_RANGE = _UNSPECIFIED = 2  # AVCOL_RANGE_JPEG, AVCOL_TRC_UNSPECIFIED
_UNSPECIFIED_RANGE = 0
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_AAC_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1")
_GAP_S = Fraction(1, 10)  # a smaller gap between audio frames is an inexact timestamp


def encode(
    source: bytes, stream_info: StreamInfo, start_ms: int, end_ms: int, target: OutputContainer
) -> None:
    """Encode picture and sound of `source` from `start_ms` to `end_ms` into `target`, upright.

    Raises av.error.FFmpegError if an encoder does not accept them.
    """
    with open_container(source) as container:
        copy_container_tags(container, target)
        first_s = stream_info.first_pts * stream_info.time_base
        copy_chapters(container, target, first_s + Fraction(start_ms, 1000), first_s + Fraction(end_ms, 1000))
        video_encoder = _VideoEncoder(
            target, stream_info, video_stream(container, stream_info.stream_index), start_ms
        )
        audio_encoders = [
            _AudioEncoder(target, container, audio, stream_info, start_ms, end_ms)
            for audio in container.streams.audio
            if audio.codec_context is not None
        ]
        for time_us, frame in _exact_frames(source, stream_info, start_ms * 1000, end_ms * 1000):
            video_encoder.add(frame, time_us)
        video_encoder.finish()
        for audio_encoder in audio_encoders:
            audio_encoder.run()


def _exact_frames(
    source: bytes, stream_info: StreamInfo, start_us: int, end_us: int
) -> Iterator[tuple[int, TimedFrame]]:
    """The frames that are displayed from `start_us` to `end_us`, each with its time after `start_us`.

    The first frame is the one that is displayed at the start. If the last frame is displayed for long, it is repeated
    at the end, so that the clip has the right duration.
    """
    duration_us, last = end_us - start_us, None
    with FrameSource(source, stream_info) as frames:
        for time_us, frame in _frames_from(frames, start_us):
            if time_us >= duration_us:
                break
            last = (time_us, frame)
            yield last
    repeat_us = duration_us - stream_info.interval_us
    if last is not None and repeat_us - last[0] > stream_info.interval_us:
        yield repeat_us, last[1]


def _frames_from(source: FrameSource, start_us: int) -> Iterator[tuple[int, TimedFrame]]:
    """The frame displayed at `start_us`, at time 0, and the frames after it, each with its time after `start_us`."""
    if start_us > _SEEK_FROM_US and source.seek(start_us):
        frames = _shifted_frames(source, start_us)
        first = next(frames, None)
        if first is not None and first[0] == 0:
            yield first
            yield from frames
            return
        source.restart()  # seeking led behind the start
    yield from _shifted_frames(source, start_us)


def _shifted_frames(source: FrameSource, start_us: int) -> Iterator[tuple[int, TimedFrame]]:
    """As `_frames_from`, from the current position on."""
    previous: TimedFrame | None = None
    for frame in source.frames():
        if frame.time_us <= start_us:
            previous = frame
            continue
        if previous is not None:
            yield 0, previous
            previous = None
        yield frame.time_us - start_us, frame
    if previous is not None:  # the last frame of the video
        yield 0, previous


class _VideoEncoder:
    """Encodes frames as H.264: upright, at the stored size, each at its own time."""

    def __init__(
        self, target: OutputContainer, stream_info: StreamInfo, source: VideoStream, start_ms: int
    ) -> None:
        self._target = target
        self._stream_info = stream_info
        is_transposed = stream_info.orientation.transpose
        width, height = stream_info.stored_size[::-1] if is_transposed else stream_info.stored_size
        rate = Fraction(stream_info.video.frame_rate).limit_denominator(1001) or Fraction(25)
        self._stream: VideoStream = target.add_stream(
            "libx264", rate=rate, options={"crf": "18", "preset": "fast", **_field_options(stream_info)}
        )
        copy_stream_tags(source, self._stream)
        copy_start_timecode(stream_info.video.clock, start_ms, self._stream)
        self._stream.width, self._stream.height = width // 2 * 2 or 2, height // 2 * 2 or 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = _TIME_BASE
        aspect = stream_info.aspect
        self._stream.codec_context.sample_aspect_ratio = 1 / aspect if is_transposed and aspect else aspect
        self._graph: av.filter.Graph | None = None
        self._key: tuple[object, ...] = ()
        self._last_pts = -1

    def add(self, timed: TimedFrame, time_us: int) -> None:
        """Encode a frame that is displayed at `time_us` of the clip."""
        frame = timed.frame
        colour = _encoded_colour(frame)
        key = (frame.width, frame.height, frame.format.name, *colour)
        if self._graph is None or key != self._key:
            self._graph, self._key = self._build_graph(frame, colour), key
        if self._last_pts < 0:
            context = self._stream.codec_context
            context.color_primaries, context.color_trc = colour.primaries, colour.transfer
            context.colorspace, context.color_range = colour.matrix, colour.range
        frame.pts, frame.time_base = 0, _TIME_BASE
        frame.color_trc = frame.color_primaries = _UNSPECIFIED  # else swscale may convert between curves
        self._graph.vpush(frame)
        upright = self._graph.vpull()
        self._last_pts = max(self._last_pts + 1, round(Fraction(time_us, 1_000_000) / _TIME_BASE))
        upright.pts, upright.time_base = self._last_pts, _TIME_BASE
        upright.pict_type = 0  # the encoder chooses
        self._target.mux(self._stream.encode(upright))

    def finish(self) -> None:
        """Encode what the encoder holds back."""
        self._target.mux(self._stream.encode(None))

    def _build_graph(self, frame: av.VideoFrame, colour: _Colour) -> av.filter.Graph:
        orientation = self._stream_info.orientation
        scale = f"w={self._stream.width}:h={self._stream.height}:interl=-1"
        if matrix := COLOUR_MATRICES.get(colour.matrix):
            scale += f":out_color_matrix={matrix}"
        if colour.range != _UNSPECIFIED_RANGE:
            scale += f":out_range={COLOUR_RANGES[colour.range]}"
        steps = [("transpose", "dir=cclock_flip")] if orientation.transpose else []
        steps += [("hflip", "")] if orientation.mirror_x else []
        steps += [("vflip", "")] if orientation.mirror_y else []
        steps += [("scale", scale), ("format", "pix_fmts=yuv420p")]
        graph = av.filter.Graph()
        nodes = [graph.add("buffer", buffer_arguments(frame))]
        nodes += [graph.add(name, arguments) if arguments else graph.add(name) for name, arguments in steps]
        nodes.append(graph.add("buffersink"))
        graph.link_nodes(*nodes)
        graph.configure()
        return graph


def _field_options(stream_info: StreamInfo) -> dict[str, str]:
    """Options that keep the two fields of interlaced pictures, unless the picture is turned."""
    is_kept = stream_info.video.interlaced and not stream_info.orientation.transpose
    return {"flags": "+ildct+ilme"} if is_kept else {}


class _Colour(NamedTuple):
    """What is said of the colours of a stream, in libav's numbers."""

    primaries: int
    transfer: int
    matrix: int
    range: int


def _encoded_colour(frame: av.VideoFrame) -> _Colour:
    """The colours of a frame once it is YCbCr: as they are, or BT.709 of limited range for RGB and grey."""
    if frame.format.is_rgb or frame.format.has_palette:
        return _Colour(frame.color_primaries, frame.color_trc, _BT709, _LIMITED_RANGE)
    if len(frame.format.components) < 3:  # grey is of full range if nothing else is said
        return _Colour(frame.color_primaries, frame.color_trc, frame.colorspace, _LIMITED_RANGE)
    value_range = _FULL_RANGE if frame.format.name.startswith("yuvj") else int(frame.color_range)
    return _Colour(frame.color_primaries, frame.color_trc, frame.colorspace, value_range)


def _aac_layout(stream: AudioStream) -> str:
    """The layout of the channels for AAC: as it is if AAC has it, else stereo."""
    layout = stream.codec_context.layout.name.removesuffix("(side)")
    if layout in _AAC_LAYOUTS:
        return layout
    return "mono" if stream.codec_context.channels == 1 else "stereo"


class _AudioEncoder:
    """Encodes a part of one audio stream as AAC, exact to the sample."""

    def __init__(
        self,
        target: OutputContainer,
        container: InputContainer,
        stream: AudioStream,
        stream_info: StreamInfo,
        start_ms: int,
        end_ms: int,
    ) -> None:
        self._target, self._container, self._source = target, container, stream
        self._restarts = stream_info.restarts
        first_s = stream_info.first_pts * stream_info.time_base
        self._start_s = first_s + Fraction(start_ms, 1000)
        self._end_s = first_s + Fraction(end_ms, 1000)
        self._rate = stream.rate if stream.rate in _AAC_RATES else 48000
        self._next_sample = 0
        layout = _aac_layout(stream)
        self._stream: AudioStream = target.add_stream("aac", rate=self._rate, layout=layout)
        copy_stream_tags(stream, self._stream)
        self._graph = av.filter.Graph()
        nodes = [
            self._graph.add_abuffer(template=stream),
            self._graph.add("atrim", f"start={float(self._start_s):.6f}:end={float(self._end_s):.6f}"),
            self._graph.add("asetpts", f"PTS-{float(self._start_s):.6f}/TB"),
            self._graph.add(
                "aformat", f"sample_fmts=fltp:sample_rates={self._rate}:channel_layouts={layout}"
            ),
            self._graph.add("abuffersink"),
        ]
        self._graph.link_nodes(*nodes)
        self._graph.configure()

    def run(self) -> None:
        """Decode, trim and encode all of it."""
        assert self._source.time_base is not None
        seek(self._container, self._source, self._start_s - 1, self._restarts)
        for packet in on_one_clock(self._container.demux(self._source), self._restarts):
            try:
                frames = cast("list[AudioFrame]", packet.decode())
            except (av.error.FFmpegError, OSError):
                continue
            for frame in frames:
                self._add(frame)
            if packet.pts is not None and packet.pts * self._source.time_base > self._end_s + 1:
                break
        with suppress(av.error.EOFError):
            self._graph.push(None)
        self._drain()
        self._target.mux(self._stream.encode(None))

    def _add(self, frame: av.AudioFrame) -> None:
        if frame.pts is not None:
            # behind the end, or the first bytes after a jump that look like sound of another format
            with suppress(av.error.EOFError, av.error.ArgumentError):
                self._graph.push(frame)
            self._drain()

    def _drain(self) -> None:
        while True:
            try:
                frame = cast("AudioFrame", self._graph.pull())
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            # Inexact times would stutter, and the encoder refuses times that go back: only gaps are believed.
            time_s = (frame.pts or 0) * Fraction(frame.time_base or Fraction(1, self._rate))
            claimed_sample = round(time_s * self._rate)
            is_gap = claimed_sample > self._next_sample + _GAP_S * self._rate
            frame.pts = claimed_sample if is_gap else self._next_sample
            frame.time_base = Fraction(1, self._rate)
            self._next_sample = frame.pts + frame.samples
            self._target.mux(self._stream.encode(frame))
