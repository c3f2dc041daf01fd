"""All videos of a library as a list that is filtered, sorted, and read page by page, also if there are 100,000."""

from __future__ import annotations

import itertools
import json
import math
import sqlite3
import threading
import time
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from vtag.engine.library.search.video_columns import video_version
from vtag.engine.library.views.video_table import VideoFilter, VideoTable, matching_rows, shared_table

SORTS = ("date", "name", "added", "length")
GROUPS = ("", "day", "folder")
_KEPT_LISTS = 8
_MAX_VALUES = 200  # of a facet
_LARGE = 5_000  # videos
_FRESH_S = 5.0  # while a scan adds videos to a large library, the table is read again at most this often


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


class VideoLists:
    """The lists of one library, kept while it does not change. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = 0
        self._tag_revision: tuple[object, ...] = ()
        self._read_at_s = 0.0
        self._table: VideoTable | None = None
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
        table, rows = self._list(reader, chosen, sort, is_reversed)
        return VideoPage(_listed_videos(reader, table, rows[offset : offset + limit], chosen), len(rows))

    def counts(
        self, reader: sqlite3.Connection, chosen: VideoFilter, *, sort: str, is_reversed: bool, group: str
    ) -> VideoCounts:
        """Folders and years of a list, and its sections by `group`, one of GROUPS."""
        table, rows = self._list(reader, chosen, sort, is_reversed)
        folders = Counter(map(table.folders.__getitem__, rows))
        for row in table.copies.keys() & set(rows) if table.copies else ():
            folders[table.folders[row]] -= 1
            folders.update(table.chosen_folders(row, chosen))
        years: Counter[str] = Counter()
        for day, number in Counter(map(table.days.__getitem__, rows)).items():
            if day:
                years[day[:4]] += number
        return VideoCounts(
            (+folders).most_common(_MAX_VALUES),
            sorted(years.items(), reverse=True),
            _sections(table, rows, group, chosen),
        )

    def ids(
        self, reader: sqlite3.Connection, chosen: VideoFilter, *, sort: str, is_reversed: bool
    ) -> list[int]:
        """The ids of all videos of a list."""
        table, rows = self._list(reader, chosen, sort, is_reversed)
        return [table.ids[row] for row in rows]

    def prepare(self, reader: sqlite3.Connection) -> None:
        """Read the table of videos, so that the first list does not wait for it."""
        self._list(reader, VideoFilter(), "date", False)

    def _list(
        self, reader: sqlite3.Connection, chosen: VideoFilter, sort: str, is_reversed: bool
    ) -> tuple[VideoTable, array[int]]:
        """The table, and the rows of a list in its order."""
        with self._lock:
            table = self._refresh(reader)
            key = chosen, sort, is_reversed
            if key not in self._lists:
                rows = matching_rows(reader, table, chosen)
                table.sort(rows, sort, chosen, is_reversed=is_reversed)
                self._lists[key] = array("q", rows)
                while len(self._lists) > _KEPT_LISTS:
                    self._lists.popitem(last=False)
            self._lists.move_to_end(key)
            return table, self._lists[key]

    def _refresh(self, reader: sqlite3.Connection) -> VideoTable:
        """Forget the lists by tag if tags have changed, and read the table again if videos have."""
        tags, version, now_s = _tag_revision(reader), video_version(reader), time.monotonic()
        if tags != self._tag_revision:
            self._tag_revision = tags
            for key in [key for key in self._lists if key[0].depends_on_tags]:
                del self._lists[key]
        is_fresh = (
            self._table is not None and len(self._table.ids) > _LARGE and now_s - self._read_at_s < _FRESH_S
        )
        if self._table is None or (version != self._version and not is_fresh):
            self._table, self._version = shared_table(reader), version
            self._read_at_s = time.monotonic()
            self._lists.clear()
        return self._table


def _tag_revision(reader: sqlite3.Connection) -> tuple[object, ...]:
    """Changes with the moments, their models, the annotations and the library's sensitivity."""
    return tuple(
        reader.execute(
            "SELECT (SELECT coalesce(max(id), 0) FROM segments), "
            "(SELECT group_concat(id) FROM models), "  # a forgotten one takes its moments along
            # a merge of libraries gives all changes new ids
            "(SELECT coalesce(max(id), '') || coalesce(max(at), '') || coalesce(max(undone_at), '') FROM word_log), "
            "(SELECT value FROM settings WHERE key = 'sensitivity')"
        ).fetchone()
    )


def _sections(
    table: VideoTable, rows: Iterable[int], group: str, chosen: VideoFilter
) -> list[tuple[str, int]]:
    """Neighbouring rows with the same day or folder: its name and their number."""
    if not group:
        return []
    titles: Iterator[str] = map(table.days.__getitem__, rows)
    if group == "folder":
        titles = (table.shown_folder(row, chosen) for row in rows)
    return [(title, sum(1 for _ in members)) for title, members in itertools.groupby(titles)]


def _listed_videos(
    reader: sqlite3.Connection, table: VideoTable, rows: Sequence[int], chosen: VideoFilter
) -> list[ListedVideo]:
    """The videos of rows, with their numbers of moments, and why some could not be read."""
    ids = json.dumps([table.ids[row] for row in rows])
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
            table.ids[row],
            table.shown(row, chosen),
            table.durations_ms[row],
            None if math.isnan(table.recorded_s[row]) else table.recorded_s[row],
            numbers.get(table.ids[row], 0),
            bool(table.is_present[row]),
            errors.get(table.ids[row]),
        )
        for row in rows
    ]
