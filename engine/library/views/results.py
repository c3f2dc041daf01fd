"""A page of search results, and how many there are by label, folder, year, model and source."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from vtag.engine.library.certainty import MARGIN_SQL
from vtag.engine.library.search.filters import video_date
from vtag.engine.library.search.moments import LessSure, Moment, Search
from vtag.engine.library.search.rows import COLUMNS, Condition, SegmentRow, drop_duplicates
from vtag.engine.library.store.file_paths import displays_by_content
from vtag.engine.library.store.file_stat import MIN_INTEGER
from vtag.engine.library.views.video_table import table_in_memory
from vtag.engine.text import display_path

MAX_COUNTED = 3000  # rows: counts are exact up to here, so that no query takes long
_MAX_VALUES = 60  # of one facet
# rows in which the latest moments are looked for: a long scan is as quick to ask about as a short one
_LATEST = 20_000


class FoundMoment(NamedTuple):
    """A moment of a search with its content, its verdict ("", confirmed, rejected), and its video's date if known."""

    moment: Moment
    content: int
    verdict: str
    recorded_at: str | None


class Results(NamedTuple):
    """A part of a query's moments."""

    moments: list[FoundMoment]
    has_more: bool


class ResultCounts(NamedTuple):
    """Numbers of moments and videos, and of moments by each value of a facet, most first.

    Without `is_complete` there are more than MAX_COUNTED moments, and these are the numbers of the first.
    """

    moments: int
    videos: int
    is_complete: bool
    labels: list[tuple[str, int]]
    folders: list[tuple[str, int]]
    years: list[tuple[str, int]]
    models: list[tuple[str, int]]
    sources: list[tuple[str, int]]


def find_results(
    reader: sqlite3.Connection,
    query: str,
    *,
    label: str = "",
    sort: str = "score",
    offset: int = 0,
    limit: int = 60,
    less_sure: LessSure = "all",
    min_margin: float | None = None,
) -> Results:
    """The moments of `query` from the one at `offset` on, sure ones first; without a query the best of each label.

    With `label`, only those of this label. `min_margin` is the margin from which a moment is sure, by default the
    library's. Raises QueryError.
    """
    search = Search(reader, query, min_margin)
    rows = list(itertools.islice(_rows(reader, search, label, sort, less_sure), offset, offset + limit + 1))
    return Results(_found(reader, rows[:limit], search), len(rows) > limit)


def moments_after(reader: sqlite3.Connection, moment_id: int, limit: int) -> list[FoundMoment]:
    """The latest moments with an id above `moment_id`, newest first: of each label and video the best one.

    Only sure ones, if there are any among the latest; otherwise the surest.
    """
    search = Search(reader, "")
    latest = f"(SELECT * FROM segments WHERE id > ? ORDER BY id DESC LIMIT {_LATEST}) AS segments"

    def rows(condition: Condition, order: str) -> Iterator[SegmentRow]:
        sql = f"SELECT {COLUMNS} FROM {latest} WHERE {condition.full_sql} ORDER BY {order} LIMIT ?"
        return itertools.starmap(SegmentRow, reader.execute(sql, (moment_id, 8 * limit)))

    best: dict[tuple[int, int], SegmentRow] = {}
    sure = Condition(min_margin=search.min_margin)
    for row in list(rows(sure, "id DESC")) or rows(Condition(), f"{MARGIN_SQL} DESC, id DESC"):
        key = row.content_id, row.label_id
        if key not in best or row.score > best[key].score:
            best[key] = row
    return _found(reader, list(best.values())[:limit], search)


def find_by_ids(reader: sqlite3.Connection, moment_ids: Iterable[int]) -> list[Moment]:
    """The moments with these ids, in their order; without those that are gone."""
    ids = list(dict.fromkeys(moment_ids))
    rows = reader.execute(
        f"SELECT {COLUMNS} FROM segments WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(ids),)
    )
    found = {row.id: row for row in itertools.starmap(SegmentRow, rows)}
    return list(Search(reader, "").moments(found[moment_id] for moment_id in ids if moment_id in found))


def moments_of_videos(
    reader: sqlite3.Connection, content_ids: Iterable[int], *, less_sure: bool = False, limit: int
) -> list[Moment]:
    """The first `limit` moments of videos, by video and time; only the sure ones, unless `less_sure`."""
    search = Search(reader, "")
    condition = Condition(min_margin=None if less_sure else search.min_margin)
    rows = reader.execute(
        f"SELECT {COLUMNS} FROM segments WHERE content_id IN (SELECT value FROM json_each(?)) "
        f"AND {condition.full_sql} ORDER BY content_id, score DESC, id",
        (json.dumps(list(dict.fromkeys(content_ids))),),
    )
    distinct = drop_duplicates(
        itertools.starmap(SegmentRow, rows),
        key=lambda row: (row.content_id, row.label_id),
        source=lambda row: row.model_id,
    )
    by_time = sorted(
        itertools.islice(distinct, limit), key=lambda row: (row.content_id, row.start_ms, row.id)
    )
    return list(search.moments(by_time))


def find_ids(
    reader: sqlite3.Connection,
    query: str,
    *,
    label: str = "",
    sort: str = "score",
    limit: int,
    less_sure: LessSure = "none",
    min_margin: float | None = None,
) -> list[int]:
    """The ids of the first `limit` moments of a query. Raises QueryError."""
    rows = _rows(reader, Search(reader, query, min_margin), label, sort, less_sure)
    return [row.id for row in itertools.islice(rows, limit)]


def count_results(
    reader: sqlite3.Connection, query: str, *, label: str = "", min_margin: float | None = None
) -> ResultCounts:
    """The counts of a query's sure moments. Raises QueryError."""
    search = Search(reader, query, min_margin)
    rows = list(itertools.islice(_rows(reader, search, label, "score", "none"), MAX_COUNTED + 1))
    is_complete, rows = len(rows) <= MAX_COUNTED, rows[:MAX_COUNTED]
    label_names = dict(reader.execute("SELECT id, name FROM labels"))
    model_names = dict(reader.execute("SELECT id, name FROM models"))
    content_ids = {row.content_id for row in rows}
    years, displays = _years_and_displays(reader, content_ids)
    return ResultCounts(
        len(rows),
        len({row.content_id for row in rows}),
        is_complete,
        _most_first(label_names[row.label_id] for row in rows),
        _most_first(
            folder for row in rows for folder in _folders(search, row, displays.get(row.content_id, ()))
        ),
        sorted(
            Counter(years[row.content_id] for row in rows if row.content_id in years).items(), reverse=True
        ),
        _most_first(model_names[row.model_id] for row in rows if row.model_id is not None),
        _most_first("user" if row.model_id is None else "model" for row in rows),
    )


def _rows(
    reader: sqlite3.Connection, search: Search, label: str, sort: str, less_sure: LessSure
) -> Iterator[SegmentRow]:
    rows = search.rows(sort=sort, less_sure=less_sure)
    if not label:
        return rows
    label_ids = {row[0] for row in reader.execute("SELECT id FROM labels WHERE name = ?", (label,))}
    return (row for row in rows if any(step.label_id in label_ids for step in row.segments))


def _found(reader: sqlite3.Connection, rows: list[SegmentRow], search: Search) -> list[FoundMoment]:
    """The moments of rows that `search` found."""
    moments = list(search.moments(rows))
    details = _details(reader, [moment.id for moment in moments])
    return [FoundMoment(moment, *details[moment.id]) for moment in moments if moment.id in details]


def _details(reader: sqlite3.Connection, moment_ids: list[int]) -> dict[int, tuple[int, str, str | None]]:
    """Content id, verdict and date of each moment."""
    rows = reader.execute(
        "SELECT s.id, s.content_id, coalesce(s.verdict, ''), c.recorded_at FROM segments s "
        "JOIN contents c ON c.id = s.content_id WHERE s.id IN (SELECT value FROM json_each(?))",
        (json.dumps(moment_ids),),
    )
    return {moment_id: tuple(details) for moment_id, *details in rows}


def _folders(search: Search, row: SegmentRow, displays: Sequence[str]) -> set[str]:
    """The folders as shown of a row's video, without those of copies that the query does not fit."""
    if len(displays) > 1:
        displays = [display_path(path) for path in search.fitting_paths(row)]
    return {os.path.dirname(display) for display in displays}


def _years_and_displays(
    reader: sqlite3.Connection, content_ids: set[int]
) -> tuple[dict[int, str], Mapping[int, Sequence[str]]]:
    """The year of each content that has one, and the paths as shown of its files; from memory if they are there."""
    table = table_in_memory(reader)
    if table is None:
        return _years(reader, content_ids), displays_by_content(reader, content_ids)
    rows = {content_id: row for content_id in content_ids if (row := table.row_of(content_id)) is not None}
    years = {content_id: table.days[row][:4] for content_id, row in rows.items() if table.days[row]}
    return years, {
        content_id: table.copies.get(row) or (table.displays[row],) for content_id, row in rows.items()
    }


def _years(reader: sqlite3.Connection, content_ids: set[int]) -> dict[int, str]:
    """The year of each content that has one."""
    rows = reader.execute(
        "SELECT c.id, c.recorded_at, min(iif(f.mtime_ns > ?, f.mtime_ns, NULL)) "
        "FROM contents c JOIN files f ON f.content_id = c.id "
        "WHERE c.id IN (SELECT value FROM json_each(?)) GROUP BY c.id",
        (MIN_INTEGER, json.dumps(sorted(content_ids))),
    )
    dates = ((content_id, video_date(recorded_at, mtime_ns)) for content_id, recorded_at, mtime_ns in rows)
    years = ((content_id, _year(seconds)) for content_id, seconds in dates if seconds is not None)
    return {content_id: year for content_id, year in years if year}


def _year(seconds: float) -> str:
    """The year of this machine's calendar; empty if the clock cannot tell it."""
    try:
        return str(time.localtime(seconds).tm_year)
    except (ValueError, OverflowError, OSError):
        return ""


def _most_first(values: Iterable[str]) -> list[tuple[str, int]]:
    return Counter(values).most_common(_MAX_VALUES)
