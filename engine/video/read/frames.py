"""The decoded frames of a video with the time each is shown, in order, past whatever is broken between them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av.error
import av.stream

from vtag.engine.video.read.container import open_container, video_stream
from vtag.engine.video.read.probe import PacketReader, StreamInfo, frame_pts

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_BROKEN_IN_A_ROW = 3000  # a minute and more of noise without one frame: the rest is given up
_HOLE_US = 10_000_000  # a later time than this is believed only when the next frame agrees
_RESET_RUN = 8  # so many frames in a row that jump back are a clock that was set anew
_SMALL_PIXELS = 640 * 480  # pictures up to this size are decoded faster by one thread
_MOST_THREADS = 8


@dataclass(frozen=True)
class TimedFrame:
    """A frame and when it is shown, microseconds from the first displayed frame."""

    time_us: int
    frame: VideoFrame


class FrameSource:
    """One open video. `frames()` yields from where it stands; use it as a context manager."""

    def __init__(
        self,
        path: str | bytes | os.PathLike[str],
        facts: StreamInfo,
        *,
        threads: int | None = None,
        on_progress: Callable[[int], None] | None = None,
        on_broken: Callable[[], None] | None = None,
    ) -> None:
        """`threads` bounds the decoder's threads; `tick` is called for every packet with the time reached (us),
        `on_broken` for every one that cannot be decoded.
        """
        self.broken = 0  # packets that could not be read or decoded
        self.end_us = 0  # where the last frame that was yielded ends
        self._path = path
        self._facts = facts
        self._threads = threads
        self._on_progress = on_progress
        self._on_broken = on_broken
        self._clock = _Clock(facts.interval_us)
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
    def repaired(self) -> bool:
        """Whether times had to be put right, so that seeking by time is not to be trusted."""
        return self._clock.repaired

    def restart(self) -> None:
        """Stand at the beginning again."""
        self._stack.close()
        self._container = self._stack.enter_context(open_container(self._path))
        stream = video_stream(self._container, self._facts.stream_index)
        for other in self._container.streams:
            if other.index != stream.index:
                other.discard = av.stream.Discard.all
        width, height = self._facts.stored_size
        threads = min(self._threads or os.cpu_count() or 1, _MOST_THREADS)
        if width * height <= _SMALL_PIXELS:
            threads = 1
        stream.thread_type = "AUTO" if threads > 1 else "NONE"
        stream.thread_count = threads
        self._stream = stream

    def seek(self, time_us: int) -> bool:
        """Stand at a place from which the frame of `time_us` can be decoded; False where that cannot be."""
        assert self._container is not None and self._stream is not None
        target = self._facts.first_pts + int(time_us / 1_000_000 / self._facts.time_base)
        try:
            self._container.seek(target, stream=self._stream)
        except (av.error.FFmpegError, OSError):
            return False
        return True

    def frames(self) -> Iterator[TimedFrame]:
        """The frames from here on, each later than the one before. Raises MemoryError where libav gets none."""
        clock = _Clock(self._facts.interval_us, repaired=self.repaired)
        self._clock = clock
        suspect: tuple[int, VideoFrame] | None = None  # a frame behind a hole, until the next one agrees
        for frame in self._decoded():
            claimed = self._claimed_us(frame)
            if suspect is not None:
                time_us, held = suspect
                suspect = None
                stray = claimed is not None and clock.would_step_back_from(time_us, claimed)
                yield self._timed(clock.assign(None if stray else time_us), held)
            if claimed is not None and clock.is_hole(claimed):
                suspect = (claimed, frame)
                continue
            yield self._timed(clock.assign(claimed), frame)
        if suspect is not None:
            yield self._timed(clock.assign(suspect[0]), suspect[1])

    def _timed(self, time_us: int, frame: VideoFrame) -> TimedFrame:
        length_us = int(frame.duration * self._facts.time_base * 1_000_000) if frame.duration else 0
        self.end_us = time_us + (length_us if length_us > 0 else self._facts.interval_us)
        return TimedFrame(time_us, frame)

    def _claimed_us(self, frame: VideoFrame) -> int | None:
        pts = frame_pts(frame)
        if pts is None:
            return None
        return round((pts - self._facts.first_pts) * self._facts.time_base * 1_000_000)

    def _decoded(self) -> Iterator[VideoFrame]:
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
                self.broken += 1
                in_a_row += 1
                if self._on_broken is not None:
                    self._on_broken()
                if in_a_row >= _BROKEN_IN_A_ROW:
                    break
                continue
            if frames:
                in_a_row = 0
            yield from frames
        self.broken += packets.errors


class _Clock:
    """Gives every frame a time later than the one before, whatever the file claims."""

    def __init__(self, interval_us: int, *, repaired: bool = False) -> None:
        self.repaired = repaired
        self._interval_us = interval_us
        self._last_us: int | None = None
        self._offset_us = 0
        self._run = 0  # frames in a row that claimed to be earlier than their predecessor
        self._run_claimed_us = 0
        self._run_base_us = 0

    def assign(self, claimed_us: int | None) -> int:
        """The time of the next frame, which claims `claimed_us` (None: it says nothing that can be believed)."""
        if self._last_us is None:
            self._last_us = max(0, claimed_us or 0)
        elif claimed_us is None:
            self._last_us += self._interval_us
        elif claimed_us + self._offset_us > self._last_us:
            self._run = 0
            self._last_us = claimed_us + self._offset_us
        else:
            self._last_us = self._put_right(claimed_us, self._last_us)
        return self._last_us

    def _put_right(self, claimed_us: int, last_us: int) -> int:
        """A frame out of order stands right behind its predecessor; many in a row are a clock that was set anew."""
        self.repaired = True
        if self._run == 0:
            self._run_claimed_us, self._run_base_us = claimed_us, last_us
        self._run += 1
        if self._run < _RESET_RUN:
            return last_us + 1
        self._run = 0
        self._offset_us = self._run_base_us + self._interval_us - self._run_claimed_us
        return max(last_us + 1, claimed_us + self._offset_us)

    def is_hole(self, claimed_us: int) -> bool:
        """Whether `claimed_us` is suspiciously far ahead."""
        return self._last_us is not None and claimed_us + self._offset_us > self._last_us + _HOLE_US

    def would_step_back_from(self, suspect_us: int, claimed_us: int) -> bool:
        """Whether the frame after a suspect one is where the suspect should have been."""
        back = claimed_us <= suspect_us and not self.is_hole(claimed_us)
        self.repaired |= back
        return back
