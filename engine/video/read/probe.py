"""Reads what a video file contains: its true duration, displayed size, frame rate, codec and recording time."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import av.error

from vtag.engine.video.read import restart_memo
from vtag.engine.video.read.clock import read_clock
from vtag.engine.video.read.container import (
    NO_PICTURE,
    UnusableVideo,
    VideoPath,
    choose_stream,
    error_text,
    frame_rate,
    open_container,
    pixel_aspect,
    video_stream,
)
from vtag.engine.video.read.convert import read_orientation
from vtag.engine.video.read.dates import find_recording_time
from vtag.engine.video.read.hdr import is_hdr
from vtag.engine.video.read.restarts import (
    GAP_US,
    MIN_STEP_BACK_US,
    Restarts,
    find_restarts,
    may_restart,
    seems_restarted,
)
from vtag.engine.video.read.views import Orientation, upright_size
from vtag.engine.video_clock import VideoClock

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

FULL_READ_BYTES = 32 << 20  # files up to this size are read completely for their duration
_FULL_READ_RESTARTS_BYTES = (
    512 << 20
)  # files whose clock may begin anew; of larger ones a sample may be enough
_MAX_TAIL_BYTES = 512 << 20  # read behind the last seek in a larger file
_MAX_FIRST_FRAME_PACKETS = 5000  # without a picture in so many packets, there is none
_MIN_BYTES_PER_SECOND = 1000  # of any video
_DEFAULT_RATE = Fraction(25)  # if the file has none; only the duration of the last frame depends on it
_FAR_US = 10**13  # four months: behind the end of any video


@dataclass(frozen=True)
class VideoInfo:
    """A video as it is displayed."""

    duration_ms: int  # from the start of the first displayed frame to the end of the last
    width: int  # upright, with square pixels
    height: int
    rotation: int  # degrees clockwise from the stored picture to the upright one
    frame_rate: float  # frames a second, on average
    codec: str
    container: str
    recorded_at: str | None  # ISO 8601, from the metadata
    hdr: bool = False
    interlaced: bool = False
    clock: VideoClock = field(default_factory=VideoClock)


@dataclass(frozen=True)
class StreamInfo:
    """What is known of a file's video stream before it is decoded."""

    video: VideoInfo
    stream_index: int
    time_base: Fraction
    first_pts: int  # of the first displayed frame, in time_base
    interval_us: int  # usual time from one frame to the next
    end_us: int  # of the last frame, from the first displayed one; an estimate until everything was decoded
    orientation: Orientation
    aspect: Fraction
    stored_size: tuple[int, int]
    claimed_ms: int | None  # duration that the container claims
    restarts: Restarts | None = None  # if its clock begins anew


def probe(path: VideoPath, on_progress: Callable[[int], None] | None = None) -> VideoInfo:
    """The video at `path`, with its exact clock. Raises VideoError if it has no picture that can be decoded.

    `on_progress` is that of `probe_stream`.
    """
    return probe_stream(path, is_exact=True, on_progress=on_progress).video


def read_claimed_ms(path: VideoPath) -> int | None:
    """The duration that the container claims: fast to read, but only good for estimates.

    None if it claims none, or more than the file's size allows (1000 bytes a second). Raises VideoError.
    """
    with open_container(path) as container:
        stream, _ = choose_stream(container, path)
        claimed_ms = _claimed_ms(container, stream)
    max_ms = os.path.getsize(path) * 1000 // _MIN_BYTES_PER_SECOND
    return claimed_ms if claimed_ms is not None and 0 < claimed_ms <= max_ms else None


def probe_stream(
    path: VideoPath,
    *,
    finds_end: bool = True,
    is_exact: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> StreamInfo:
    """What is known of a video before it is decoded. Decodes one frame, to prove that it can be.

    The duration comes from the packets: of all of a small file, of the end of a larger one. Raises UnusableVideo.

    Args:
        path: the file.
        finds_end: whether the duration is needed. Otherwise it is that of the first packets, which is much faster.
        is_exact: whether a large file whose clock may begin anew is read whole, which takes seconds for a gigabyte.
            Otherwise it is when samples of it, or an earlier reading (restart_memo.py), say that its clock does.
        on_progress: called often while a file is read whole, with milliseconds of the container's clock.
    """
    with open_container(path) as container:
        stream, consumed = choose_stream(container, path)
        if not consumed:
            stream_info, has_restarts = _probe_container(container, stream, path, finds_end=finds_end)
        index = stream.index
    if consumed:
        with open_container(path) as container:
            stream = video_stream(container, index)
            stream_info, has_restarts = _probe_container(container, stream, path, finds_end=finds_end)
    return _with_restarts(stream_info, path, is_exact, on_progress) if has_restarts else stream_info


def _with_restarts(
    stream_info: StreamInfo, path: VideoPath, is_exact: bool, on_progress: Callable[[int], None] | None
) -> StreamInfo:
    """`stream_info` of a file whose clock seems to begin anew: with its parts, and the duration of all of them."""
    first_us = round(stream_info.first_pts * stream_info.time_base * 1_000_000)
    restarts = _read_restarts(stream_info, path, first_us, is_exact, on_progress)
    if restarts is None:
        return stream_info
    end_us = restarts.end_us - first_us
    clock = replace(stream_info.video.clock, stretches=tuple(part.stretch for part in restarts.parts))
    video = replace(stream_info.video, clock=clock, duration_ms=max(1, round(end_us / 1000)))
    return replace(stream_info, video=video, end_us=max(1, end_us), restarts=restarts)


def _read_restarts(
    stream_info: StreamInfo,
    path: VideoPath,
    first_us: int,
    is_exact: bool,
    on_progress: Callable[[int], None] | None,
) -> Restarts | None:
    info, index = os.stat(path), stream_info.stream_index
    key = restart_memo.MemoKey(os.fsencode(path), info.st_size, info.st_mtime_ns, index)
    remembered = restart_memo.recall(key)
    if remembered is not None:
        return remembered[0]
    is_large = info.st_size > _FULL_READ_RESTARTS_BYTES
    if is_large and not is_exact:
        with open_container(path) as container:
            if not seems_restarted(container, video_stream(container, index), info.st_size):
                return None
    with open_container(path) as container:
        stream = video_stream(container, index)
        restarts = find_restarts(container, stream, first_us, stream_info.interval_us, on_progress)
    restart_memo.remember(key, restarts, is_on_disk=is_large)
    return restarts


def _probe_container(
    container: InputContainer, stream: VideoStream, path: VideoPath, *, finds_end: bool
) -> tuple[StreamInfo, bool]:
    """What the file says, and whether its clock may begin anew."""
    stream.thread_type = "NONE"  # with threads the first frame would come only after several packets
    packets = PacketReader(container, stream)
    timing = _Timing(frame_rate(stream))
    frame = _first_frame(packets, timing, path)
    time_base = Fraction(stream.time_base or frame.time_base or Fraction(1, 1000))
    has_restarts = may_restart(container)
    if finds_end and os.path.getsize(path) <= FULL_READ_BYTES:
        for packet in packets:
            timing.add(packet)
        has_restarts = timing.has_restarts
    elif finds_end:
        _add_tail(container, stream, timing)
    pts = frame_pts(frame)
    first_pts = pts if pts is not None else timing.first or 0
    rate, interval = timing.rate(time_base), timing.interval(time_base)
    first_us = round(first_pts * time_base * 1_000_000)
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
        clock=read_clock(container, stream, first_us, rate, interval),
    )
    stream_info = StreamInfo(
        info,
        stream.index,
        time_base,
        first_pts,
        max(1, round(interval * 1_000_000)),
        max(1, end_us),
        orientation,
        aspect,
        (frame.width, frame.height),
        _claimed_ms(container, stream),
    )
    return stream_info, has_restarts


def _claimed_ms(container: InputContainer, stream: VideoStream) -> int | None:
    if stream.duration and stream.time_base:
        return round(stream.duration * stream.time_base * 1000)
    return round(container.duration / 1000) if container.duration else None


def count_frames(path: VideoPath, stream_info: StreamInfo) -> int:
    """How many frames the file contains, counted without decoding."""
    with open_container(path) as container:
        stream = video_stream(container, stream_info.stream_index)
        return sum(1 for p in PacketReader(container, stream) if p.size and not p.is_discard)


def frame_pts(frame: VideoFrame) -> int | None:
    """The presentation time of `frame`; its decoding time if it has none (AVI)."""
    return frame.pts if frame.pts is not None else frame.dts


class PacketReader:
    """Iterates over the packets of one stream, in the file's order, and skips read errors.

    The last packet is empty; decoding it flushes the decoder.
    """

    _MAX_ERRORS_IN_A_ROW = 50

    def __init__(self, container: InputContainer, stream: VideoStream | AudioStream) -> None:
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
            except IndexError:  # PyAV fails on streams that appear midway, after it flushed ours
                return
            except MemoryError:
                raise
            except (av.error.FFmpegError, OSError):
                self.errors += 1
                in_a_row += 1
                if in_a_row >= self._MAX_ERRORS_IN_A_ROW:
                    return


class _Timing:
    """Collects the times of packets: frame rate, frame interval and end of the video."""

    def __init__(self, rate: Fraction | None) -> None:
        self._rate = rate
        self._count = 0
        self._durations: Counter[int] = Counter()
        self.first: int | None = None
        self._last: int | None = None
        self._end: int | None = None
        self._has_pts = True  # whether all packets have presentation times
        self._last_decode: int | None = None
        self.has_restarts = False  # whether packets in a row are too far from each other

    def add(self, packet: Packet) -> None:
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None or not packet.size or packet.is_discard:
            return
        self._count += 1
        self._add_decode_time(packet)
        self._has_pts &= packet.pts is not None
        if packet.duration and (len(self._durations) < 100 or packet.duration in self._durations):
            self._durations[packet.duration] += 1
        self.first = time if self.first is None else min(self.first, time)
        if self._last is None or time >= self._last:
            self._last = time
            self._end = time + packet.duration if packet.duration else None

    def _add_decode_time(self, packet: Packet) -> None:
        decode = packet.dts if packet.dts is not None else packet.pts
        if decode is None or not packet.time_base:
            return
        if self._last_decode is not None:
            step_us = (decode - self._last_decode) * Fraction(packet.time_base) * 1_000_000
            self.has_restarts |= not -MIN_STEP_BACK_US < step_us <= GAP_US
        self._last_decode = decode

    def skip_middle(self) -> None:
        """Forget the count of packets, because the next ones do not follow the last ones."""
        self._count = 0

    def rate(self, time_base: Fraction) -> Fraction:
        """Frames a second, on average."""
        if self._rate is None and self._count > 1 and self.first is not None and self._last is not None:
            span = (self._last - self.first) * time_base
            if span > 0:
                self._rate = (self._count - 1) / span
        return self._rate or _DEFAULT_RATE

    def interval(self, time_base: Fraction) -> Fraction:
        """Usual seconds from one frame to the next; gaps do not count."""
        most_common = self._durations.most_common(1)
        return most_common[0][0] * time_base if most_common else 1 / self.rate(time_base)

    def end(self, time_base: Fraction, first_pts: int) -> int:
        """The end of the last frame, in `time_base`."""
        if self._last is None:
            return first_pts + max(1, round(self.interval(time_base) / time_base))
        end = self._end if self._end is not None else self._last + round(self.interval(time_base) / time_base)
        if not self._has_pts and self.first is not None:  # frames are as much later than packets as the first
            end += first_pts - self.first
        return max(end, first_pts + 1)


def _first_frame(packets: PacketReader, timing: _Timing, path: VideoPath) -> VideoFrame:
    first_error = ""
    for number, packet in enumerate(packets):
        timing.add(packet)
        try:
            for frame in packet.decode():
                return frame
        except av.error.EOFError:
            break
        except MemoryError:
            raise
        except (av.error.FFmpegError, OSError) as error:
            first_error = first_error or error_text(error)
        if number > _MAX_FIRST_FRAME_PACKETS:
            break
    raise UnusableVideo(path, f"{NO_PICTURE} ({first_error or 'it has no frames'})")


def _add_tail(container: InputContainer, stream: VideoStream, timing: _Timing) -> None:
    """Add the packets behind the last position that seeking reaches."""
    timing.skip_middle()
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
            timing.add(packet)
            bytes_read += packet.size
            packets_read += packet.size > 0
            if bytes_read > _MAX_TAIL_BYTES:
                break
        if packets_read:
            return
