"""Writes the results of a scan into the library: observations, contents and files, coverage, segments."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from vtag.engine.library.analysis import derive
from vtag.engine.library.database import LibraryWriter, now
from vtag.engine.library.store import coverage, files, heads, observations
from vtag.engine.library.store.duplicates import find_duplicate
from vtag.engine.library.store.observations import Provenance
from vtag.engine.library.store.volumes import Volumes
from vtag.engine.scan.content_facts import video_columns
from vtag.engine.scan.pending_video import VideoPass
from vtag.engine.scan.plan import ScanTask
from vtag.engine.video.read.fingerprint import Fingerprint
from vtag.engine.video.read.probe import VideoInfo


@dataclass(frozen=True)
class StoredVideo:
    """What the library has of a content, for one backbone and one sampling."""

    content_id: int | None  # None if it has no row
    starts: frozenset[int]  # of its windows, in ms
    is_complete: bool  # no window is left
    error: str | None  # why it cannot be read
    error_at: str | None


class ScanWriter:
    """The library as one scan writes to it: with one head, one sampling, and the volumes of its plan."""

    def __init__(self, library: LibraryWriter, head: heads.Head, sampling_key: str, volumes: Volumes) -> None:
        self._library = library
        self._backbone_hash = head.backbone_hash
        self._sampling_key = sampling_key
        self._volumes = volumes
        self._heads = derive.ActiveHeads(library, head)

    def read_stored(self, task: ScanTask) -> StoredVideo:
        """What the library has of a content now; another scan may have stored it a moment ago."""
        starts = observations.window_starts(
            self._library, task.content_key, self._backbone_hash, self._sampling_key
        )
        content = files.find_content(self._library, task.content_key)
        if content is None:
            return StoredVideo(None, starts, False, None, None)
        is_partial = coverage.is_partial(self._library, content.id, self._backbone_hash, self._sampling_key)
        is_complete = bool(starts) and not is_partial and content.error is None
        return StoredVideo(content.id, starts, is_complete, content.error, content.error_at)

    def made_at(self, task: ScanTask) -> str:
        """When the latest features of a content were stored; "" if there are none."""
        return observations.made_at(self._library, task.content_key, self._backbone_hash, self._sampling_key)

    def add_files(self, task: ScanTask, content_id: int) -> None:
        """Store the files of a content that another scan has scanned."""
        with self._library.transaction():
            for file in task.files:
                files.save_file(self._library, self._volumes.volume_of(file.path), file, content_id)
        self.update_segments([content_id])

    def update_segments(self, content_ids: Collection[int]) -> None:
        """Derive the segments of contents that were scanned with other heads or thresholds."""
        self._heads.derive_outdated(content_ids, self._sampling_key)

    def copy_from_duplicate(self, task: ScanTask, fingerprint: Fingerprint, info: VideoInfo) -> bool:
        """Copy the observations of a scanned content with the same pictures in another container; False if none."""
        key = find_duplicate(
            self._library, *fingerprint, info.duration_ms, self._backbone_hash, self._sampling_key
        )
        duplicate = files.find_content(self._library, key) if key is not None else None
        if key is None or duplicate is None:
            return False
        if coverage.is_partial(self._library, duplicate.id, self._backbone_hash, self._sampling_key):
            return False
        with self._library.transaction():  # before the features, as in `begin_pass`
            facts = {**_facts(info, fingerprint), "error": None, "error_at": None}
            content_id = self._record(task, facts)
            coverage.copy_partial(self._library, duplicate.id, content_id)
        observations.copy(self._library, key, task.content_key)
        with self._library.transaction():
            self._heads.derive_segments(content_id, self._sampling_key)
        return True

    def add_windows(
        self, task: ScanTask, video_pass: VideoPass, made_by: Provenance, *, replace: bool
    ) -> None:
        """Store the features of a pass; with `replace`, those of earlier scans are deleted.

        Raises LibraryError if a feature is not a finite number.
        """
        observations.add(
            self._library,
            task.content_key,
            self._backbone_hash,
            self._sampling_key,
            np.array(video_pass.windows, np.int64),
            np.stack([observations.to_halves(features) for features in video_pass.features]),
            made_by,
            replace=replace,
        )

    def begin_pass(self, task: ScanTask, scanned_ms: int, length_ms: int) -> None:
        """Store that a pass scans a content, before its features are stored.

        `clean` removes features of unknown contents. And if the process is killed between the two, the features are
        not taken for all that there is.
        """
        with self._library.transaction():
            content_id = self._record(task, {})
            coverage.mark_partial(
                self._library, content_id, self._backbone_hash, self._sampling_key, scanned_ms, length_ms
            )

    def add_pass(self, task: ScanTask, video_pass: VideoPass, scanned_ms: int) -> derive.MomentCounts:
        """Store the facts of a decoded video and how much of it is scanned; returns its numbers of moments.

        `scanned_ms`: how much the windows of all passes so far cover; unused in the last pass.
        """
        assert video_pass.decoded is not None
        info, note = video_pass.decoded.info, video_pass.decoded.note
        facts = {**_facts(info, video_pass.fingerprint), "note": note or None}
        with self._library.transaction():
            content_id = self._record(task, {**facts, "error": None, "error_at": None})
            scanned_as = content_id, self._backbone_hash, self._sampling_key
            if video_pass.is_last:
                coverage.mark_complete(self._library, *scanned_as)
            else:
                coverage.mark_partial(self._library, *scanned_as, scanned_ms, info.duration_ms)
            return self._heads.derive_segments(content_id, self._sampling_key, force=True)

    def add_failure(self, task: ScanTask, reason: str) -> None:
        """Store why a video cannot be read; the next scan skips it."""
        with self._library.transaction():
            self._record(task, {"error": reason, "error_at": now()})

    def _record(self, task: ScanTask, facts: dict[str, object]) -> int:
        """Write the rows of a content and its files; returns the content's id."""
        content_id = files.save_content(self._library, task.content_key, facts)
        for file in task.files:
            files.save_file(self._library, self._volumes.volume_of(file.path), file, content_id)
        return content_id


def _facts(info: VideoInfo, fingerprint: Fingerprint) -> dict[str, object]:
    """The columns of a content that are known once its file was opened."""
    return {
        "packets_key": fingerprint.packets or None,
        "shown_as": fingerprint.appearance,
        **video_columns(info),
    }
