"""What a scan has to do: what was found, held against what the library knows, without opening known files."""

from __future__ import annotations

from dataclasses import dataclass, field

from vtag.engine.library.database import Library
from vtag.engine.library.store import coverage, files, observations
from vtag.engine.scan.discover import Discovery, Found
from vtag.engine.scan.events import VideoFailed


@dataclass
class Task:
    """One content to look at, and every file found that holds it."""

    content_key: str
    files: list[Found]
    duration_ms: int | None = None  # where it was read before
    begun: bool = False  # an earlier scan looked at some of it


@dataclass
class Plan:
    """The work of a scan: contents to look at, contents to derive anew, and what needs nothing."""

    tasks: list[Task] = field(default_factory=list)
    known: list[int] = field(default_factory=list)  # content ids that were seen already
    skipped: int = 0
    known_failed: int = 0
    unreadable: list[VideoFailed] = field(default_factory=list)
    volumes: files.Volumes = field(default_factory=files.Volumes)


def make_plan(
    library: Library,
    discovery: Discovery,
    *,
    backbone_hash: str,
    sampling_key: str,
    force: bool = False,
    retry_failed: bool = False,
    record: bool = True,
) -> Plan:
    """Hold `discovery` against the library; with `record`, moved and copied files are written down at once."""
    plan = Plan(unreadable=[VideoFailed(path, why) for path, why in discovery.unreadable])
    seen = observations.observed_keys(library, backbone_hash, sampling_key)
    begun = coverage.partial_contents(library, backbone_hash, sampling_key)
    tasks: dict[str, Task] = {}
    elsewhere: set[int] = set()  # known contents that were found at another place
    known_by_volume: dict[str, dict[bytes, files.StoredFile]] = {}
    for found in discovery.files:
        volume = plan.volumes.volume_of(found.path)
        if volume.key not in known_by_volume:
            if record:
                files.update_mount(library, volume)
            known_by_volume[volume.key] = files.stored_files(library, volume)
        known = known_by_volume[volume.key].get(volume.relative(found.path))
        unchanged = (
            known is not None
            and known.state == "present"  # else it came back, which has to be written down
            and known.size_bytes == found.size_bytes
            and known.mtime_ns == found.mtime_ns
        )
        content_id: int | None
        if known and unchanged:
            key, content_id, error = known.content_key, known.content_id, known.content_error
            duration_ms = known.duration_ms
        else:
            try:
                key = files.content_key(found.path)
            except OSError as error_:
                plan.unreadable.append(VideoFailed(found.path, error_.strerror or str(error_)))
                continue
            content = files.find_content(library, key)
            content_id, error, duration_ms = content or (None, None, None)
            if content_id is not None and record:
                files.save_file(library, volume, found, content_id)
                elsewhere.add(content_id)
        if error and not (force or retry_failed):
            plan.known_failed += 1
        elif key in seen and content_id is not None and content_id not in begun and not (force or error):
            plan.skipped += 1
            plan.known.append(content_id)
        else:
            is_begun = key in seen and content_id in begun and not force
            tasks.setdefault(key, Task(key, [], duration_ms, is_begun)).files.append(found)
    plan.tasks = list(tasks.values())
    files.mark_moved(library, elsewhere, plan.volumes)
    return plan
