"""The picture of a video from a given time on: its own packets, or H.264."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import av.error
import av.filter
import numpy as np

from vtag.engine.video.read.container import NO_PICTURE, UnusableVideo, open_container, video_stream
from vtag.engine.video.read.convert import buffer_arguments
from vtag.engine.video.read.frames import FrameSource, TimedFrame
from vtag.engine.video.read.hdr import is_hdr, to_sdr
from vtag.engine.video.read.probe import StreamInfo
from vtag.engine.video.read.restarts import on_one_clock, seek
from vtag.engine.video.write.cut import decode_time, display_time, find_key_frame, with_dts

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

US = Fraction(1, 1_000_000)
_MAX_RATE = 60  # frames a second of a converted picture
_MAX_JUMP_US = 10_000_000  # packets whose times jump further are not copied
_LUT_SIDE = 33  # grid points a channel of the table that maps HDR to SDR
_MAX_THREADS = 4


def copy_packets(path: bytes, stream_info: StreamInfo, start_us: int) -> Iterator[Packet]:
    """The packets from the key frame at or before `start_us` on, at microseconds after the first picture.

    Raises UnusableVideo if their times jump, so that they have to be decoded.
    """
    first_s = stream_info.first_pts * stream_info.time_base
    key_s, seek_s = find_key_frame(path, stream_info, first_s + start_us * US)
    last_dts, has_begun = None, False
    with open_container(path, generate_times=True) as container:
        video = video_stream(container, stream_info.stream_index)
        if seek_s is not None:
            seek(container, video, seek_s, stream_info.restarts)
        packets = on_one_clock(container.demux(video), stream_info.restarts)
        for packet in with_dts(p for p in packets if p.size and p.time_base):
            if packet.pts is None and packet.dts is None:
                continue
            time_base = Fraction(packet.time_base)
            has_begun |= packet.is_keyframe and display_time(packet) * time_base >= key_s
            if not has_begun or display_time(packet) * time_base < key_s:
                continue
            pts = round((display_time(packet) * time_base - first_s) / US)
            dts = round((decode_time(packet) * time_base - first_s) / US)
            if last_dts is not None and not -_MAX_JUMP_US < dts - last_dts < _MAX_JUMP_US:
                raise UnusableVideo(path, "its times jump")
            last_dts = dts if last_dts is None else max(dts, last_dts + 1)
            packet.duration = round(packet.duration * time_base / US) if packet.duration else 0
            packet.time_base = US
            packet.pts, packet.dts = max(pts, last_dts), last_dts
            yield packet


class PictureConverter:
    """Encodes frames as H.264 for any browser: upright, square pixels, 8 bits, progressive, each at its own time."""

    def __init__(self, target: OutputContainer, stream_info: StreamInfo, short_side: int) -> None:
        self._stream_info = stream_info
        width, height = stream_info.video.width, stream_info.video.height
        scale = min(1.0, short_side / min(width, height), 1920 / max(width, height))
        self.width, self.height = (max(2, round(side * scale / 2) * 2) for side in (width, height))
        rate = Fraction(stream_info.video.frame_rate).limit_denominator(1001) or Fraction(25)
        rate = min(rate, Fraction(_MAX_RATE))
        self.stream: VideoStream = target.add_stream("libx264", rate=rate)
        self.stream.width, self.stream.height, self.stream.pix_fmt = self.width, self.height, "yuv420p"
        self.stream.time_base = self.stream.codec_context.time_base = US
        self.stream.options = {
            "preset": "superfast",
            "tune": "fastdecode",
            "crf": "22",
            "profile": "main",
            "level": "4.2",
            "bf": "0",
            "g": str(max(1, round(2 * rate))),
            "threads": str(min(_MAX_THREADS, os.cpu_count() or 1)),
        }
        context = self.stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709
        context.color_range = 1
        self._last_us = -1

    def packets(self, path: bytes, start_us: int) -> Iterator[Packet]:
        """The encoded picture from the frame that is displayed at `start_us` on."""
        graphs = _Graphs(self)
        with FrameSource(path, self._stream_info) as source:
            for timed in _frames_from(source, start_us):
                for frame in graphs.filter(timed):
                    yield from self._encode(frame)
            for frame in graphs.flush():
                yield from self._encode(frame)
        if self._last_us < 0:
            raise UnusableVideo(path, NO_PICTURE)
        yield from self.stream.encode(None)

    def _encode(self, frame: VideoFrame) -> list[Packet]:
        assert frame.pts is not None
        time_us = round(frame.pts * Fraction(frame.time_base or US) / US)
        if self._last_us >= 0 and time_us - self._last_us < 1_000_000 // (_MAX_RATE + 2):
            return []
        self._last_us = time_us
        frame.pts, frame.time_base, frame.pict_type = time_us, US, 0
        return self.stream.encode(frame)

    def filter_steps(self, frame: VideoFrame, lut: str | None) -> list[tuple[str, str]]:
        """The filters from a decoded frame to what is encoded. `lut`: the file of the table that maps HDR to SDR."""
        orientation = self._stream_info.orientation
        size = (self.height, self.width) if orientation.transpose else (self.width, self.height)
        steps = [("bwdif", "mode=send_frame:deint=interlaced")] if frame.interlaced_frame else []
        scale = f"w={size[0]}:h={size[1]}:flags=bilinear"
        if lut is not None:
            steps += [("scale", scale), ("format", "pix_fmts=gbrp16"), ("lut3d", f"file={_escape(lut)}")]
            scale = ""
        steps += [("transpose", "dir=cclock_flip")] if orientation.transpose else []
        steps += [("hflip", "")] if orientation.mirror_x else []
        steps += [("vflip", "")] if orientation.mirror_y else []
        target = "out_color_matrix=bt709:out_range=tv"
        return [*steps, ("scale", f"{scale}:{target}".lstrip(":")), ("format", "pix_fmts=yuv420p")]


class _Graphs:
    """The filter graph for frames of one format; a new one if the stream changes it."""

    def __init__(self, converter: PictureConverter) -> None:
        self._converter = converter
        self._graph: av.filter.Graph | None = None
        self._key: tuple[object, ...] = ()

    def filter(self, timed: TimedFrame) -> Iterator[VideoFrame]:
        """The filtered frames that a decoded one brings out."""
        frame = timed.frame
        key = (
            frame.width,
            frame.height,
            frame.format.name,
            frame.colorspace,
            frame.color_range,
            frame.color_trc,
        )
        if self._graph is None or key != self._key:
            yield from self.flush()
            self._graph, self._key = self._build(frame), key
        frame.pts, frame.time_base = timed.time_us, US
        self._graph.vpush(frame)
        yield from self._pull()

    def flush(self) -> Iterator[VideoFrame]:
        """The frames that the filters hold back."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._pull()
            self._graph = None

    def _pull(self) -> Iterator[VideoFrame]:
        assert self._graph is not None
        while True:
            try:
                yield self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return

    def _build(self, frame: VideoFrame) -> av.filter.Graph:
        if not is_hdr(frame.color_trc):
            return self._connect(frame, None)
        # a stream that nobody watches any more is killed: the file is there only until the filter has read it
        with tempfile.TemporaryDirectory(prefix="vtag-play-") as folder:
            return self._connect(frame, _write_lut(folder, frame.color_trc))

    def _connect(self, frame: VideoFrame, lut: str | None) -> av.filter.Graph:
        graph = av.filter.Graph()
        graph.threads = min(_MAX_THREADS, os.cpu_count() or 1)
        nodes = [graph.add("buffer", buffer_arguments(frame))]
        nodes += [
            graph.add(name, arguments) if arguments else graph.add(name)
            for name, arguments in self._converter.filter_steps(frame, lut)
        ]
        nodes.append(graph.add("buffersink"))
        graph.link_nodes(*nodes)
        graph.configure()
        return graph


def _write_lut(folder: str, transfer: int) -> str:
    """A file in `folder` of the table that maps HDR to SDR, as `to_sdr` does, in the format .cube."""
    steps = np.linspace(0, 65535, _LUT_SIDE).round().astype(np.uint16)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")  # red changes fastest
    colours = to_sdr(np.stack([red, green, blue], axis=-1).reshape(-1, 1, 3), transfer)[:, 0] / 255
    rows = "\n".join(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in colours)
    file = os.path.join(folder, "sdr.cube")
    with open(file, "w", encoding="ascii") as out:
        out.write(f"LUT_3D_SIZE {_LUT_SIDE}\n{rows}\n")
    return file


def _frames_from(source: FrameSource, start_us: int) -> Iterator[TimedFrame]:
    """The frame that is displayed at `start_us`, and all after it; from the beginning if seeking leads behind it."""
    if start_us > 0 and source.seek(start_us):
        frames = source.frames()
        first = next(frames, None)
        if first is not None and first.time_us <= start_us:
            yield from _from_displayed(first, frames, start_us)
            return
        source.restart()
    frames = source.frames()
    first = next(frames, None)
    if first is not None:
        yield from _from_displayed(first, frames, start_us)


def _from_displayed(shown: TimedFrame, frames: Iterator[TimedFrame], start_us: int) -> Iterator[TimedFrame]:
    for frame in frames:
        if frame.time_us > start_us:
            yield shown
        shown = frame
    yield shown


def _escape(path: str) -> str:
    """A path as an option of a filter."""
    return path.replace("\\", "/").replace(":", "\\:").replace("'", "\\'")
