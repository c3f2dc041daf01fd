"""Which videos a scan has under way: two scans of one library share the work instead of doing it twice.

A scan claims a video when it gives it to the pipeline, and releases it when its windows are stored. What another scan
has claimed waits until nothing else is left, and is then looked at again: the other scan stored it, or it ended and
left it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.pending_video import PendingVideo
from vtag.engine.scan.writer import ScanWriter, StoredVideo
from vtag.engine.system.locks import ClaimFile

_log = logging.getLogger(__name__)
_SUFFIX = ".scans"  # of the claim file beside the library
_RETRY_S = 0.5  # between two looks at what other scans have under way


class VideoClaims:
    """The claims of a scan on videos, for one backbone and one sampling, while it is entered as a context manager."""

    def __init__(self, library: Path, backbone_hash: str, sampling_key: str) -> None:
        self._path = library.with_name(library.name + _SUFFIX)
        self._prefix = f"{backbone_hash} {sampling_key} "
        self._file: ClaimFile | None = None

    def claim(self, video: PendingVideo) -> bool:
        """Claim a video; False if another scan has it under way."""
        return self._file is None or self._file.claim(self._name(video))

    def release(self, video: PendingVideo) -> None:
        """Let other scans have a video."""
        if self._file is not None:
            self._file.release(self._name(video))

    def holders(self, videos: Iterable[PendingVideo]) -> set[int]:
        """The ids of the processes that have videos under way, as far as the system tells."""
        if self._file is None:
            return set()
        return {pid for video in videos if (pid := self._file.holder(self._name(video))) is not None}

    def _name(self, video: PendingVideo) -> str:
        return self._prefix + video.task.content_key

    def __enter__(self) -> VideoClaims:
        try:
            self._file = ClaimFile(self._path)
        except OSError as error:
            _log.warning("other scans cannot see what this one does (%s)", error.strerror or error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class PassQueue:
    """The videos that a pass has yet to begin, those that other scans have under way last."""

    def __init__(self, videos: Iterable[PendingVideo], claims: VideoClaims) -> None:
        self._waiting = deque(videos)
        self._elsewhere: deque[PendingVideo] = deque()  # claimed by other scans
        self._claims = claims
        self._next_look = 0.0

    def __bool__(self) -> bool:
        return bool(self._waiting or self._elsewhere)

    @property
    def elsewhere(self) -> tuple[PendingVideo, ...]:
        """The videos that other scans have under way, if no others are left."""
        return () if self._waiting else tuple(self._elsewhere)

    def next_video(self) -> PendingVideo | None:
        """The next video, claimed for this scan; None if other scans have all that are left."""
        while self._waiting:
            video = self._waiting.popleft()
            if self._claims.claim(video):
                return video
            self._elsewhere.append(video)
        if time.monotonic() < self._next_look:
            return None
        for _ in range(len(self._elsewhere)):
            video = self._elsewhere.popleft()
            if self._claims.claim(video):
                return video
            self._elsewhere.append(video)
        self._next_look = time.monotonic() + _RETRY_S
        return None


def take_over(
    video: PendingVideo, writer: ScanWriter, options: ScanOptions, since: str
) -> StoredVideo | None:
    """What is stored of a claimed video, if that leaves nothing to scan; else None, and `video` knows what is stored.

    Another scan may have stored it after the plan was made. `since` is when this scan began: with `force` and
    `retry_failed`, only what is stored since then counts.
    """
    stored = writer.read_stored(video.task)
    if stored.error:
        is_final = not (options.force or options.retry_failed) or (stored.error_at or "") >= since
        return stored if is_final else None
    video.replaces_stored = options.force and writer.made_at(video.task) < since
    if video.replaces_stored:
        return None
    if stored.is_complete:
        return stored
    video.take_over(stored.starts)
    return None
