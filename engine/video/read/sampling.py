"""Which frames of a video are sampled: windows, frame times, and the published samplers. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal

PIPELINE_VERSION = 1  # of all code between a file and the pixels of a clip; results are valid for one version

View = Literal["center", "full", "three"]
VIEWS: tuple[View, ...] = ("center", "full", "three")

# How much later than its sampling time a frame may begin. At least 1 ms: with a time base of 1 ms, the time of the
# first frame and of this frame are each rounded by up to half a unit. Else an eighth of the frame interval: 29.97
# frames a second fall behind 30 by 2 ms in a window, and every second frame is still the right one. At most 5 ms.
MIN_TOLERANCE_US = 1000
_MAX_TOLERANCE_US = 5000


@dataclass(frozen=True)
class Window:
    """A stretch of a video, half-open, in milliseconds from the first displayed frame."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True)
class Sampling:
    """How a video is sampled: a window has `frames` at `rate` a second, and begins every `stride_ms`.

    `short_side` and `crop` are pixels. `view` is the part of the picture (`views.py` has the sizes).
    Raises ValueError if the numbers do not fit together.
    """

    frames: int
    rate: float
    stride_ms: int
    view: str = "center"
    short_side: int = 256
    crop: int = 224
    version: int = PIPELINE_VERSION

    def __post_init__(self) -> None:
        if not (isinstance(self.frames, int) and 1 <= self.frames <= 4096):
            raise ValueError(f"frames has to be a whole number from 1 to 4096, not {self.frames!r}")
        if not 0 < self.rate <= 1000:
            raise ValueError(f"rate has to be above 0 and at most 1000 a second, not {self.rate!r}")
        if not (isinstance(self.stride_ms, int) and self.stride_ms >= 1):
            raise ValueError(f"stride_ms has to be a whole number from 1 on, not {self.stride_ms!r}")
        if self.view not in VIEWS:
            raise ValueError(f"view has to be one of {', '.join(VIEWS)}, not {self.view!r}")
        if not 1 <= self.crop <= self.short_side <= 4096:
            raise ValueError(f"crop {self.crop!r} and short_side {self.short_side!r} do not fit together")

    @classmethod
    def create(
        cls,
        frames: int,
        rate: float,
        *,
        stride_s: float | None = None,
        view: str = "center",
        short_side: int = 256,
        crop: int = 224,
    ) -> Sampling:
        """A sampling with a stride in seconds; by default windows follow each other without gap or overlap."""
        stride_ms = int(_length_ms(frames, rate)) if stride_s is None else round(stride_s * 1000)
        return cls(frames, rate, max(1, stride_ms), view, short_side, crop)

    @property
    def view_count(self) -> int:
        """How many crops a window has; each has its own features."""
        return 3 if self.view == "three" else 1

    @cached_property
    def window_ms(self) -> int:
        """The length of a window, rounded down."""
        return max(1, int(_length_ms(self.frames, self.rate)))

    @cached_property
    def stride(self) -> Fraction:
        """Exact milliseconds from one window's start to the next; not rounded if the stride is a window's length.

        So windows of 32 frames at 15 a second begin at 0, 2133, 4266, 6400 ms and do not drift from the frames.
        """
        exact = _length_ms(self.frames, self.rate)
        return exact if self.stride_ms == self.window_ms and exact >= 1 else Fraction(self.stride_ms)

    def key(self) -> str:
        """Canonical text of everything that the pixels depend on; equal keys mean equal clips."""
        picture = {
            "center": f"{self.short_side}/{self.crop}",
            "full": f"{self.short_side}",
            "three": f"{self.crop}",  # as the published test protocol: short side = crop
        }[self.view]
        return f"v{self.version} {self.frames}@{self.rate:.9g} every {self.stride_ms}ms {self.view} {picture}"


def _length_ms(frames: int, rate: float) -> Fraction:
    """The exact length of `frames` at `rate` a second; a rate like 29.97 is the decimal number as written."""
    return frames * 1000 / Fraction(rate).limit_denominator(1_000_000)


def regular_window(k: int, sampling: Sampling) -> Window:
    """The k-th window of a long video, k from 0."""
    start = k * sampling.stride
    return Window(int(start), int(start + _length_ms(sampling.frames, sampling.rate)))


def count_regular_windows(end_ms: int, sampling: Sampling) -> int:
    """How many whole windows fit into a video of `end_ms`."""
    if end_ms < sampling.window_ms:
        return 0
    k = int((end_ms - sampling.window_ms) / sampling.stride)
    while regular_window(k, sampling).end_ms > end_ms:
        k -= 1
    while regular_window(k + 1, sampling).end_ms <= end_ms:
        k += 1
    return k + 1


def window_start_at(share: float, end_ms: int, sampling: Sampling) -> int:
    """The start (ms) of the whole window at `share` (0 first, 1 last) in a video of `end_ms`; 0 if none fits."""
    count = count_regular_windows(end_ms, sampling)
    return regular_window(min(int(share * count), count - 1), sampling).start_ms if count else 0


def last_window(end_ms: int, sampling: Sampling) -> Window | None:
    """The window that ends at the end of the video; None if the regular windows leave at most half a window.

    If the video is shorter than a window, this is the whole video.
    """
    if end_ms <= 0:
        return None
    if end_ms < sampling.window_ms:
        return Window(0, end_ms)
    covered_ms = regular_window(count_regular_windows(end_ms, sampling) - 1, sampling).end_ms
    if 2 * (end_ms - covered_ms) <= sampling.window_ms:
        return None
    return Window(end_ms - sampling.window_ms, end_ms)


def count_windows(end_ms: int, sampling: Sampling) -> int:
    """How many windows `plan_windows` returns."""
    return count_regular_windows(end_ms, sampling) + (last_window(end_ms, sampling) is not None)


def plan_windows(end_ms: int, sampling: Sampling) -> list[Window]:
    """The windows of a video of `end_ms`, by start: 0, s, 2s ..., and `last_window` if there is one."""
    windows = [regular_window(k, sampling) for k in range(count_regular_windows(end_ms, sampling))]
    last = last_window(end_ms, sampling)
    return windows if last is None else [*windows, last]


def exact_start_us(window: Window, sampling: Sampling) -> int:
    """The exact start of `window` in microseconds; `start_ms` is rounded down."""
    k = -(-window.start_ms * sampling.stride.denominator // sampling.stride.numerator)  # rounded up
    exact = k * sampling.stride
    return round(exact * 1000) if int(exact) == window.start_ms else window.start_ms * 1000


def frame_tolerance_us(interval_us: int) -> int:
    """How much later than its sampling time a frame may begin, at a usual frame interval of `interval_us`."""
    return max(MIN_TOLERANCE_US, min(interval_us // 8, _MAX_TOLERANCE_US))


def frame_times_us(
    window: Window,
    sampling: Sampling,
    end_us: int | None = None,
    tolerance_us: int = MIN_TOLERANCE_US,
) -> list[int]:
    """The sampling times of the frames of `window`, in order: microseconds after the first displayed frame.

    Each time selects the last frame that begins at or before it. The tolerance for rounded times is included.
    A window shorter than `sampling.window_ms` is a whole short video: its times wrap around at `end_us`.

    Args:
        window: the window.
        sampling: how it is sampled.
        end_us: the exact duration of a short video; by default the window's end.
        tolerance_us: see `frame_tolerance_us`.
    """
    first = exact_start_us(window, sampling)
    rate = Fraction(sampling.rate).limit_denominator(1_000_000)
    times_us = [first + round(k * 1_000_000 / rate) + tolerance_us for k in range(sampling.frames)]
    if window.end_ms - window.start_ms >= sampling.window_ms:
        return times_us
    duration_us = max(1, end_us if end_us is not None else window.end_ms * 1000)
    return [time_us % duration_us for time_us in times_us]


# --- the published samplers, by frame index ---------------------------------------------------------------------

PublishedProtocol = Literal["clip", "test"]
PROTOCOL_CLIPS: dict[str, int] = {"clip": 1, "test": 4}


def published_indices(
    frame_count: int, protocol: PublishedProtocol, *, frames: int = 32, step: int = 2
) -> list[list[int]]:
    """The frame indices of each clip, as PaddleVideo's `Sampler` chooses them (dense, test mode).

    Clips are spread evenly, with half a spacing before the first. If a video is shorter than a clip, its clips start
    at 0 and wrap around. Raises ValueError for an unknown protocol or a video without frames.
    """
    if protocol not in PROTOCOL_CLIPS:
        raise ValueError(f"protocol has to be one of {', '.join(PROTOCOL_CLIPS)}, not {protocol!r}")
    if frame_count < 1:
        raise ValueError("a video without frames has no clips")
    clips, span = PROTOCOL_CLIPS[protocol], frames * step
    spacing = (frame_count - span + 1) / clips
    starts = [int(k * spacing + spacing / 2) if frame_count > span - 1 else 0 for k in range(clips)]
    return [[(start + k * step) % frame_count for k in range(frames)] for start in starts]


def training_indices(frame_count: int, share: float, *, frames: int = 32, step: int = 2) -> list[int]:
    """Frame indices of a training clip from `share` (0 to 1) of the possible starts; a short video repeats."""
    starts = max(1, frame_count - frames * step + 1)
    start = min(int(share * starts), starts - 1)
    return [(start + k * step) % frame_count for k in range(frames)]
