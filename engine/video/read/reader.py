"""A video as clips: decoded once, in order, each frame converted once and only if a window wants it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import av.error
import numpy as np
from numpy.typing import NDArray

from vtag.engine.video.read.container import NO_PICTURE, UnusableVideo, error_text
from vtag.engine.video.read.convert import Converter
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
_SEEK_US = 15_000_000  # a stretch that no window wants is jumped over when it is longer than this
# Transport streams lead to any packet: then a place earlier by a group of pictures has to be tried.
_SEEK_MARGINS_US = (0, 3_000_000, 12_000_000)
_BEYOND_US = 1_000_000
_NOTABLE_MS = 500  # a claimed length that is off by less is not worth a word
_FOREVER_US = 1 << 62


@dataclass(frozen=True)
class Clip:
    """What was seen in one window: `pixels` uint8 [V, T, H, W, 3], RGB."""

    start_ms: int
    end_ms: int
    pixels: Pixels


def read_clips(
    path: str | bytes | os.PathLike[str],
    sampling: Sampling,
    *,
    skip: Callable[[int], bool] | Collection[int] = (),
    threads: int | None = None,
    allocate: Callable[[tuple[int, ...]], Pixels] | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_broken: Callable[[], None] | None = None,
) -> ClipReader:
    """The clips of the video at `path`, by start; after the last one the reader knows the video's true length.

    Args:
        skip: starts (ms) of windows that are known already, or a function that says so of a start.
        threads: at most so many for decoding; by default as many as there are cores.
        allocate: where a clip's pixels go, by shape; by default new memory. Called when a clip is complete.
        tick: called for every packet with the milliseconds decoded so far.
        on_broken: called for every packet that cannot be decoded.

    Raises VideoError where nothing can be decoded, MemoryError where libav gets no memory.
    """
    return ClipReader(path, sampling, skip, threads, allocate, on_progress, on_broken)


class ClipReader:
    """Iterates over the clips of one video, once.

    `info` is an estimate until the iteration ends, then what decoding found (unless `skip` left out the end).
    A window in whose span no frame begins is not looked at (the first one excepted): `empty` counts them.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str],
        sampling: Sampling,
        skip: Callable[[int], bool] | Collection[int] = (),
        threads: int | None = None,
        allocate: Callable[[tuple[int, ...]], Pixels] | None = None,
        on_progress: Callable[[int], None] | None = None,
        on_broken: Callable[[], None] | None = None,
    ) -> None:
        self.facts: StreamInfo = probe_stream(path)
        self.broken_packets = 0
        self.looked = 0  # clips given out
        self.empty = 0
        self._path = path
        self._sampling = sampling
        self._skip: Callable[[int], bool] = skip if callable(skip) else frozenset(skip).__contains__
        self._tolerance_us = frame_tolerance_us(self.facts.interval_us)
        self._threads = threads
        self._allocate = allocate or (lambda shape: np.empty(shape, np.uint8))
        self._on_progress = on_progress
        self._on_broken = on_broken
        size = clip_size((self.info.width, self.info.height), sampling)
        self.clip_shape = (sampling.view_count, sampling.frames, *size, 3)
        self._converter = Converter(sampling, self.facts.orientation, self.facts.aspect, size)
        self._clips = self._read()

    @property
    def info(self) -> VideoInfo:
        return self.facts.info

    @property
    def note(self) -> str:
        """What was wrong with a video that was read all the same, in a few words; empty when nothing was."""
        notes = []
        if self.broken_packets:
            some = (
                "1 broken packet was"
                if self.broken_packets == 1
                else f"{self.broken_packets} broken packets were"
            )
            notes.append(f"{some} skipped")
        claimed_ms, true_ms = self.facts.claimed_ms or 0, self.info.duration_ms
        if claimed_ms > true_ms + max(_NOTABLE_MS, true_ms // 20):
            notes.append(
                f"the file claims {claimed_ms / 1000:.1f} s, its pictures last {true_ms / 1000:.1f} s"
            )
        return "; ".join(notes)

    def __iter__(self) -> Iterator[Clip]:
        return self._clips

    def close(self) -> None:
        """Stop reading and close the file."""
        self._clips.close()

    def _read(self) -> Generator[Clip, None, None]:
        pending = _Windows(self._sampling, self._skip, self.facts.end_us, self._tolerance_us)
        while pending.peek() is not None:
            with self._source() as source:
                ended = yield from self._look(source, pending)
                self.broken_packets = max(self.broken_packets, source.broken)
            if not ended or pending.is_last_pass:
                break
            if not source.end_us:
                raise UnusableVideo(self._path, f"{NO_PICTURE} (none of its frames could be decoded)")
            # Decoding has the last word on the length; then the window at the end may be another one.
            if abs(source.end_us - self.facts.end_us) > self.facts.interval_us / 2:
                self._correct_end(source.end_us)
            pending = pending.left_at_end(self.facts.end_us)

    def _source(self) -> FrameSource:
        return FrameSource(
            self._path,
            self.facts,
            threads=self._threads,
            on_progress=self._report_progress,
            on_broken=self._on_broken,
        )

    def _report_progress(self, time_us: int) -> None:
        if self._on_progress is not None:
            self._on_progress(time_us // 1000)

    def _correct_end(self, end_us: int) -> None:
        info = replace(self.info, duration_ms=max(1, round(end_us / 1000)))
        self.facts = replace(self.facts, info=info, end_us=max(1, end_us))

    def _look(self, source: FrameSource, pending: _Windows) -> Generator[Clip, None, bool]:
        """One way through the file for `pending`; returns whether the end was reached."""
        looks: list[_Look] = []
        sought: Window | None = None
        held: TimedFrame | None = None
        frames = source.frames()
        while True:
            wanted = pending.peek()
            if not looks and wanted is None:
                return False
            if not looks and wanted is not None and wanted != sought and not source.repaired:
                gap_us = exact_start_us(wanted, self._sampling) - (held.time_us if held else 0)
                if gap_us > _SEEK_US:
                    held, frames, sought = None, self._jump(source, wanted), wanted
            timed = next(frames, None)
            if timed is None:
                break
            if held is not None:
                yield from self._show(held, timed.time_us, looks, pending)
            held = timed
        if held is not None:
            close = abs(source.end_us - self.facts.end_us) <= self.facts.interval_us / 2
            pending.end_at(self.facts.end_us if close or pending.is_last_pass else source.end_us)
            yield from self._show(held, _FOREVER_US, looks, pending)
        return True

    def _jump(self, source: FrameSource, window: Window) -> Iterator[TimedFrame]:
        """The frames from one before `window` on; from the very first where no nearer one can be reached."""
        for margin_us in _SEEK_MARGINS_US:
            target_us = exact_start_us(window, self._sampling)
            if source.seek(target_us - margin_us):
                frames = source.frames()
                first = next(frames, None)
                if first is not None and first.time_us <= target_us + self._tolerance_us:
                    return chain([first], frames)
        source.restart()
        return source.frames()

    def _show(self, held: TimedFrame, until_us: int, looks: list[_Look], pending: _Windows) -> Iterator[Clip]:
        """Give the frame on screen until `until_us` to all windows that look at it; yield what is complete."""
        while (window := pending.peek()) is not None:
            begins_us = exact_start_us(window, self._sampling)
            if begins_us + self._tolerance_us >= until_us:
                break
            is_last = pending.pop()
            ends_us = window.end_ms * 1000
            in_hole = (
                held.time_us <= begins_us - self._tolerance_us and until_us >= ends_us - self._tolerance_us
            )
            if in_hole and window.start_ms > 0:
                self.empty += 1
                pending.settle(window, is_last)
                continue
            times = frame_times_us(window, self._sampling, self.facts.end_us, self._tolerance_us)
            looks.append(_Look(window, times, is_last))
        picture: Pixels | None = None
        for look in looks:
            for position in look.take(until_us):
                if picture is None:
                    picture = self._convert(held)
                look.pictures[position] = picture
        for look in list(looks):
            if pending.is_over(look, until_us):
                looks.remove(look)
                if pending.is_confirmed(look):
                    yield self._clip(look)

    def _convert(self, timed: TimedFrame) -> Pixels:
        try:
            return self._converter.convert(timed.frame)
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError) as error:
            raise UnusableVideo(
                self._path, f"its pictures cannot be converted ({error_text(error)})"
            ) from error

    def _clip(self, look: _Look) -> Clip:
        pixels = self._allocate(self.clip_shape)
        for t, picture in enumerate(look.pictures):
            assert picture is not None
            pixels[:, t] = picture
        self.looked += 1
        return Clip(look.window.start_ms, look.window.end_ms, pixels)


class _Look:
    """A window that is being filled with pictures."""

    def __init__(self, window: Window, times: list[int], is_last: bool) -> None:
        self.window = window
        self.is_last = is_last  # follows from the video's length
        self.pictures: list[Pixels | None] = [None] * len(times)
        self._waiting = sorted(((time, t) for t, time in enumerate(times)), reverse=True)

    @property
    def is_complete(self) -> bool:
        return not self._waiting

    def take(self, until_us: int) -> Iterator[int]:
        """The positions whose instants lie before `until_us` and have no picture yet."""
        while self._waiting and self._waiting[-1][0] < until_us:
            yield self._waiting.pop()[1]


class _Windows:
    """The windows that are still to be looked at, by start; the list is never made, whatever length is claimed.

    Whole windows go on for as long as there are frames. The one at the end follows from the estimated length and
    counts only once that is confirmed.
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
        self._k = 0
        self._expected = count_regular_windows(end_ms, sampling)  # so many whole windows by the estimate
        self._end_ms: int | None = end_ms if only_last else None  # the confirmed end
        last = last_window(end_ms, sampling)
        self._last = None if last is None or skip(last.start_ms) else last  # waiting
        # Behind the estimated end there are windows as long as those before it are wanted.
        self._goes_on = self._expected == 0
        self._settled: Window | None = None  # the window at the end, once it was looked at or found empty

    def peek(self) -> Window | None:
        """The next window, or None when nothing is wanted any more."""
        regular = None if self.is_last_pass else self._next_regular()
        if self._last is None or (regular is not None and regular.start_ms <= self._last.start_ms):
            return regular
        return self._last

    def pop(self) -> bool:
        """Take `peek()`'s window out; returns whether it is the one at the end."""
        if self._last is not None and self.peek() is self._last:
            self._last = None
            return True
        self._k += 1
        return False

    def _next_regular(self) -> Window | None:
        most = self._expected if self._end_ms is None else count_regular_windows(self._end_ms, self._sampling)
        while True:
            if self._k >= most and (self._end_ms is not None or not self._goes_on):
                return None
            window = regular_window(self._k, self._sampling)
            self._goes_on = not self._skip(window.start_ms)
            if self._goes_on:
                return window
            self._k += 1

    def settle(self, window: Window, is_last: bool) -> None:
        """`window` was dealt with; the one at the end needs no second look."""
        if is_last:
            self._settled = window

    def end_at(self, end_us: int) -> None:
        """The video ends there: nothing behind it is wanted."""
        self._end_ms = _milliseconds(end_us)
        if self._last is not None and self._last != last_window(self._end_ms, self._sampling):
            self._last = None

    def is_over(self, look: _Look, until_us: int) -> bool:
        """Whether `look` is complete and a frame that is shown at `until_us` lies behind it.

        A window that follows from the length waits for the end itself, or for a frame that is clearly behind it.
        """
        beyond_us = _BEYOND_US if look.is_last else -self._tolerance_us
        return look.is_complete and until_us >= look.window.end_ms * 1000 + beyond_us

    def is_confirmed(self, look: _Look) -> bool:
        """Whether `look`, which is over, is a window of this video as long as it turned out to be."""
        if not look.is_last:
            return self._end_ms is None or look.window.end_ms <= self._end_ms
        if self._end_ms is None or look.window != last_window(self._end_ms, self._sampling):
            return False
        self.settle(look.window, look.is_last)
        return True

    def left_at_end(self, end_us: int) -> _Windows:
        """What has to be looked at once more, now that the length is known: the window at the end, if any."""
        left = _Windows(self._sampling, self._skip, end_us, self._tolerance_us, only_last=True)
        if left._last is not None and left._last == self._settled:
            left._last = None
        return left


def _milliseconds(us: int) -> int:
    return max(1, round(us / 1000))
