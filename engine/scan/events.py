"""The events of a scan: frozen records that the terminal draws and a job writes into its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class BackendOpened:
    """The model is loaded; the first event of a scan that has something to scan."""

    model: str
    backend: str
    device: str
    precision: str


@dataclass(frozen=True)
class NodeJoined:
    """A node of a cluster has loaded the model and takes videos from now on."""

    node: str
    backend: str
    device: str
    precision: str


@dataclass(frozen=True)
class NodeLost:
    """A node of a cluster takes no more videos; those that it had go to others."""

    node: str
    videos: int
    reason: str
    has_joined: bool = True  # False: it never loaded the model


@dataclass(frozen=True)
class ScanPlanned:
    """What there is to scan, before the first video is decoded."""

    videos: int  # to scan
    video_ms: int  # their total length, partly estimated from file sizes
    skipped: int  # scanned before, unchanged since
    known_failed: int  # failed before, unchanged since
    excluded: int  # hidden, system and trash folders, cloud placeholders, ignore rules
    estimate_s: float | None  # how long the scan will take; None if the lengths are unknown


@dataclass(frozen=True)
class ClocksPlanned:
    """So many videos were scanned by a vtag that did not read their clocks: they are opened once more."""

    videos: int


@dataclass(frozen=True)
class ScanProgress:
    """How far a scan is."""

    videos_done: int
    video_ms_done: int
    windows_done: int
    video_ms: int  # total; the estimate improves as videos are opened
    shares: Mapping[str, int] = field(default_factory=dict)  # windows by node of a cluster


@dataclass(frozen=True)
class VideosElsewhere:
    """All that is left is under way in other scans of the library: this one waits, and takes over what they leave."""

    videos: int
    pids: tuple[int, ...]  # of their processes, as far as the system tells


@dataclass(frozen=True)
class PassFinished:
    """A pass over all videos is finished; its windows can be searched."""

    number: int  # from 1
    passes: int
    scanned_ms: int  # of video, by all passes of this scan


@dataclass(frozen=True)
class VideoScanned:
    """All windows of a video are in the library."""

    path: bytes
    windows: int
    duration_ms: int
    moments: int
    note: str = ""  # a defect of the file that did not keep it from being read


@dataclass(frozen=True)
class VideoScanFailed:
    """A video could not be read; the scan continues with the others."""

    path: bytes
    error: str


@dataclass
class ScanProfile:
    """How long the parts of a scan took. They run in parallel, so their sum exceeds `wall_s`."""

    wall_s: float = 0.0
    model_s: float = 0.0  # wall time in calls of the model
    store_s: float = 0.0  # wall time of writing to the library
    decode_s: float = 0.0  # processor time of the decoding processes
    clips: int = 0
    batches: int = 0

    @property
    def wait_s(self) -> float:
        """How long the model had no clip to compute."""
        return max(0.0, self.wall_s - self.model_s)

    @property
    def limit(self) -> str:
        """What limited the scan's speed."""
        return "the model" if self.model_s >= 0.9 * self.wall_s else "decoding"


@dataclass(frozen=True)
class ScanFinished:
    """The totals of a scan; its last event."""

    scanned: int
    skipped: int
    known_failed: int
    failed: tuple[VideoScanFailed, ...]
    windows: int
    video_ms: int
    wall_s: float
    moments: int = 0  # sure ones
    videos_with_moments: int = 0
    less_sure: int = 0  # moments below their label's threshold
    excluded: tuple[tuple[bytes, str], ...] = field(default=())  # path, reason
    unfinished: int = 0  # videos with windows left for later passes
    profile: ScanProfile | None = None
    elsewhere: int = 0  # files that another scan scanned at the same time


@dataclass(frozen=True)
class WatchStatus:
    """The folders that a watch watches from now on, and those that are missing."""

    present: tuple[bytes, ...]
    absent: tuple[bytes, ...]
    polling: bool  # whether the folders are walked regularly, since the system reports no changes


ScanEvent = (
    WatchStatus
    | BackendOpened
    | NodeJoined
    | NodeLost
    | ScanPlanned
    | ClocksPlanned
    | ScanProgress
    | VideosElsewhere
    | PassFinished
    | VideoScanned
    | VideoScanFailed
    | ScanFinished
)
