"""Which of several files with the same content a search shows: a copy that the query fits, and that exists."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from vtag.engine.library.search import query
from vtag.engine.library.search.evaluate import QueryEvaluator
from vtag.engine.library.search.filters import PathMatcher, has_path_filter
from vtag.engine.library.search.query import Node
from vtag.engine.library.search.rows import SegmentRow
from vtag.engine.library.store.file_paths import content_files
from vtag.engine.system.silent_disks import exists_in_time


class Location(NamedTuple):
    """Where a content is: a path, whether a file exists there, and all paths that the query fits, this one first."""

    path: bytes
    present: bool
    copies: tuple[bytes, ...]


class Copies:
    """The files of contents, for one query; each content's are looked up once."""

    def __init__(
        self, reader: sqlite3.Connection, evaluator: QueryEvaluator | None = None, node: Node | None = None
    ) -> None:
        """`node` is the query's tree, as `evaluator` parsed it; without them, any copy fits."""
        self._reader = reader
        self._evaluator = evaluator
        self._node = node if node is not None and has_path_filter(node) else None
        self._matches = PathMatcher()
        self._paths: dict[int, list[bytes]] = {}
        self._locations: dict[int, Location | None] = {}  # of contents of which any copy fits

    def locate(self, row: SegmentRow) -> Location | None:
        """The copy to show a row with; None if all files of its content were forgotten."""
        if self._node is None or len(self._paths_of(row.content_id)) < 2:
            return self.locate_content(row.content_id)
        return _first_existing(self.fitting_paths(row))

    def fitting_paths(self, row: SegmentRow) -> list[bytes]:
        """The copies that the query fits, whether they exist or not."""
        paths, node = self._paths_of(row.content_id), self._node
        if node is None or len(paths) < 2:
            return paths
        fits = {path: self._fits(node, row, path) for path in paths}
        best = max(fits.values(), key=_certainty)
        return [path for path in paths if fits[path] == best]

    def locate_content(self, content_id: int) -> Location | None:
        """As `locate`, for a content of which any copy fits."""
        if content_id not in self._locations:
            self._locations[content_id] = _first_existing(self._paths_of(content_id))
        return self._locations[content_id]

    def _paths_of(self, content_id: int) -> list[bytes]:
        if content_id not in self._paths:
            self._paths[content_id] = [file.path for file in content_files(self._reader, content_id)]
        return self._paths[content_id]

    def _fits(self, node: Node, row: SegmentRow, path: bytes) -> bool | None:
        """Whether `node` can find `row` in the file at `path`; None if that does not depend on the path."""
        match node:
            case query.PathGlobFilter(glob):
                return self._matches(glob, path)
            case query.Not(part) if query.is_filter(part):
                fits = self._fits(part, row, path)
                return None if fits is None else not fits
            case query.And(parts):
                filters = [part for part in parts if query.is_filter(part)]
                searches = [p for p in parts if p not in filters and not isinstance(p, query.Not)]
                found = _any(self._fits(search, row, path) for search in searches) if searches else True
                return _all((found, *(self._fits(part, row, path) for part in filters)))
            case query.Or(parts):
                return _any(self._fits(part, row, path) for part in parts)
            case query.Then(steps) if len(steps) == len(row.steps):
                pairs = zip(steps, row.steps, strict=True)
                return _all(self._fits(step, step_row, path) for step, step_row in pairs)
            case query.TextTerm() | query.LabelTerm() if self._evaluator is not None:
                label_ids = self._evaluator.label_ids(node)
                return any(segment.label_id in label_ids for segment in row.segments)
        return None


def locate_content(reader: sqlite3.Connection, content_id: int) -> tuple[bytes, bool] | None:
    """The path of a content and whether a file exists there; of several copies, one that exists if any does."""
    location = Copies(reader).locate_content(content_id)
    return location[:2] if location else None


def _first_existing(paths: list[bytes]) -> Location | None:
    """The first of `paths` that exists, else the first; None if there are none."""
    if not paths:
        return None
    existing = next((path for path in paths if exists_in_time(path)), None)
    shown = paths[0] if existing is None else existing
    return Location(shown, existing is not None, (shown, *(path for path in paths if path != shown)))


def _certainty(fits: bool | None) -> int:
    return {False: 0, None: 1, True: 2}[fits]


def _all(values: Iterable[bool | None]) -> bool | None:
    return min(values, key=_certainty, default=True)


def _any(values: Iterable[bool | None]) -> bool | None:
    return max(values, key=_certainty, default=False)
