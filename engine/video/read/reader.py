"""Reads a video as clips: decodes it once, in order, and converts a frame only if a window needs it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import av.error
import numpy as np
from numpy.typing import NDArray

from vtag.engine.video.read.container import NO_PICTURE, UnusableVideo, VideoPath, error_text
from vtag.engine.video.read.convert import Converter
from vtag.engine.video.read.data_end import data_end
from vtag.engine.video.read.frames import FrameSource, TimedFrame
from vtag.engine.video.read.probe import StreamInfo, VideoInfo, probe_stream
from vtag.engine.video.read.sampling import (
    Sampling,
    Window,
    count_regular_windows,
    exact_start_us,
    frame_times_us,
    frame_tolerance_us,
    last_window,
    regular_window,
)
from vtag.engine.video.read.views import clip_size

Pixels = NDArray[np.uint8]
_SEEK_US = 15_000_000  # a longer stretch without a window is skipped by seeking
# Seeking in a transport stream may lead to a packet that is no key frame. Then an earlier target has to be tried.
_SEEK_MARGINS_US = (0, 3_000_000, 12_000_000)
_BEYOND_US = 1_000_000
_NOTABLE_MS = 500  # a smaller error of the claimed duration gives no note
_FOREVER_US = 1 << 62


@dataclass(frozen=True)
class Clip:
    """The pixels of one window: uint8 [V, T, H, W, 3], RGB."""

    start_ms: int
    end_ms: int
    pixels: Pixels


def read_clips(
    path: VideoPath,
    sampling: Sampling,
    *,
    skip: Callable[[int], bool] | Collection[int] = (),
    threads: int | None = None,
    card: str | None = None,
    allocate: Callable[[tuple[int, ...]], Pixels] | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_broken: Callable[[], None] | None = None,
) -> ClipReader:
    """The clips of the video at `path`, by start. After the last one the reader has the video's true duration.

    Args:
        path: the file.
        sampling: which windows, frames and pixels.
        skip: starts (ms) of windows to leave out, or a function that says whether to leave out the window at a start.
        threads: the most threads of the decoder; by default the number of cores.
        card: the number of the CUDA card that decodes; the processor if it cannot.
        allocate: returns the memory for a clip of a shape; by default new memory. Called when a clip is complete.
        on_progress: called for every packet with the time reached (ms).
        on_broken: called for every packet that cannot be decoded.

    Raises:
        VideoError: if nothing can be decoded.
        MemoryError: if libav gets no memory.
    """
    return ClipReader(path, sampling, skip, threads, card, allocate, on_progress, on_broken)


class ClipReader:
    """Iterates over the clips of one video, once.

    `info` is an estimate until the iteration ends, then what decoding found (unless `skip` left out the end).
    A window without a frame that begins in it gives no clip, except for the first one; `empty_windows` counts them.
    """

    def __init__(
        self,
        path: VideoPath,
        sampling: Sampling,
        skip: Callable[[int], bool] | Collection[int] = (),
        threads: int | None = None,
        card: str | None = None,
        allocate: Callable[[tuple[int, ...]], Pixels] | None = None,
        on_progress: Callable[[int], None] | None = None,
        on_broken: Callable[[], None] | None = None,
    ) -> None:
        self.stream_info: StreamInfo = probe_stream(path, is_exact=True, on_progress=on_progress)
        self.broken_packets = 0
        self.clip_count = 0  # clips returned so far
        self.empty_windows = 0
        self._path = path
        self._sampling = sampling
        self._skip: Callable[[int], bool] = skip if callable(skip) else frozenset(skip).__contains__
        self._tolerance_us = frame_tolerance_us(self.stream_info.interval_us)
        self._threads = threads
        self._card = card
        self._allocate = allocate or (lambda shape: np.empty(shape, np.uint8))
        self._on_progress = on_progress
        self._on_broken = on_broken
        size = clip_size((self.info.width, self.info.height), sampling)
        self.clip_shape = (sampling.view_count, sampling.frames, *size, 3)
        self._converter = Converter(sampling, self.stream_info.orientation, self.stream_info.aspect, size)
        self._clips = self._read()

    @property
    def info(self) -> VideoInfo:
        return self.stream_info.video

    @property
    def note(self) -> str:
        """What was wrong with a video that was decoded all the same, in a few words; empty if nothing was."""
        notes = []
        if self.broken_packets == 1:
            notes.append("1 broken packet was skipped")
        elif self.broken_packets:
            notes.append(f"{self.broken_packets} broken packets were skipped")
        claimed_ms, true_ms = self.stream_info.claimed_ms or 0, self.info.duration_ms
        if claimed_ms > true_ms + max(_NOTABLE_MS, true_ms // 20):
            notes.append(
                f"the file claims {claimed_ms / 1000:.1f} s, its pictures last {true_ms / 1000:.1f} s"
            )
        with contextlib.suppress(OSError):
            end, size = data_end(self._path), os.path.getsize(self._path)
            if end < size:
                notes.append(f"it ends early: the file has {end / 1e6:.0f} MB of {size / 1e6:.0f} MB")
        return "; ".join(notes)

    def __iter__(self) -> Iterator[Clip]:
        return self._clips

    def close(self) -> None:
        """Stop reading and close the file."""
        self._clips.close()

    def _read(self) -> Generator[Clip, None, None]:
        pending = _PendingWindows(self._sampling, self._skip, self.stream_info.end_us, self._tolerance_us)
        while pending.peek() is not None:
            with self._open_source() as source:
                reached_end = yield from self._decode_pass(source, pending)
                self.broken_packets = max(self.broken_packets, source.broken_packets)
            if not reached_end or pending.is_last_pass:
                break
            if not source.end_us:
                raise UnusableVideo(self._path, f"{NO_PICTURE} (none of its frames could be decoded)")
            # Decoding decides about the duration. Another duration may mean another window at the end.
            if not self._is_expected_end(source):
                self._correct_end(source.end_us)
            pending = pending.remaining_at_end(self.stream_info.end_us)

    def _open_source(self) -> FrameSource:
        return FrameSource(
            self._path,
            self.stream_info,
            threads=self._threads,
            card=self._card,
            on_progress=self._report_progress,
            on_broken=self._on_broken,
        )

    def _report_progress(self, time_us: int) -> None:
        if self._on_progress is not None:
            self._on_progress(time_us // 1000)

    def _is_expected_end(self, source: FrameSource) -> bool:
        return abs(source.end_us - self.stream_info.end_us) <= self.stream_info.interval_us / 2

    def _correct_end(self, end_us: int) -> None:
        video = replace(self.info, duration_ms=max(1, round(end_us / 1000)))
        self.stream_info = replace(self.stream_info, video=video, end_us=max(1, end_us))

    def _decode_pass(self, source: FrameSource, pending: _PendingWindows) -> Generator[Clip, None, bool]:
        """Decode the file once for the pending windows; returns whether the end was reached."""
        buffers: list[_WindowBuffer] = []
        jumped_to: Window | None = None
        previous: TimedFrame | None = None  # displayed until the next frame begins
        frames = source.frames()
        while True:
            window = pending.peek()
            if not buffers and window is None:
                return False
            if not buffers and window is not None and window != jumped_to and not source.is_repaired:
                gap_us = exact_start_us(window, self._sampling) - (previous.time_us if previous else 0)
                if gap_us > _SEEK_US:
                    previous, frames, jumped_to = None, self._jump(source, window), window
            frame = next(frames, None)
            if frame is None:
                break
            if previous is not None:
                yield from self._add_frame(previous, frame.time_us, buffers, pending)
            previous = frame
        if previous is not None:
            is_expected = self._is_expected_end(source) or pending.is_last_pass
            pending.end_at(self.stream_info.end_us if is_expected else source.end_us)
            yield from self._add_frame(previous, _FOREVER_US, buffers, pending)
        return True

    def _jump(self, source: FrameSource, window: Window) -> Iterator[TimedFrame]:
        """The frames from one before `window` on; from the first frame if seeking does not get there."""
        for margin_us in _SEEK_MARGINS_US:
            target_us = exact_start_us(window, self._sampling)
            if source.seek(target_us - margin_us):
                frames = source.frames()
                first = next(frames, None)
                if first is not None and first.time_us <= target_us + self._tolerance_us:
                    return chain([first], frames)
        source.restart()
        return source.frames()

    def _add_frame(
        self, frame: TimedFrame, until_us: int, buffers: list[_WindowBuffer], pending: _PendingWindows
    ) -> Iterator[Clip]:
        """Add a frame that is displayed until `until_us` to all windows that sample it; yields complete clips."""
        self._begin_windows(frame, until_us, buffers, pending)
        picture: Pixels | None = None
        for buffer in buffers:
            for position in buffer.take(until_us):
                if picture is None:
                    picture = self._convert(frame)
                buffer.pictures[position] = picture
        for buffer in list(buffers):
            if pending.is_over(buffer, until_us):
                buffers.remove(buffer)
                if pending.is_confirmed(buffer):
                    yield self._clip(buffer)

    def _begin_windows(
        self, frame: TimedFrame, until_us: int, buffers: list[_WindowBuffer], pending: _PendingWindows
    ) -> None:
        """Add a buffer for each window that begins before `until_us`, except for empty windows."""
        while (window := pending.peek()) is not None:
            start_us, end_us = exact_start_us(window, self._sampling), window.end_ms * 1000
            if start_us + self._tolerance_us >= until_us:
                return
            is_last = pending.pop()
            is_empty = (
                frame.time_us <= start_us - self._tolerance_us and until_us >= end_us - self._tolerance_us
            )
            if is_empty and window.start_ms > 0:
                self.empty_windows += 1
                pending.settle(window, is_last)
                continue
            times = frame_times_us(window, self._sampling, self.stream_info.end_us, self._tolerance_us)
            buffers.append(_WindowBuffer(window, times, is_last))

    def _convert(self, frame: TimedFrame) -> Pixels:
        try:
            return self._converter.convert(frame.frame)
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError) as error:
            reason = f"its pictures cannot be converted ({error_text(error)})"
            raise UnusableVideo(self._path, reason) from error

    def _clip(self, buffer: _WindowBuffer) -> Clip:
        pixels = self._allocate(self.clip_shape)
        for t, picture in enumerate(buffer.pictures):
            assert picture is not None
            pixels[:, t] = picture
        self.clip_count += 1
        return Clip(buffer.window.start_ms, buffer.window.end_ms, pixels)


class _WindowBuffer:
    """The pictures of a window that is not complete yet."""

    def __init__(self, window: Window, times_us: list[int], is_last: bool) -> None:
        self.window = window
        self.is_last = is_last  # whether its position follows from the video's duration
        self.pictures: list[Pixels | None] = [None] * len(times_us)
        self._missing = sorted(((time_us, t) for t, time_us in enumerate(times_us)), reverse=True)

    @property
    def is_complete(self) -> bool:
        return not self._missing

    def take(self, until_us: int) -> Iterator[int]:
        """The positions without a picture whose times are before `until_us`; they are then not missing any more."""
        while self._missing and self._missing[-1][0] < until_us:
            yield self._missing.pop()[1]


class _PendingWindows:
    """The windows to come, by start. There is never a list of them, because a file may claim any duration.

    Whole windows go on as long as there are frames. The last one follows from the estimated duration, and counts only
    after the duration is confirmed.
    """

    def __init__(
        self,
        sampling: Sampling,
        skip: Callable[[int], bool],
        end_us: int,
        tolerance_us: int,
        *,
        only_last: bool = False,
    ) -> None:
        self.is_last_pass = only_last
        self._sampling = sampling
        self._skip = skip
        self._tolerance_us = tolerance_us
        end_ms = _milliseconds(end_us)
        self._k = 0  # of the next regular window
        self._expected_count = count_regular_windows(end_ms, sampling)  # by the estimated duration
        self._end_ms: int | None = end_ms if only_last else None  # the confirmed end
        last = last_window(end_ms, sampling)
        self._last = None if last is None or skip(last.start_ms) else last  # not taken yet
        # Behind the estimated end windows go on if the window before was not skipped.
        self._continues = self._expected_count == 0
        self._settled: Window | None = None  # the last window, after it gave a clip or was empty

    def peek(self) -> Window | None:
        """The next window, or None if there is none."""
        regular = None if self.is_last_pass else self._next_regular()
        if self._last is None or (regular is not None and regular.start_ms <= self._last.start_ms):
            return regular
        return self._last

    def pop(self) -> bool:
        """Remove the window that `peek()` returns; returns whether it is the last one."""
        if self._last is not None and self.peek() is self._last:
            self._last = None
            return True
        self._k += 1
        return False

    def _next_regular(self) -> Window | None:
        count = self._expected_count
        if self._end_ms is not None:
            count = count_regular_windows(self._end_ms, self._sampling)
        while True:
            if self._k >= count and (self._end_ms is not None or not self._continues):
                return None
            window = regular_window(self._k, self._sampling)
            self._continues = not self._skip(window.start_ms)
            if self._continues:
                return window
            self._k += 1

    def settle(self, window: Window, is_last: bool) -> None:
        """`window` is done; if it is the last one, no second pass is needed for it."""
        if is_last:
            self._settled = window

    def end_at(self, end_us: int) -> None:
        """The video ends at `end_us`: there is no window behind it."""
        self._end_ms = _milliseconds(end_us)
        if self._last is not None and self._last != last_window(self._end_ms, self._sampling):
            self._last = None

    def is_over(self, buffer: _WindowBuffer, until_us: int) -> bool:
        """Whether `buffer` is complete and a frame that is displayed at `until_us` is behind its window.

        The last window waits for the end itself, or for a frame that is clearly behind it.
        """
        beyond_us = _BEYOND_US if buffer.is_last else -self._tolerance_us
        return buffer.is_complete and until_us >= buffer.window.end_ms * 1000 + beyond_us

    def is_confirmed(self, buffer: _WindowBuffer) -> bool:
        """Whether the window of `buffer`, which is over, exists in a video of the true duration."""
        if not buffer.is_last:
            return self._end_ms is None or buffer.window.end_ms <= self._end_ms
        if self._end_ms is None or buffer.window != last_window(self._end_ms, self._sampling):
            return False
        self.settle(buffer.window, buffer.is_last)
        return True

    def remaining_at_end(self, end_us: int) -> _PendingWindows:
        """What needs a second pass now that the duration is known: the last window, or nothing."""
        remaining = _PendingWindows(self._sampling, self._skip, end_us, self._tolerance_us, only_last=True)
        if remaining._last is not None and remaining._last == self._settled:
            remaining._last = None
        return remaining


def _milliseconds(us: int) -> int:
    return max(1, round(us / 1000))
