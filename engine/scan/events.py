"""What a scan says while it runs: small frozen facts that a terminal draws, a job stores, a page reads."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Running:
    """What runs where: the scan's first line."""

    model: str
    backend: str
    device: str
    precision: str


@dataclass(frozen=True)
class Planned:
    """What there is to do, before the first video is opened for looking."""

    videos: int  # to look at
    video_ms: int  # their length together, estimated where nobody read them yet
    skipped: int  # looked at before, unchanged
    known_failed: int  # failed before, unchanged
    left_out: int  # in hidden, system and trash folders, placeholders
    estimate_s: float | None  # how long it will take; None where nothing is known yet


@dataclass(frozen=True)
class Progress:
    """How far a scan has come."""

    videos_done: int
    video_ms_done: int
    windows_done: int
    video_ms: int  # of all there is to look at, better known as it is read


@dataclass(frozen=True)
class PassDone:
    """One of several passes over all videos is through: what it saw can be searched."""

    number: int  # from 1
    passes: int
    seen_ms: int  # of video, by all passes of this scan


@dataclass(frozen=True)
class VideoDone:
    """One video was looked at to its end and is in the library."""

    path: bytes
    windows: int
    duration_ms: int
    moments: int
    note: str = ""  # what was wrong with a video that was read all the same


@dataclass(frozen=True)
class VideoFailed:
    """One video could not be read; the others go on."""

    path: bytes
    error: str


@dataclass
class Profile:
    """How the time of a scan went, in seconds of the wall's clock; the parts run beside each other."""

    wall_s: float = 0.0
    model_s: float = 0.0  # the model at work
    store_s: float = 0.0  # the library written
    decode_s: float = 0.0  # processor time of the decoding processes
    clips: int = 0
    batches: int = 0

    @property
    def wait_s(self) -> float:
        """The model without a clip."""
        return max(0.0, self.wall_s - self.model_s)

    @property
    def limit(self) -> str:
        """What the scan waited for."""
        return "the model" if self.model_s >= 0.9 * self.wall_s else "decoding"


@dataclass(frozen=True)
class Finished:
    """The sum of a scan."""

    scanned: int
    skipped: int
    known_failed: int
    failed: tuple[VideoFailed, ...]
    windows: int
    video_ms: int
    wall_s: float
    moments: int = 0
    left_out: tuple[tuple[bytes, str], ...] = field(default=())  # path, why
    unfinished: int = 0  # videos that later passes have to fill
    profile: Profile | None = None


@dataclass(frozen=True)
class Watching:
    """Folders that are watched from now on, and those that are waited for."""

    there: tuple[bytes, ...]
    absent: tuple[bytes, ...]
    polling: bool  # whether they are walked every now and then, instead of the system telling of changes


Event = Watching | Running | Planned | Progress | PassDone | VideoDone | VideoFailed | Finished
