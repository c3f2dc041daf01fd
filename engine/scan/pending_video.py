"""What a running scan knows of each of its videos."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vtag.engine.library.analysis.derive import MomentCounts
from vtag.engine.library.store.file_stat import file_stat
from vtag.engine.scan.inference_thread import WindowFeatures
from vtag.engine.scan.plan import ScanTask
from vtag.engine.system.silent_disks import describe_error
from vtag.engine.video.decode.messages import DecodeDone
from vtag.engine.video.read.fingerprint import NO_FINGERPRINT, Fingerprint


@dataclass
class VideoPass:
    """The windows of one video in the current pass: decoded, computed, not stored yet."""

    is_last: bool  # the pass scans all windows that are left
    fingerprint: Fingerprint = NO_FINGERPRINT
    decoded: DecodeDone | None = None  # set when all of its windows are there
    windows: list[tuple[int, int]] = field(default_factory=list)  # start_ms, end_ms
    features: list[NDArray[np.float32] | NDArray[np.float16]] = field(default_factory=list)  # [V, D] each
    covered_ms: int = 0  # of video, by these windows

    def add(self, window: WindowFeatures, length_ms: int) -> None:
        """Take the features of one window, which covers `length_ms` of the video."""
        self.windows.append((window.start_ms, window.end_ms))
        self.features.append(window.features)
        self.covered_ms += length_ms


@dataclass
class PendingVideo:
    """A video of the scan, from the first pass to the last."""

    job_id: int  # its index in the plan, and its id in the decode pool
    task: ScanTask
    earlier_starts: frozenset[int]  # starts (ms) of the windows that earlier scans stored
    stored_starts: frozenset[int]  # and of all that are stored by now
    needs_pass: bool = True  # windows are left
    is_stored: bool = False  # this scan stored some of its windows
    replaces_stored: bool = False  # its next windows take the place of those of earlier scans
    is_dropped: bool = False  # it failed, changed, or is a copy of a scanned video
    covered_ms: int = 0  # of video, by the windows that this scan computed
    moments: MomentCounts = field(default=MomentCounts(0, 0))
    current: VideoPass | None = None  # while a pass scans it

    def take_over(self, starts: frozenset[int]) -> None:
        """Take note of the windows that are stored by now, some of them by another scan."""
        self.earlier_starts |= starts - self.stored_starts
        self.stored_starts = starts

    @property
    def is_done(self) -> bool:
        """Whether something of it can be searched, or it was dropped."""
        return self.is_stored or self.is_dropped

    def has_changed(self) -> bool:
        """Whether its file is not what was planned: then its features belong to no known content."""
        file = self.task.files[0]
        try:
            info = file_stat(os.stat(file.path))
        except OSError:
            return True
        return (info.size_bytes, info.mtime_ns) != (file.size_bytes, file.mtime_ns)

    def absence(self) -> str | None:
        """Why its file is not there any more: it is gone, or its disk or share is. None if it is there."""
        path = self.task.files[0].path
        try:
            os.stat(path)
        except FileNotFoundError:
            return "the file went away while it was read"
        except OSError as error:
            return describe_error(error, path)
        return None
