"""Plans a scan: compares the files that were found with the library, and reads only new and changed files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import coverage, files, observations
from vtag.engine.library.store.volumes import Volumes
from vtag.engine.scan.discover import DiscoveredFile, Discovery
from vtag.engine.scan.events import ScanPlanned, VideoScanFailed
from vtag.engine.system.silent_disks import describe_error


@dataclass
class ScanTask:
    """A content to scan, and all files with that content."""

    content_key: str
    files: list[DiscoveredFile]
    duration_ms: int | None = None  # if it was read before
    is_partial: bool = False  # an earlier scan stored some of its windows


@dataclass
class ScanPlan:
    """What a scan has to do, and what it has not."""

    tasks: list[ScanTask] = field(default_factory=list)
    scanned: list[int] = field(default_factory=list)  # ids of contents that need no scan
    skipped: int = 0  # their files
    known_failed: int = 0  # files that failed before, unchanged
    unreadable: list[VideoScanFailed] = field(default_factory=list)
    volumes: Volumes = field(default_factory=Volumes)


class _FileContent(NamedTuple):
    """What the library knows of a file's content; `id` is None if it has no row yet."""

    key: str
    id: int | None
    error: str | None
    duration_ms: int | None


def make_plan(
    library: LibraryWriter,
    discovery: Discovery,
    *,
    backbone_hash: str,
    sampling_key: str,
    force: bool = False,
    retry_failed: bool = False,
    record: bool = True,
) -> ScanPlan:
    """Compare `discovery` with the library. With `record`, the library learns of moved and copied files at once."""
    plan = ScanPlan(unreadable=[VideoScanFailed(path, reason) for path, reason in discovery.unreadable])
    observed = observations.observed_keys(library, backbone_hash, sampling_key)
    partial = coverage.partial_contents(library, backbone_hash, sampling_key)
    tasks: dict[str, ScanTask] = {}
    lookup = _ContentLookup(library, plan.volumes, record=record)
    for file in discovery.files:
        try:
            content = lookup.content_of(file)
        except OSError as error:
            plan.unreadable.append(VideoScanFailed(file.path, describe_error(error, file.path)))
            continue
        is_complete = content.key in observed and content.id is not None and content.id not in partial
        if content.error and not (force or retry_failed):
            plan.known_failed += 1
        elif is_complete and content.id is not None and not (force or content.error):
            plan.skipped += 1
            plan.scanned.append(content.id)
        else:
            is_partial = content.key in observed and content.id in partial and not force
            task = tasks.setdefault(content.key, ScanTask(content.key, [], content.duration_ms, is_partial))
            task.files.append(file)
    plan.tasks = list(tasks.values())
    files.mark_moved(library, lookup.new_places, plan.volumes)
    return plan


class _ContentLookup:
    """Finds the content of files: from their rows if they are unchanged, else by hashing them."""

    def __init__(self, library: LibraryWriter, volumes: Volumes, *, record: bool) -> None:
        self._library = library
        self._volumes = volumes
        self._record = record
        self._known_files: dict[str, dict[bytes, files.StoredFile]] = {}  # by volume
        self.new_places: set[int] = set()  # ids of known contents that were found at a new path

    def content_of(self, file: DiscoveredFile) -> _FileContent:
        """The content of a file. Raises OSError if it cannot be read."""
        volume = self._volumes.volume_of(file.path)
        if volume.key not in self._known_files:
            if self._record:
                files.update_mount(self._library, volume)
            self._known_files[volume.key] = files.stored_files(self._library, volume)
        row = self._known_files[volume.key].get(volume.relative(file.path))
        if row and _is_unchanged(row, file):
            return _FileContent(row.content_key, row.content_id, row.content_error, row.duration_ms)
        key = files.content_key(file.path)
        content = files.find_content(self._library, key)
        if content is None:
            return _FileContent(key, None, None, None)
        if self._record:
            files.save_file(self._library, volume, file, content.id)
            self.new_places.add(content.id)
        return _FileContent(key, content.id, content.error, content.duration_ms)


def _is_unchanged(row: files.StoredFile, file: DiscoveredFile) -> bool:
    # a file that was missing and came back counts as changed, since its row has to be updated
    return (row.state, row.size_bytes, row.mtime_ns) == ("present", file.size_bytes, file.mtime_ns)


def planned_event(plan: ScanPlan, discovery: Discovery, video_ms: int, speed: float | None) -> ScanPlanned:
    """The event that announces a plan. `speed` is in seconds of video per second; None if it is unknown."""
    return ScanPlanned(
        videos=len(plan.tasks),
        video_ms=video_ms,
        skipped=plan.skipped,
        known_failed=plan.known_failed,
        excluded=len(discovery.excluded),
        estimate_s=video_ms / 1000 / speed if video_ms and speed else None,
    )
