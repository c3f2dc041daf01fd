"""Files whose clock begins anew, such as joined transport streams and DVDs: finds the parts and puts them in a row.

A part is a run of timestamps that go on. The library and players let each part follow the one before. Containers
cannot seek by time in such a file, because a time may occur twice; they can by the position of a key frame in bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import av.error
import av.format

from vtag.engine.video_clock import ClockStretch

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    MediaStream = VideoStream | AudioStream

_TS_DISCONT = cast("int", av.format.Flags.ts_discont.value)
GAP_US = 10_000_000  # a longer pause is left out by ffmpeg and players if the format allows new starts
RESET_RUN = 8  # so many frames in a row that are too early mean that the timestamps started again
MIN_STEP_BACK_US = 100_000
_SEEK_MARGIN_US = 200_000
_SAMPLES = 128  # positions of a large file at which its clock is read
_MAX_STEP = 4  # of the clock from one position to the next, as a multiple of the median
_SAME_PART_US = 5_000_000  # how far apart sound and picture of one part may be


@dataclass(frozen=True)
class ClockPart:
    """A part of a file; its times are by the container's clock, in microseconds.

    `shift_us` added to them continues the clock of the part before, as the library counts.
    """

    position: int  # of its first packet in the file, in bytes
    shift_us: int
    stretch: ClockStretch


@dataclass(frozen=True)
class KeyFramePosition:
    """A key frame: its time after the shift of its part (microseconds), its position in the file, and its part."""

    time_us: int
    position: int
    part: int


@dataclass(frozen=True)
class Restarts:
    """The parts of a file whose clock begins anew, and its key frames, both in the file's order."""

    parts: tuple[ClockPart, ...]
    keys: tuple[KeyFramePosition, ...]
    end_us: int  # of the last picture, after the shift of its part

    def key_before(self, time_us: int) -> KeyFramePosition:
        """A key frame before a time of the shifted clock, to read from; the first one if all are later.

        It is not the last one: the first packet after a jump may have the time of another one, since packets do not
        begin where frames do.
        """
        last = self._last_key(time_us)
        return self._last_key(last.time_us - _SEEK_MARGIN_US)

    def _last_key(self, time_us: int) -> KeyFramePosition:
        index = bisect_right(self.keys, time_us, key=lambda key: key.time_us)
        return self.keys[max(0, index - 1)]


def on_one_clock(packets: Iterable[Packet], restarts: Restarts | None) -> Iterator[Packet]:
    """The packets of a file, in its order, all on the clock of its first part."""
    if restarts is None:
        yield from packets
        return
    starts = [part.position for part in restarts.parts]
    parts: dict[int, int] = {}  # by stream
    next_us: dict[int, int] = {}  # by stream: the end of the last packet, before and after the shift
    end_us: dict[int, int] = {}
    part = 0
    for packet in packets:
        time = packet.dts if packet.dts is not None else packet.pts
        if time is None or not packet.time_base:
            yield packet
            continue
        time_base, stream = Fraction(packet.time_base), packet.stream_index
        time_us = round(time * time_base * 1_000_000)
        if packet.pos is not None and packet.pos >= 0:
            part = bisect_right(starts, packet.pos) - 1
        own = parts.get(stream, max(0, part))
        # the sound of a part may reach into the bytes of the next one
        if own < part and abs(time_us - next_us.get(stream, time_us - GAP_US)) > MIN_STEP_BACK_US:
            own = part
        shift_us = restarts.parts[own].shift_us
        is_overlap = own != parts.get(stream, own) and time_us + shift_us < end_us[stream]
        if (
            is_overlap
        ):  # the sound of a part began before its picture, and that of the part before is not over
            continue
        parts[stream], next_us[stream] = own, time_us + _duration_us(packet, time_base)
        end_us[stream] = next_us[stream] + shift_us
        shift = round(Fraction(shift_us, 1_000_000) / time_base)
        if packet.pts is not None:
            packet.pts += shift
        if packet.dts is not None:
            packet.dts += shift
        yield packet


def seek(container: InputContainer, stream: MediaStream, time_s: Fraction, restarts: Restarts | None) -> bool:
    """Go to a key frame before a time of the first part's clock; False if the container cannot seek."""
    assert stream.time_base is not None
    try:
        if restarts is not None:
            seek_bytes(container, restarts.key_before(int(time_s * 1_000_000)).position)
        else:  # not before the beginning: some containers go to the end then
            container.seek(max(stream.start_time or 0, int(time_s / stream.time_base)), stream=stream)
    except (av.error.FFmpegError, OSError):
        return False
    return True


def may_restart(container: InputContainer) -> bool:
    """Whether new starts of the clock are usual in this format: MPEG streams of broadcasts and discs, Ogg."""
    flags: int = container.format.flags
    return bool(flags & _TS_DISCONT)


def seek_bytes(container: InputContainer, position: int) -> None:
    """Go to the packet at a position in the file. Raises av.error.FFmpegError."""
    container.seek(position, unsupported_byte_offset=True)


def find_restarts(
    container: InputContainer,
    video: VideoStream,
    first_us: int,
    interval_us: int,
    on_progress: Callable[[int], None] | None = None,
) -> Restarts | None:
    """The parts of a freshly opened file, from all of its packets; None if its clock does not begin anew.

    Args:
        container: the file, at its beginning.
        video: its video stream.
        first_us: the time of its first picture by the container's clock.
        interval_us: usual time from one frame to the next.
        on_progress: called for each key frame, with milliseconds of the container's clock.
    """
    finder = _Finder(container, video, first_us, interval_us)
    audio = [stream for stream in container.streams.audio if stream.codec_context is not None]
    try:
        for packet in container.demux([video, *audio]):
            finder.add(packet)
            if on_progress is not None and packet.is_keyframe and packet.pts is not None and packet.time_base:
                on_progress(int(packet.pts * packet.time_base * 1000))
    except (av.error.FFmpegError, OSError, IndexError):
        pass  # what was read is what can be shown
    return finder.result()


def seems_restarted(container: InputContainer, video: VideoStream, size_bytes: int) -> bool:
    """Whether times at evenly spread positions of a large file go back, or on much faster than elsewhere."""
    times = []
    for number in range(_SAMPLES):
        try:
            seek_bytes(container, size_bytes * number // _SAMPLES)
            times.append(next(p.dts for p in container.demux(video) if p.size and p.dts is not None))
        except (av.error.FFmpegError, OSError, IndexError, StopIteration):
            continue
    steps = sorted(later - earlier for earlier, later in pairwise(times))
    if not steps or video.time_base is None:
        return False
    gap = GAP_US / 1_000_000 / video.time_base
    return steps[0] < 0 or steps[-1] > _MAX_STEP * steps[len(steps) // 2] + gap


@dataclass
class _Entry:
    """A packet as the finder remembers it, in microseconds."""

    decode_us: int
    end_us: int
    display_us: int
    position: int
    is_key: bool


@dataclass
class _StreamState:
    part: int
    next_us: int
    run: list[_Entry] = field(default_factory=list)  # packets that do not continue the part


@dataclass
class _ClockPiece:
    position: int
    player_shift_us: int  # makes the clock go on as ffmpeg does
    is_gap: bool  # its clock goes on after a pause
    first_us: int | None = None  # of its frames, by the container's clock
    last_us: int = 0
    keys: list[_Entry] = field(default_factory=list)


class _Finder:
    """Collects the parts of a file. A part counts when RESET_RUN packets in a row of a stream belong to it."""

    def __init__(
        self, container: InputContainer, video: VideoStream, first_us: int, interval_us: int
    ) -> None:
        self._video = video.index
        self._first_us, self._interval_us = first_us, interval_us
        self._start_us = container.start_time or 0
        self._may_restart = may_restart(container)
        self._parts = [_ClockPiece(0, 0, is_gap=False)]
        self._streams: dict[int, _StreamState] = {}

    def add(self, packet: Packet) -> None:
        """Take the next packet of the file."""
        decode = packet.dts if packet.dts is not None else packet.pts
        if decode is None or not packet.size or not packet.time_base or packet.is_discard:
            return
        time_base = Fraction(packet.time_base)
        decode_us = round(decode * time_base * 1_000_000)
        display_us = decode_us if packet.pts is None else round(packet.pts * time_base * 1_000_000)
        position = packet.pos if packet.pos is not None else -1
        end_us = decode_us + _duration_us(packet, time_base)
        entry = _Entry(decode_us, end_us, display_us, position, packet.is_keyframe)
        state = self._streams.setdefault(packet.stream_index, _StreamState(len(self._parts) - 1, decode_us))
        if self._continues(decode_us - state.next_us):
            state.run.clear()
            self._put(packet.stream_index, state, entry)
            return
        if state.run and not self._continues(decode_us - state.run[-1].end_us):
            state.run.clear()
        state.run.append(entry)
        if len(state.run) >= RESET_RUN:
            state.part = self._part_of_run(state)
            for earlier in state.run:
                self._put(packet.stream_index, state, earlier)
            state.run.clear()

    def _continues(self, step_us: int) -> bool:
        back_us = max(MIN_STEP_BACK_US, RESET_RUN * self._interval_us)
        return -back_us < step_us and (step_us <= GAP_US or not self._may_restart)

    def _put(self, stream: int, state: _StreamState, entry: _Entry) -> None:
        state.next_us = entry.end_us
        if stream != self._video:
            return
        part = self._parts[state.part]
        part.first_us = entry.display_us if part.first_us is None else min(part.first_us, entry.display_us)
        part.last_us = max(part.last_us, entry.display_us) if part.first_us is not None else entry.display_us
        if entry.is_key and entry.position >= 0:
            part.keys.append(entry)

    def _part_of_run(self, state: _StreamState) -> int:
        """The part that the run of a stream belongs to: the newest one, or a new one that begins with it."""
        newest = self._parts[-1]
        expected_us = state.next_us + self._parts[state.part].player_shift_us
        is_newest = abs(state.run[0].decode_us + newest.player_shift_us - expected_us) < _SAME_PART_US
        if state.part < len(self._parts) - 1 and is_newest:
            return len(self._parts) - 1
        # ffmpeg takes the step of the stream whose packet is the first of the part
        first = min(
            (other for other in self._streams.values() if other.run and other.part == state.part),
            key=lambda other: other.run[0].position if other.run[0].position >= 0 else 1 << 62,
        )
        step_us = first.run[0].decode_us - first.next_us
        position = max(first.run[0].position, self._parts[-1].position + 1)
        shift_us = self._parts[state.part].player_shift_us - step_us
        self._parts.append(_ClockPiece(position, shift_us, is_gap=step_us > 0))
        return len(self._parts) - 1

    def result(self) -> Restarts | None:
        """The parts that have pictures, and their key frames."""
        parts: list[ClockPart] = []
        keys: list[KeyFramePosition] = []
        shift_us, last_us = 0, 0
        for part in self._parts:
            if part.first_us is None:
                continue
            if parts and not part.is_gap:
                shift_us = last_us + self._interval_us - part.first_us
            last_us = part.last_us + shift_us
            stretch = (
                self._stretch(part, shift_us) if parts else ClockStretch(0, self._first_us - self._start_us)
            )
            keys += [
                KeyFramePosition(key.display_us + shift_us, key.position, len(parts)) for key in part.keys
            ]
            parts.append(ClockPart(part.position, shift_us, stretch))
        return (
            Restarts(tuple(parts), tuple(keys), last_us + self._interval_us)
            if len(parts) > 1 and keys
            else None
        )

    def _stretch(self, part: _ClockPiece, shift_us: int) -> ClockStretch:
        assert part.first_us is not None
        library_us = part.first_us + shift_us - self._first_us
        if self._may_restart:
            return ClockStretch(library_us, part.first_us + part.player_shift_us - self._start_us)
        return ClockStretch(library_us, part.first_us + shift_us - self._start_us)


def _duration_us(packet: Packet, time_base: Fraction) -> int:
    return round((packet.duration or 0) * time_base * 1_000_000)
