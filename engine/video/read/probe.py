"""What a video file holds: its true length, size as seen, rate, codec and when it was recorded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import TYPE_CHECKING

import av.error

from vtag.engine.text import printable
from vtag.engine.video.read.container import (
    NO_PICTURE,
    UnusableVideo,
    choose_stream,
    error_text,
    frame_rate,
    open_container,
    pixel_aspect,
    video_stream,
)
from vtag.engine.video.read.convert import read_orientation
from vtag.engine.video.read.hdr import is_hdr
from vtag.engine.video.read.views import Orientation, upright_size

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

FULL_READ_BYTES = 32 << 20  # files up to this size are read whole for their length
_TAIL_BYTES = 512 << 20  # of a larger file at most this much is read behind the last seek
_FIRST_FRAME_PACKETS = 5000  # after so many packets without a picture there is none
_LEAST_BYTES_A_SECOND = 1000
_USUAL_RATE = Fraction(25)  # where nothing tells, and only a last frame's length depends on it
_FAR_US = 10**13  # four months
_DATE_TAGS = ("com.apple.quicktime.creationdate", "creation_time", "date", "ICRD", "DATE_RECORDED")


@dataclass(frozen=True)
class VideoInfo:
    """A video as a person sees it."""

    duration_ms: int  # from the first displayed frame's beginning to the last one's end
    width: int  # upright, with square pixels
    height: int
    rotation: int  # degrees clockwise that the stored picture is turned by to stand upright
    frame_rate: float  # frames a second, on average
    codec: str
    container: str
    recorded_at: str | None  # ISO 8601, as the file tells
    hdr: bool = False
    interlaced: bool = False


@dataclass(frozen=True)
class StreamInfo:
    """What reading a video needs to know beforehand."""

    info: VideoInfo
    stream_index: int
    time_base: Fraction
    first_pts: int  # of the first displayed frame, in time_base
    interval_us: int  # from one frame to the next, as most are
    end_us: int  # from the first displayed frame; an estimate until everything was decoded
    orientation: Orientation
    aspect: Fraction
    stored_size: tuple[int, int]
    claimed_ms: int | None  # what the container says of the video's length


def probe(path: str | bytes | os.PathLike[str]) -> VideoInfo:
    """What the file at `path` holds. Raises VideoError where it has no picture that can be decoded."""
    return probe_stream(path).info


def read_claimed_ms(path: str | bytes | os.PathLike[str]) -> int | None:
    """How long the container says that the video is: told at once, and good for estimates alone.

    None where it says nothing, or what no video can be (less than a kilobyte a second). Raises VideoError.
    """
    with open_container(path) as container:
        stream, _ = choose_stream(container, path)
        claimed = _claimed_ms(container, stream)
    most_ms = os.path.getsize(path) * 1000 // _LEAST_BYTES_A_SECOND
    return claimed if claimed is not None and 0 < claimed <= most_ms else None


def probe_stream(path: str | bytes | os.PathLike[str]) -> StreamInfo:
    """What is known of a video before it is decoded; its first frame proves that it can be.

    The length is what the packets say: a small file is read whole, of a larger one the end. Raises UnusableVideo.
    """
    with open_container(path) as container:
        stream, consumed = choose_stream(container, path)
        if not consumed:
            return _examine(container, stream, path)
        index = stream.index
    with open_container(path) as container:
        return _examine(container, video_stream(container, index), path)


def _examine(
    container: InputContainer, stream: VideoStream, path: str | bytes | os.PathLike[str]
) -> StreamInfo:
    stream.thread_type = "NONE"  # so that the first frame comes at once
    packets = PacketReader(container, stream)
    timing = _Timing(frame_rate(stream))
    frame = _first_frame(packets, timing, path)
    time_base = Fraction(stream.time_base or frame.time_base or Fraction(1, 1000))
    if os.path.getsize(path) <= FULL_READ_BYTES:
        for packet in packets:
            timing.see(packet)
    else:
        _see_end(container, stream, timing)
    first = frame_pts(frame)
    first_pts = first if first is not None else timing.first or 0
    rate = timing.rate(time_base)
    end_us = round((timing.end(time_base, first_pts) - first_pts) * time_base * 1_000_000)
    orientation, aspect = read_orientation(frame), pixel_aspect(stream)
    width, height = upright_size(frame.width, frame.height, aspect, orientation)
    info = VideoInfo(
        duration_ms=max(1, round(end_us / 1000)),
        width=width,
        height=height,
        rotation=orientation.rotation,
        frame_rate=round(float(rate), 3),
        codec=stream.codec_context.codec.canonical_name,
        container=container.format.name,
        recorded_at=find_recording_time(container.metadata, stream.metadata),
        hdr=is_hdr(frame.color_trc),
        interlaced=frame.interlaced_frame,
    )
    return StreamInfo(
        info,
        stream.index,
        time_base,
        first_pts,
        max(1, round(timing.interval(time_base) * 1_000_000)),
        max(1, end_us),
        orientation,
        aspect,
        (frame.width, frame.height),
        _claimed_ms(container, stream),
    )


def _claimed_ms(container: InputContainer, stream: VideoStream) -> int | None:
    if stream.duration and stream.time_base:
        return round(stream.duration * stream.time_base * 1000)
    return round(container.duration / 1000) if container.duration else None


def count_frames(path: str | bytes | os.PathLike[str], facts: StreamInfo) -> int:
    """How many frames the file says it shows, counted without decoding."""
    with open_container(path) as container:
        stream = video_stream(container, facts.stream_index)
        return sum(1 for p in PacketReader(container, stream) if p.size and not p.is_discard)


def frame_pts(frame: VideoFrame) -> int | None:
    """When `frame` is shown: its presentation time, else (AVI) when it was decoded."""
    return frame.pts if frame.pts is not None else frame.dts


class PacketReader:
    """The packets of one stream, in the file's order, past errors of reading; the last is empty and flushes."""

    _ERRORS_IN_A_ROW = 50

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.errors = 0
        self._container = container
        self._stream = stream
        self._iterator: Iterator[Packet] = self._read()

    def __iter__(self) -> Iterator[Packet]:
        return self._iterator

    def _read(self) -> Iterator[Packet]:
        in_a_row = 0
        while True:
            try:
                for packet in self._container.demux(self._stream):
                    in_a_row = 0
                    yield packet
                return
            except av.error.EOFError:
                return
            except IndexError:  # PyAV stumbles over streams that appeared on the way, after ours was flushed
                return
            except MemoryError:
                raise
            except (av.error.FFmpegError, OSError):
                self.errors += 1
                in_a_row += 1
                if in_a_row >= self._ERRORS_IN_A_ROW:
                    return


class _Timing:
    """Gathers when packets are shown."""

    def __init__(self, rate: Fraction | None) -> None:
        self._rate = rate
        self._count = 0
        self._durations: Counter[int] = Counter()
        self.first: int | None = None
        self._last: int | None = None
        self._end: int | None = None
        self._presented = True  # whether the packets say when they are shown, or only when they are decoded

    def see(self, packet: Packet) -> None:
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None or not packet.size or packet.is_discard:
            return
        self._count += 1
        self._presented &= packet.pts is not None
        if packet.duration and (len(self._durations) < 100 or packet.duration in self._durations):
            self._durations[packet.duration] += 1
        self.first = time if self.first is None else min(self.first, time)
        if self._last is None or time >= self._last:
            self._last = time
            self._end = time + packet.duration if packet.duration else None

    def jump(self) -> None:
        """Packets are left out from here on: their count says nothing any more."""
        self._count = 0

    def rate(self, time_base: Fraction) -> Fraction:
        """Frames a second, on average."""
        if self._rate is None and self._count > 1 and self.first is not None and self._last is not None:
            span = (self._last - self.first) * time_base
            if span > 0:
                self._rate = (self._count - 1) / span
        return self._rate or _USUAL_RATE

    def interval(self, time_base: Fraction) -> Fraction:
        """Seconds from one frame to the next, as most are; a hole does not count."""
        usual = self._durations.most_common(1)
        return usual[0][0] * time_base if usual else 1 / self.rate(time_base)

    def end(self, time_base: Fraction, first_pts: int) -> int:
        """Where the last frame ends, in `time_base`."""
        if self._last is None:
            return first_pts + max(1, round(self.interval(time_base) / time_base))
        end = self._end if self._end is not None else self._last + round(self.interval(time_base) / time_base)
        if not self._presented and self.first is not None:  # frames come out as much later as the first did
            end += first_pts - self.first
        return max(end, first_pts + 1)


def _first_frame(packets: PacketReader, timing: _Timing, path: str | bytes | os.PathLike[str]) -> VideoFrame:
    said = ""
    for number, packet in enumerate(packets):
        timing.see(packet)
        try:
            for frame in packet.decode():
                return frame
        except av.error.EOFError:
            break
        except MemoryError:
            raise
        except (av.error.FFmpegError, OSError) as error:
            said = said or error_text(error)
        if number > _FIRST_FRAME_PACKETS:
            break
    raise UnusableVideo(path, f"{NO_PICTURE} ({said or 'it has no frames'})")


def _see_end(container: InputContainer, stream: VideoStream, timing: _Timing) -> None:
    """Note the packets behind the last place that can be sought; what the container claims if there are none."""
    timing.jump()
    claimed_us = container.duration
    for target_us in (claimed_us, _FAR_US):
        if target_us is None:
            continue
        try:
            container.seek((container.start_time or 0) + target_us)
        except (av.error.FFmpegError, OSError):
            continue
        bytes_read = packets_read = 0
        for packet in PacketReader(container, stream):
            timing.see(packet)
            bytes_read += packet.size
            packets_read += packet.size > 0
            if bytes_read > _TAIL_BYTES:
                break
        if packets_read:
            return


def find_recording_time(*metadata: dict[str, str]) -> str | None:
    """The first date among the tags that is one, as ISO 8601; the zero of a clock that was never set is none."""
    for tag in _DATE_TAGS:
        for tags in metadata:
            text = tags.get(tag, "").strip()
            try:
                when = datetime.fromisoformat(text)
            except ValueError:
                continue
            if 1971 <= when.year <= 2200:
                return printable(text)
    return None
