"""The decoded frames of a video in order, each with its display time. Broken packets are skipped."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av.error
import av.stream

from vtag.engine.video.read.card_decoder import card_accelerator
from vtag.engine.video.read.container import UnusableVideo, VideoPath, open_container, video_stream
from vtag.engine.video.read.probe import PacketReader, StreamInfo, frame_pts
from vtag.engine.video.read.restarts import GAP_US, RESET_RUN, seek_bytes

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_MAX_BROKEN_IN_A_ROW = 3000  # packets: more than a minute without one frame ends the decoding
_KNOWN_PART_US = 1_000_000  # the pictures of a part begin within this time after those of the part before
_SINGLE_THREAD_PIXELS = 640 * 480  # one thread is faster for pictures up to this size
_MAX_THREADS = 8


@dataclass(frozen=True)
class TimedFrame:
    """A frame and its display time, microseconds after the first displayed frame."""

    time_us: int
    frame: VideoFrame


class FrameSource:
    """One open video; `frames()` yields from the current position. A context manager."""

    def __init__(
        self,
        path: VideoPath,
        stream_info: StreamInfo,
        *,
        threads: int | None = None,
        is_coarse: bool = False,
        card: str | None = None,
        on_progress: Callable[[int], None] | None = None,
        on_broken: Callable[[], None] | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            path: the file.
            stream_info: what `probe_stream` returned for it.
            threads: the most threads of the decoder; by default the number of cores.
            is_coarse: leave out frames on which no other depends; this decodes nearly twice as fast.
            card: the number of the CUDA card that decodes, on which the frames then are; the processor if it cannot.
            on_progress: called for every packet with the time reached (microseconds).
            on_broken: called for every packet that cannot be decoded.
        """
        self.broken_packets = 0  # that could not be read or decoded
        self.end_us = 0  # of the last frame that was yielded
        self._path = path
        self._stream_info = stream_info
        self._threads = threads
        self._is_coarse = is_coarse
        self._card = card
        self._on_progress = on_progress
        self._on_broken = on_broken
        self._part = 0  # of a file whose clock begins anew
        self._timestamps = _TimestampRepair(stream_info.interval_us)
        self._stack = contextlib.ExitStack()
        self._container: InputContainer | None = None
        self._stream: VideoStream | None = None

    def __enter__(self) -> FrameSource:
        self.restart()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._container = self._stream = None

    @property
    def is_repaired(self) -> bool:
        """Whether timestamps had to be corrected, so that seeking by time is unreliable."""
        return self._timestamps.is_repaired

    def restart(self) -> None:
        """Go to the beginning."""
        self._part = 0
        self._stack.close()
        self._container = self._open()
        stream = video_stream(self._container, self._stream_info.stream_index)
        for unused in self._container.streams:
            if unused.index != stream.index:
                unused.discard = av.stream.Discard.all
        width, height = self._stream_info.stored_size
        threads = min(self._threads or os.cpu_count() or 1, _MAX_THREADS)
        if width * height <= _SINGLE_THREAD_PIXELS or self._card is not None:
            threads = 1
        stream.thread_type = "AUTO" if threads > 1 else "NONE"
        stream.thread_count = threads
        if self._is_coarse:
            stream.codec_context.skip_frame = "NONREF"
        self._stream = stream

    def _open(self) -> InputContainer:
        """The open container, which decodes on the card if that is wanted and works."""
        if self._card is not None:
            try:
                return self._stack.enter_context(
                    open_container(self._path, accelerator=card_accelerator(self._card))
                )
            except UnusableVideo:  # the file was probed before: it is the card's fault
                self._card = None
        return self._stack.enter_context(open_container(self._path))

    def seek(self, time_us: int) -> bool:
        """Go to a position from which the frame at `time_us` can be decoded; False if the container cannot seek."""
        assert self._container is not None and self._stream is not None
        info, restarts = self._stream_info, self._stream_info.restarts
        first_s = info.first_pts * info.time_base
        try:
            if restarts is not None:
                key = restarts.key_before(time_us + int(first_s * 1_000_000))
                seek_bytes(self._container, key.position)
                self._part = key.part
            else:
                target = info.first_pts + int(time_us / 1_000_000 / info.time_base)
                self._container.seek(target, stream=self._stream)
        except (av.error.FFmpegError, OSError):
            return False
        return True

    def frames(self) -> Iterator[TimedFrame]:
        """The frames from here on, at increasing times. Raises MemoryError if libav gets no memory."""
        timestamps = _TimestampRepair(
            self._stream_info.interval_us, is_repaired=self.is_repaired, shifts_us=self._part_shifts()
        )
        self._timestamps = timestamps
        suspect: tuple[int, VideoFrame] | None = None  # a frame after a gap, until the next frame confirms it
        for frame in self._decoded_frames():
            claimed_us = self._claimed_us(frame)
            if suspect is not None:
                suspect_us, suspect_frame = suspect
                suspect = None
                is_stray = claimed_us is not None and timestamps.is_before_suspect(claimed_us, suspect_us)
                yield self._timed_frame(timestamps.assign(None if is_stray else suspect_us), suspect_frame)
            if claimed_us is not None and timestamps.is_after_gap(claimed_us):
                suspect = (claimed_us, frame)
                continue
            yield self._timed_frame(timestamps.assign(claimed_us), frame)
        if suspect is not None:
            yield self._timed_frame(timestamps.assign(suspect[0]), suspect[1])

    def _part_shifts(self) -> tuple[int, ...]:
        """The shifts of the part at the current position and of those after it."""
        restarts = self._stream_info.restarts
        return (0,) if restarts is None else tuple(part.shift_us for part in restarts.parts[self._part :])

    def _timed_frame(self, time_us: int, frame: VideoFrame) -> TimedFrame:
        duration_us = int(frame.duration * self._stream_info.time_base * 1_000_000) if frame.duration else 0
        self.end_us = time_us + (duration_us if duration_us > 0 else self._stream_info.interval_us)
        return TimedFrame(time_us, frame)

    def _claimed_us(self, frame: VideoFrame) -> int | None:
        pts = frame_pts(frame)
        if pts is None:
            return None
        return round((pts - self._stream_info.first_pts) * self._stream_info.time_base * 1_000_000)

    def _decoded_frames(self) -> Iterator[VideoFrame]:
        assert self._container is not None and self._stream is not None
        packets = PacketReader(self._container, self._stream)
        in_a_row = 0
        for packet in packets:
            if self._on_progress is not None:
                self._on_progress(self.end_us)
            try:
                frames = packet.decode()
            except av.error.EOFError:
                break
            except MemoryError:
                raise
            except (av.error.FFmpegError, OSError):
                self.broken_packets += 1
                in_a_row += 1
                if self._on_broken is not None:
                    self._on_broken()
                if in_a_row >= _MAX_BROKEN_IN_A_ROW:
                    break
                continue
            if frames:
                in_a_row = 0
            yield from frames
        self.broken_packets += packets.errors


class _TimestampRepair:
    """Gives every frame a later time than the frame before, whatever the file claims."""

    def __init__(
        self, interval_us: int, *, is_repaired: bool = False, shifts_us: Sequence[int] = (0,)
    ) -> None:
        """`shifts_us`: what is added to the times of the first part, and of those after it that are known."""
        self.is_repaired = is_repaired  # whether a claimed time was wrong
        self._interval_us = interval_us
        self._last_us: int | None = None
        self._offset_us, *self._next_shifts_us = shifts_us  # added since the timestamps started again
        self._run = 0  # frames in a row that claimed to be earlier than their predecessor
        self._run_claimed_us = 0
        self._run_base_us = 0

    def assign(self, claimed_us: int | None) -> int:
        """The time of the next frame, which claims `claimed_us`; None if it has no believable time."""
        if self._last_us is None:
            self._last_us = max(0, (claimed_us or 0) + self._offset_us)
        elif claimed_us is None:
            self._last_us += self._interval_us
        elif claimed_us + self._offset_us > self._last_us:
            self._run = 0
            self._last_us = claimed_us + self._offset_us
        else:
            self._last_us = self._repair(claimed_us, self._last_us)
        return self._last_us

    def _repair(self, claimed_us: int, last_us: int) -> int:
        """A frame that is too early follows its predecessor at once; many in a row are a new start of timestamps."""
        self.is_repaired = True
        for number, shift_us in enumerate(self._next_shifts_us):
            if last_us < claimed_us + shift_us <= last_us + _KNOWN_PART_US:
                self._offset_us = shift_us
                del self._next_shifts_us[: number + 1]
                return claimed_us + shift_us
        if self._run == 0:
            self._run_claimed_us, self._run_base_us = claimed_us, last_us
        self._run += 1
        if self._run < RESET_RUN:
            return last_us + 1
        self._run = 0
        self._offset_us = self._run_base_us + self._interval_us - self._run_claimed_us
        return max(last_us + 1, claimed_us + self._offset_us)

    def is_after_gap(self, claimed_us: int) -> bool:
        """Whether `claimed_us` is suspiciously late."""
        return self._last_us is not None and claimed_us + self._offset_us > self._last_us + GAP_US

    def is_before_suspect(self, claimed_us: int, suspect_us: int) -> bool:
        """Whether the frame after a suspect one shows that the suspect's time was wrong."""
        is_before = claimed_us <= suspect_us and not self.is_after_gap(claimed_us)
        self.is_repaired |= is_before
        return is_before
