"""All videos of a library as a list that is filtered, sorted, and read page by page, also if there are 100,000."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
import time
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from vtag.engine.library.search.filters import video_date
from vtag.engine.library.store.file_paths import displays_by_content
from vtag.engine.library.store.file_stat import MIN_INTEGER

SORTS = ("date", "name", "added", "length")
GROUPS = ("", "day", "folder")
_KEPT_LISTS = 8
_MAX_VALUES = 200  # of a facet
_LARGE = 5_000  # videos
_FRESH_S = 5.0  # while a scan adds videos to a large library, the table is read again at most this often


class VideoFilter(NamedTuple):
    """Which videos are listed. An empty field filters nothing."""

    folder: str = ""  # as shown; with everything below it
    name: str = ""  # part of the path
    tag: str = ""  # a label that the video has
    year: str = ""
    state: str = ""  # untagged, unreadable, missing


class ListedVideo(NamedTuple):
    """A video with what a card shows. `error`: why it could not be read."""

    id: int
    display: str
    duration_ms: int
    recorded_s: float | None
    moments: int
    is_present: bool
    error: str | None


class VideoPage(NamedTuple):
    """A part of a list: its videos, and the number of all videos of the list."""

    videos: list[ListedVideo]
    total: int


class VideoCounts(NamedTuple):
    """The values that the videos of a list have, with their numbers, and the groups of the list in its order."""

    folders: list[tuple[str, int]]
    years: list[tuple[str, int]]
    sections: list[tuple[str, int]]


class _Row(NamedTuple):
    id: int
    displays: tuple[str, ...]  # of all files, the preferred one first
    folder: str  # of that one
    duration_ms: int
    recorded_s: float | None
    is_present: bool
    is_readable: bool


class VideoLists:
    """The lists of one library, kept while it does not change. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._video_revision: tuple[object, ...] = ()
        self._tag_revision: tuple[object, ...] = ()
        self._read_at_s = 0.0
        self._rows: dict[int, _Row] = {}
        self._lists: OrderedDict[tuple[VideoFilter, str, bool], array[int]] = OrderedDict()

    def page(
        self,
        reader: sqlite3.Connection,
        chosen: VideoFilter,
        *,
        sort: str = "date",
        is_reversed: bool = False,
        offset: int = 0,
        limit: int = 60,
    ) -> VideoPage:
        """The videos of a list from the one at `offset` on; `sort` is one of SORTS."""
        with self._lock:
            ids = self._ids(reader, chosen, sort, is_reversed)
            rows = [self._rows[content_id] for content_id in ids[offset : offset + limit]]
        return VideoPage(_with_moments(reader, rows, chosen), len(ids))

    def counts(
        self, reader: sqlite3.Connection, chosen: VideoFilter, *, sort: str, is_reversed: bool, group: str
    ) -> VideoCounts:
        """Folders and years of a list, and its sections by `group`, one of GROUPS."""
        with self._lock:
            rows = [self._rows[content_id] for content_id in self._ids(reader, chosen, sort, is_reversed)]
        years = Counter(year for row in rows if (year := _year(row.recorded_s)))
        return VideoCounts(
            Counter(folder for row in rows for folder in _folders(row, chosen)).most_common(_MAX_VALUES),
            sorted(years.items(), reverse=True),
            _sections(rows, group, chosen),
        )

    def ids(
        self, reader: sqlite3.Connection, chosen: VideoFilter, *, sort: str, is_reversed: bool
    ) -> list[int]:
        """The ids of all videos of a list."""
        with self._lock:
            return self._ids(reader, chosen, sort, is_reversed).tolist()

    def _ids(
        self, reader: sqlite3.Connection, chosen: VideoFilter, sort: str, is_reversed: bool
    ) -> array[int]:
        self._refresh(reader)
        key = chosen, sort, is_reversed
        if key not in self._lists:
            rows = list(filter(_predicate(reader, chosen), self._rows.values()))
            key_of = _SORT_KEYS[sort]
            rows.sort(key=lambda row: key_of(row, chosen), reverse=is_reversed)
            self._lists[key] = array("q", [row.id for row in rows])
            while len(self._lists) > _KEPT_LISTS:
                self._lists.popitem(last=False)
        self._lists.move_to_end(key)
        return self._lists[key]

    def _refresh(self, reader: sqlite3.Connection) -> None:
        """Forget the lists if tags have changed, and read the table of videos again if videos have."""
        tags, videos, now_s = _tag_revision(reader), _video_revision(reader), time.monotonic()
        if tags != self._tag_revision:
            self._tag_revision = tags
            self._lists.clear()
        is_fresh = len(self._rows) > _LARGE and now_s - self._read_at_s < _FRESH_S
        if videos != self._video_revision and not is_fresh:
            self._rows = {row.id: row for row in _read_rows(reader)}
            self._video_revision, self._read_at_s = videos, now_s
            self._lists.clear()


_SORT_KEYS: dict[str, Callable[[_Row, VideoFilter], tuple[Any, ...]]] = {
    "date": lambda row, _: (-row.recorded_s if row.recorded_s is not None else float("inf"), -row.id),
    "name": lambda row, chosen: (_shown(row, chosen).casefold(), row.id),
    "added": lambda row, _: (-row.id,),
    "length": lambda row, _: (-row.duration_ms, row.id),
}


def _video_revision(reader: sqlite3.Connection) -> tuple[object, ...]:
    """Changes with the videos and their files."""
    return tuple(
        reader.execute(
            "SELECT (SELECT coalesce(max(id), 0) FROM contents), (SELECT count(*) FROM contents), "
            "(SELECT count(*) FROM files), (SELECT max(seen_at) FROM files)"
        ).fetchone()
    )


def _tag_revision(reader: sqlite3.Connection) -> tuple[object, ...]:
    """Changes with the moments and the annotations."""
    return tuple(
        reader.execute(
            "SELECT (SELECT coalesce(max(id), 0) FROM segments), "
            "(SELECT coalesce(max(at), '') || coalesce(max(undone_at), '') FROM word_log)"
        ).fetchone()
    )


def _read_rows(reader: sqlite3.Connection) -> Iterable[_Row]:
    """The videos that have a file."""
    displays = displays_by_content(reader)
    rows = reader.execute(
        "SELECT c.id, coalesce(c.duration_ms, 0), c.recorded_at, "
        "min(iif(f.mtime_ns > ?, f.mtime_ns, NULL)), max(f.state = 'present'), c.error IS NULL "
        "FROM contents c JOIN files f ON f.content_id = c.id GROUP BY c.id",
        (MIN_INTEGER,),
    )
    for content_id, duration_ms, recorded_at, mtime_ns, is_present, is_readable in rows:
        yield _Row(
            content_id,
            tuple(displays[content_id]),
            sys.intern(os.path.dirname(displays[content_id][0])),  # one text for all videos of a folder
            duration_ms,
            video_date(recorded_at, mtime_ns),
            bool(is_present),
            bool(is_readable),
        )


def _predicate(reader: sqlite3.Connection, chosen: VideoFilter) -> Callable[[_Row], bool]:
    """Whether a row passes all filters."""
    tests: list[Callable[[_Row], bool]] = []
    if chosen.folder or chosen.name.strip():
        is_chosen = _file_test(chosen)  # of several filters by path, one file has to pass all
        tests.append(lambda row: any(map(is_chosen, row.displays)))
    if chosen.year:
        tests.append(lambda row: _year(row.recorded_s) == chosen.year)
    if chosen.tag:
        tagged = _contents_with_tag(reader, chosen.tag)
        tests.append(lambda row: row.id in tagged)
    if chosen.state == "untagged":
        any_tag = {row[0] for row in reader.execute("SELECT DISTINCT content_id FROM sure_segments")}
        tests.append(lambda row: row.id not in any_tag)
    elif chosen.state == "unreadable":
        tests.append(lambda row: not row.is_readable)
    elif chosen.state == "missing":
        tests.append(lambda row: not row.is_present)
    return lambda row: all(test(row) for test in tests)


def _file_test(chosen: VideoFilter) -> Callable[[str], bool]:
    """Whether a file is in the folder and has the name that were chosen."""
    folder, name = chosen.folder.rstrip("/"), chosen.name.strip().casefold()
    prefix = f"{folder}/" if folder else ""
    return lambda display: display.startswith(prefix) and name in display.casefold()


def _shown(row: _Row, chosen: VideoFilter) -> str:
    """The file that stands for a row of the list."""
    if len(row.displays) == 1:
        return row.displays[0]
    return next(filter(_file_test(chosen), row.displays), row.displays[0])


def _folders(row: _Row, chosen: VideoFilter) -> Collection[str]:
    """The folders of a row's files, without those of files that were not chosen."""
    if len(row.displays) == 1:
        return (row.folder,)
    return {os.path.dirname(display) for display in filter(_file_test(chosen), row.displays)}


def _contents_with_tag(reader: sqlite3.Connection, label: str) -> set[int]:
    rows = reader.execute(
        "SELECT DISTINCT s.content_id FROM sure_segments s JOIN labels l ON l.id = s.label_id "
        "WHERE l.name = ? COLLATE NOCASE AND s.verdict IS NOT 'rejected'",
        (label,),
    )
    return {row[0] for row in rows}


def _with_moments(reader: sqlite3.Connection, rows: list[_Row], chosen: VideoFilter) -> list[ListedVideo]:
    """The rows with their numbers of moments, and why some could not be read."""
    ids = json.dumps([row.id for row in rows])
    numbers = dict(
        reader.execute(
            "SELECT content_id, count(*) FROM sure_segments WHERE content_id IN (SELECT value FROM json_each(?)) "
            "AND verdict IS NOT 'rejected' GROUP BY content_id",
            (ids,),
        )
    )
    errors = dict(
        reader.execute(
            "SELECT id, error FROM contents WHERE id IN (SELECT value FROM json_each(?)) AND error IS NOT NULL",
            (ids,),
        )
    )
    return [
        ListedVideo(
            row.id,
            _shown(row, chosen),
            row.duration_ms,
            row.recorded_s,
            numbers.get(row.id, 0),
            row.is_present,
            errors.get(row.id),
        )
        for row in rows
    ]


def _sections(rows: list[_Row], group: str, chosen: VideoFilter) -> list[tuple[str, int]]:
    """Neighbouring rows with the same day or folder: its name and their number."""
    if not group:
        return []
    sections: list[tuple[str, int]] = []
    for row in rows:
        title = os.path.dirname(_shown(row, chosen)) if group == "folder" else _day(row.recorded_s)
        if sections and sections[-1][0] == title:
            sections[-1] = title, sections[-1][1] + 1
        else:
            sections.append((title, 1))
    return sections


def _day(seconds: float | None) -> str:
    """A day as YYYY-MM-DD; empty if it is unknown."""
    if seconds is None:
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().date().isoformat()
    except (ValueError, OverflowError, OSError):
        return ""


def _year(seconds: float | None) -> str:
    return _day(seconds)[:4]
