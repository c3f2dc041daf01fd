"""Encodes a stretch of a video anew: H.264 and AAC, exact to the frame and to the sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import av
import av.error
import av.filter

from vtag.engine.video.read.container import open_container
from vtag.engine.video.read.frames import FrameSource, TimedFrame
from vtag.engine.video.read.probe import StreamInfo

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.video.stream import VideoStream

_FINE = Fraction(1, 90000)
_SEEK_FROM_US = 2_000_000  # what comes earlier is read from the beginning
_GAP_S = Fraction(1, 10)  # in a sound's times, from which on it is one


def encode(source: bytes, facts: StreamInfo, start_ms: int, end_ms: int, target: OutputContainer) -> None:
    """Encode what is shown and heard from `start_ms` to `end_ms` of `source` into `target`, upright.

    Raises av.error.FFmpegError where an encoder refuses.
    """
    with open_container(source) as container:
        target.metadata.update(container.metadata)
        sound = next((s for s in container.streams.audio if s.codec_context is not None), None)
        picture = _PictureEncoder(target, facts)
        voice = _Sound(target, container, sound, facts, start_ms, end_ms) if sound else None
        for time_us, timed in _exactly(source, facts, start_ms * 1000, end_ms * 1000):
            picture.add(timed, time_us)
        picture.finish()
        if voice:
            voice.run()


def _exactly(
    source: bytes, facts: StreamInfo, start_us: int, end_us: int
) -> Iterator[tuple[int, TimedFrame]]:
    """The frames that are shown from `start_us` to `end_us`, and when, from `start_us` on.

    The first is the one that is shown at the start; a last one that stays for long is there again at the end, so that
    the clip is as long as it should be.
    """
    length_us, last = end_us - start_us, None
    with FrameSource(source, facts) as frames:
        for time_us, timed in _from(frames, start_us):
            if time_us >= length_us:
                break
            last = (time_us, timed)
            yield last
    held_us = length_us - facts.interval_us
    if last is not None and held_us - last[0] > facts.interval_us:
        yield held_us, last[1]


def _from(frames: FrameSource, start_us: int) -> Iterator[tuple[int, TimedFrame]]:
    """The frame that is shown at `start_us`, at 0, and those after it, at their times from there."""
    if start_us > _SEEK_FROM_US and frames.seek(start_us):
        shown = _from_here(frames, start_us)
        first = next(shown, None)
        if first is not None and first[0] == 0:
            yield first
            yield from shown
            return
        frames.restart()  # the container led to a place behind the start
    yield from _from_here(frames, start_us)


def _from_here(frames: FrameSource, start_us: int) -> Iterator[tuple[int, TimedFrame]]:
    before: TimedFrame | None = None
    for timed in frames.frames():
        if timed.time_us <= start_us:
            before = timed
            continue
        if before is not None:
            yield 0, before
            before = None
        yield timed.time_us - start_us, timed
    if before is not None:  # the last frame of the video
        yield 0, before


class _PictureEncoder:
    """Frames in, H.264 into a container: upright, as large as stored, each at its own time."""

    def __init__(self, target: OutputContainer, facts: StreamInfo) -> None:
        self._target = target
        self._facts = facts
        is_transposed = facts.orientation.transpose
        width, height = facts.stored_size[::-1] if is_transposed else facts.stored_size
        rate = Fraction(facts.info.frame_rate).limit_denominator(1001) or Fraction(25)
        self._stream: VideoStream = target.add_stream(
            "libx264", rate=rate, options={"crf": "18", "preset": "fast"}
        )
        self._stream.width, self._stream.height = width // 2 * 2 or 2, height // 2 * 2 or 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = _FINE
        aspect = facts.aspect
        self._stream.codec_context.sample_aspect_ratio = 1 / aspect if is_transposed and aspect else aspect
        self._graph: av.filter.Graph | None = None
        self._key: tuple[object, ...] = ()
        self._last = -1

    def add(self, timed: TimedFrame, time_us: int) -> None:
        frame = timed.frame
        key = (frame.width, frame.height, frame.format.name)
        if self._graph is None or key != self._key:
            self._graph, self._key = self._made(frame), key
        context = self._stream.codec_context
        for name in ("color_trc", "color_primaries", "colorspace", "color_range"):
            if self._last < 0:
                setattr(context, name, getattr(frame, name))
        frame.pts, frame.time_base = 0, _FINE
        self._graph.vpush(frame)
        made = self._graph.vpull()
        self._last = max(self._last + 1, round(Fraction(time_us, 1_000_000) / _FINE))
        made.pts, made.time_base = self._last, _FINE
        made.pict_type = 0  # as the encoder chooses
        self._target.mux(self._stream.encode(made))

    def finish(self) -> None:
        self._target.mux(self._stream.encode(None))

    def _made(self, frame: av.VideoFrame) -> av.filter.Graph:
        orientation = self._facts.orientation
        steps = [("transpose", "dir=cclock_flip")] if orientation.transpose else []
        steps += [("hflip", "")] if orientation.mirror_x else []
        steps += [("vflip", "")] if orientation.mirror_y else []
        steps += [
            ("scale", f"w={self._stream.width}:h={self._stream.height}"),
            ("format", "pix_fmts=yuv420p"),
        ]
        graph = av.filter.Graph()
        nodes = [
            graph.add(
                "buffer",
                f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/90000:pixel_aspect=1/1",
            )
        ]
        nodes += [graph.add(name, arguments) if arguments else graph.add(name) for name, arguments in steps]
        nodes.append(graph.add("buffersink"))
        graph.link_nodes(*nodes)
        graph.configure()
        return graph


class _Sound:
    """One audio stream from a time to a time, exact to the sample, as AAC."""

    def __init__(
        self,
        target: OutputContainer,
        container: InputContainer,
        stream: AudioStream,
        facts: StreamInfo,
        start_ms: int,
        end_ms: int,
    ) -> None:
        self._target, self._container, self._source = target, container, stream
        first_s = facts.first_pts * facts.time_base
        self._start_s = first_s + Fraction(start_ms, 1000)
        self._end_s = first_s + Fraction(end_ms, 1000)
        self._rate = (
            min(48000, stream.rate or 48000) if stream.rate in (44100, 48000, 32000, 22050, 16000) else 48000
        )
        self._next = 0  # sample
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        self._stream: AudioStream = target.add_stream("aac", rate=self._rate, layout=layout)
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
        """Decode, trim, encode."""
        assert self._source.time_base is not None
        with suppress(av.error.FFmpegError, OSError):
            self._container.seek(
                max(0, int((self._start_s - 1) / self._source.time_base)), stream=self._source
            )
        for packet in self._container.demux(self._source):
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, OSError):
                continue
            for frame in frames:
                self._take(frame)
            if packet.pts is not None and packet.pts * self._source.time_base > self._end_s + 1:
                break
        with suppress(av.error.EOFError):
            self._graph.push(None)
        self._drain()
        self._target.mux(self._stream.encode(None))

    def _take(self, frame: av.AudioFrame) -> None:
        if frame.pts is not None:
            with suppress(av.error.EOFError):  # all that is wanted was heard
                self._graph.push(frame)
            self._drain()

    def _drain(self) -> None:
        while True:
            try:
                made = cast("AudioFrame", self._graph.pull())
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            # times that are a little off would stutter, and times that go back are refused: only gaps are believed
            claimed = round(
                (made.pts or 0) * Fraction(made.time_base or Fraction(1, self._rate)) * self._rate
            )
            made.pts = claimed if claimed > self._next + _GAP_S * self._rate else self._next
            made.time_base = Fraction(1, self._rate)
            self._next = made.pts + made.samples
            self._target.mux(self._stream.encode(made))
