"""The table of all videos in memory: columns instead of rows, so that 100,000 videos take about 20 MB."""

from __future__ import annotations

import bisect
import math
import os
import sqlite3
import sys
import time
from array import array
from collections.abc import Callable, Collection, Iterable
from datetime import MAXYEAR
from typing import Any, NamedTuple

from vtag.engine.library.search.filters import video_date
from vtag.engine.library.search.video_columns import video_columns
from vtag.engine.library.store.file_paths import displays_by_content
from vtag.engine.library.store.file_stat import MIN_INTEGER
from vtag.engine.library.store.label_names import spell_labels

_TABLE = "table"  # among the columns


class VideoFilter(NamedTuple):
    """Which videos are listed. An empty field filters nothing."""

    folder: str = ""  # as shown; with everything below it
    name: str = ""  # part of the path
    tag: str = ""  # a label that the video has
    year: str = ""
    state: str = ""  # untagged, unreadable, missing

    @property
    def depends_on_tags(self) -> bool:
        """Whether a change of the tags may change the list."""
        return bool(self.tag) or self.state == "untagged"


class VideoTable(NamedTuple):
    """The videos that have a file. A row is a position in all columns; `recorded_s` is NaN if it is unknown."""

    ids: array[int]
    displays: list[str]  # of the preferred file
    folders: list[str]  # of that one; one text for all videos of a folder
    copies: dict[
        int, tuple[str, ...]
    ]  # the displays of all files of a row that has several, the preferred one first
    durations_ms: array[int]
    recorded_s: array[float]
    days: list[str]  # YYYY-MM-DD, one text for all videos of a day; empty if unknown
    is_present: bytearray
    is_readable: bytearray

    def row_of(self, content_id: int) -> int | None:
        """The row of a content; None if it has no file."""
        row = bisect.bisect_left(self.ids, content_id)
        return row if row < len(self.ids) and self.ids[row] == content_id else None

    def shown(self, row: int, chosen: VideoFilter) -> str:
        """The file that stands for a row in a list."""
        if row not in self.copies:
            return self.displays[row]
        return next(filter(_file_test(chosen), self.copies[row]), self.displays[row])

    def shown_folder(self, row: int, chosen: VideoFilter) -> str:
        """The folder of the file that stands for a row in a list."""
        return os.path.dirname(self.shown(row, chosen)) if row in self.copies else self.folders[row]

    def chosen_folders(self, row: int, chosen: VideoFilter) -> Collection[str]:
        """The folders of a row's files, without those of files that were not chosen."""
        if row not in self.copies:
            return (self.folders[row],)
        return {os.path.dirname(display) for display in filter(_file_test(chosen), self.copies[row])}

    def sort(self, rows: list[int], sort: str, chosen: VideoFilter, *, is_reversed: bool) -> None:
        """Sort the rows of a list, which are in the order of the table: that of their ids."""
        if sort in ("date", "added"):
            rows.reverse()  # the latest first, also of those that were recorded at the same time
        recorded_s, durations_ms = self.recorded_s, self.durations_ms
        # a date that is unknown is not equal to itself: it comes last
        keys: dict[str, Callable[[int], Any]] = {
            "date": lambda row: -recorded_s[row] if recorded_s[row] == recorded_s[row] else math.inf,
            "name": lambda row: self.shown(row, chosen).casefold(),
            "length": lambda row: -durations_ms[row],
        }
        if sort in keys:
            rows.sort(key=keys[sort], reverse=is_reversed)
        elif is_reversed:
            rows.reverse()


def shared_table(reader: sqlite3.Connection) -> VideoTable:
    """The table of a library as it is now, read if nobody has read it yet."""
    return video_columns(reader).column(_TABLE, lambda: read_table(reader))


def table_in_memory(reader: sqlite3.Connection) -> VideoTable | None:
    """The table of a library as it is now if somebody has read it."""
    table: VideoTable | None = video_columns(reader).peek(_TABLE)
    return table


def read_table(reader: sqlite3.Connection) -> VideoTable:
    """The table of a library."""
    table = VideoTable(array("q"), [], [], {}, array("q"), array("d"), [], bytearray(), bytearray())
    displays = displays_by_content(reader)
    rows = reader.execute(
        "SELECT c.id, coalesce(c.duration_ms, 0), c.recorded_at, "
        "min(iif(f.mtime_ns > ?, f.mtime_ns, NULL)), max(f.state = 'present'), c.error IS NULL "
        "FROM contents c JOIN files f ON f.content_id = c.id GROUP BY c.id",
        (MIN_INTEGER,),
    )
    for row, (content_id, duration_ms, recorded_at, mtime_ns, is_present, is_readable) in enumerate(rows):
        first, *others = displays.pop(content_id)
        recorded_s = video_date(recorded_at, mtime_ns)
        table.ids.append(content_id)
        table.displays.append(first)
        table.folders.append(sys.intern(os.path.dirname(first)))
        if others:
            table.copies[row] = first, *others
        table.durations_ms.append(duration_ms)
        table.recorded_s.append(math.nan if recorded_s is None else recorded_s)
        table.days.append(sys.intern(_day(recorded_s)))
        table.is_present.append(is_present)
        table.is_readable.append(is_readable)
    return table


def matching_rows(reader: sqlite3.Connection, table: VideoTable, chosen: VideoFilter) -> list[int]:
    """The rows that pass all filters."""
    rows: Iterable[int] = range(len(table.ids))
    if chosen.year:
        rows = [row for row in rows if table.days[row].startswith(f"{chosen.year}-")]
    if chosen.folder or chosen.name.strip():
        is_chosen = _file_test(chosen)  # of several filters by path, one file has to pass all
        rows = [row for row in rows if any(map(is_chosen, table.copies.get(row) or (table.displays[row],)))]
    if chosen.tag:
        tagged = _contents_with_tag(reader, chosen.tag)
        rows = [row for row in rows if table.ids[row] in tagged]
    if chosen.state == "untagged":
        untagged = _contents_without_tag(reader)
        rows = [row for row in rows if table.ids[row] in untagged]
    elif chosen.state == "unreadable":
        rows = [row for row in rows if not table.is_readable[row]]
    elif chosen.state == "missing":
        rows = [row for row in rows if not table.is_present[row]]
    return list(rows)


def _file_test(chosen: VideoFilter) -> Callable[[str], bool]:
    """Whether a file is in the folder and has the name that were chosen."""
    folder, name = chosen.folder.rstrip("/"), chosen.name.strip().casefold()
    prefix = f"{folder}/" if folder else ""
    return lambda display: display.startswith(prefix) and (not name or name in display.casefold())


def _contents_with_tag(reader: sqlite3.Connection, label: str) -> set[int]:
    rows = reader.execute(
        "SELECT content_id FROM sure_segments "
        "WHERE label_id IN (SELECT id FROM labels WHERE name = ?) AND verdict IS NOT 'rejected'",
        spell_labels(reader, [label]),
    )
    return {row[0] for row in rows}


def _contents_without_tag(reader: sqlite3.Connection) -> set[int]:
    rows = reader.execute(
        "SELECT id FROM contents c WHERE NOT EXISTS "
        "(SELECT 1 FROM sure_segments WHERE content_id = c.id AND verdict IS NOT 'rejected')"
    )
    return {row[0] for row in rows}


def _day(seconds: float | None) -> str:
    """A day of this machine's calendar as YYYY-MM-DD; empty if it is unknown, or no day of the calendar."""
    if seconds is None:
        return ""
    try:
        day = time.localtime(seconds)
    except (ValueError, OverflowError, OSError):
        return ""
    return f"{day.tm_year:04}-{day.tm_mon:02}-{day.tm_mday:02}" if 1 <= day.tm_year <= MAXYEAR else ""
