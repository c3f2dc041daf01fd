"""Filters of videos: by path, by date, by whether a file exists."""

from __future__ import annotations

import fnmatch
import os
import re
import sqlite3
import unicodedata
from array import array
from collections.abc import Callable, Iterator
from datetime import datetime

from vtag.engine.library.search import query
from vtag.engine.library.search.query import Node
from vtag.engine.library.search.video_columns import video_columns
from vtag.engine.library.store.file_stat import MIN_INTEGER, date_of
from vtag.engine.text import display_path

_YEAR_S = 31_556_952.0  # mean length of a year of the Gregorian calendar, in seconds


def is_video_filter(node: Node) -> bool:
    """Whether a filter depends only on the video, not on the moment."""
    if isinstance(node, query.Not):
        return is_video_filter(node.part)
    if isinstance(node, query.And | query.Or):
        return all(map(is_video_filter, node.parts))
    return isinstance(node, query.PathGlobFilter | query.DateFilter | query.UnavailableFilter)


def has_path_filter(node: Node) -> bool:
    """Whether a tree has a filter by path anywhere."""
    match node:
        case query.PathGlobFilter():
            return True
        case query.Not(part):
            return has_path_filter(part)
        case query.And(parts) | query.Or(parts) | query.Then(parts):
            return any(map(has_path_filter, parts))
    return False


class PathMatcher:
    """Whether paths fit globs of `path:`; each glob is compiled once."""

    def __init__(self) -> None:
        self._patterns: dict[str, re.Pattern[str]] = {}

    def __call__(self, glob: str, path: bytes) -> bool:
        """Whether `path` fits `glob`."""
        if glob not in self._patterns:
            self._patterns[glob] = compile_path_glob(glob)
        return any(map(self._patterns[glob].match, _comparable_forms(path)))


class LibraryVideos:
    """What filters need to know of a library's videos; it is read when first needed, and kept while it is true."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        self._columns = video_columns(reader)

    @property
    def content_ids(self) -> set[int]:
        """Ids of all contents. Not to be changed."""
        return self._columns.column("content_ids", self._read_content_ids)

    @property
    def dates(self) -> dict[int, float]:
        """When each video was recorded, seconds since 1970: by its container, else by its oldest file."""
        return self._columns.column("dates", self._read_dates)

    def matching(self, node: Node) -> set[int]:
        """Ids of the contents that match a filter of videos (see `is_video_filter`). Not to be changed.

        A content matches if one of its files does: of several filters by path, one file has to pass all.
        """
        if _depends_on_disks(node):
            return self._find_matches(node)
        return self._columns.matches(node, lambda: self._find_matches(node))

    def _find_matches(self, node: Node) -> set[int]:
        if not has_path_filter(node):
            return self._matching(node, lambda: self.content_ids, lambda content_ids: content_ids)
        contents = self._file_contents
        files = self._matching(
            node,
            lambda: set(range(len(contents))),
            lambda ids: {file for file, content_id in enumerate(contents) if content_id in ids},
        )
        return {contents[file] for file in files}

    def _matching(
        self,
        node: Node,
        everything: Callable[[], set[int]],
        of_contents: Callable[[set[int]], set[int]],
    ) -> set[int]:
        """The members of `everything`, which are contents or files, that match `node`.

        `of_contents` returns the members that belong to contents.
        """
        match node:
            case query.Not(part):
                return everything() - self._matching(part, everything, of_contents)
            case query.And(parts):
                return set.intersection(*(self._matching(part, everything, of_contents) for part in parts))
            case query.Or(parts):
                return set.union(*(self._matching(part, everything, of_contents) for part in parts))
            case query.PathGlobFilter(glob):
                pattern = compile_path_glob(glob)
                _, paths, display_paths = self._files
                files = {file for file, path in enumerate(paths) if pattern.match(path)}
                return files | {file for file, path in display_paths.items() if pattern.match(path)}
            case query.DateFilter(operator, when):
                is_lower_bound, bound = operator == ">=", _seconds(when)
                return of_contents({i for i, date in self.dates.items() if (date >= bound) == is_lower_bound})
            case query.UnavailableFilter():
                available = {content_id for content_id, path in self._read_paths() if os.path.lexists(path)}
                return of_contents(self.content_ids - available)
        raise AssertionError(node)

    @property
    def _file_contents(self) -> array[int]:
        return self._files[0]

    @property
    def _files(self) -> tuple[array[int], list[str], dict[int, str]]:
        """The content of each file, its comparable path, and the path as shown of those for which it differs.

        After the files, the contents without a file.
        """
        return self._columns.column("files", self._read_files)

    def _read_content_ids(self) -> set[int]:
        return {row[0] for row in self._reader.execute("SELECT id FROM contents")}

    def _read_dates(self) -> dict[int, float]:
        rows = self._reader.execute(
            "SELECT id, recorded_at, iif(coalesce(recorded_at, '') = '', "
            "(SELECT min(mtime_ns) FROM files WHERE content_id = contents.id AND mtime_ns > ?), NULL) FROM contents",
            (MIN_INTEGER,),
        )
        dates = (
            (content_id, video_date(recorded_at, mtime_ns)) for content_id, recorded_at, mtime_ns in rows
        )
        return {content_id: date for content_id, date in dates if date is not None}

    def _read_files(self) -> tuple[array[int], list[str], dict[int, str]]:
        contents, paths, display_paths = array("q"), list[str](), dict[int, str]()
        for file, (content_id, path) in enumerate(self._read_paths()):
            stored_form, *display_forms = _comparable_forms(path)
            contents.append(content_id)
            paths.append(stored_form)
            display_paths.update((file, form) for form in display_forms)
        without_file = self._reader.execute(
            "SELECT id FROM contents c WHERE NOT EXISTS (SELECT 1 FROM files WHERE content_id = c.id) ORDER BY id"
        )
        contents.extend(row[0] for row in without_file)
        return contents, paths, display_paths

    def _read_paths(self) -> Iterator[tuple[int, bytes]]:
        """The content and the absolute path of each file."""
        prefixes: dict[bytes, bytes] = {}  # joining each path of 100,000 anew takes longer than all else
        for content_id, mount, path in self._reader.execute(
            "SELECT f.content_id, v.mount, f.path FROM files f JOIN volumes v ON v.id = f.volume_id"
        ):
            yield (
                content_id,
                (prefixes.get(mount) or prefixes.setdefault(mount, os.path.join(mount, b""))) + path,
            )


def _depends_on_disks(node: Node) -> bool:
    """Whether a filter of videos depends on whether files exist, which no version of the library says."""
    match node:
        case query.Not(part):
            return _depends_on_disks(part)
        case query.And(parts) | query.Or(parts):
            return any(map(_depends_on_disks, parts))
    return isinstance(node, query.UnavailableFilter)


def compile_path_glob(glob: str) -> re.Pattern[str]:
    """The pattern of `path:`, a glob over the whole path; a relative glob may begin at any folder.

    A text without wildcards matches anywhere in the path. `*` also matches `/`. Case is ignored. Callers match
    it with a path as it is stored and as results show it.
    """
    glob = os.path.expanduser(glob)
    is_anchored = os.path.isabs(glob) or glob.startswith("*")
    glob = _comparable(glob)
    if not any(c in glob for c in "*?["):
        return re.compile(f".*{re.escape(glob)}", re.DOTALL)
    return re.compile(fnmatch.translate(glob if is_anchored else f"*/{glob}"))


def _comparable_forms(path: bytes) -> list[str]:
    """A path for comparison: as it is stored and, if it has characters that cannot be shown, as results show it.

    People copy the second form from a result, and the page's links have it.
    """
    text = os.fsdecode(path)
    if text.isprintable():
        return [_comparable(text)]
    return list(dict.fromkeys(map(_comparable, (text, display_path(path)))))


def _comparable(text: str) -> str:
    if os.sep != "/":
        text = text.replace(os.sep, "/")
    return text.casefold() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def video_date(recorded_at: str | None, mtime_ns: int | None) -> float | None:
    """When a video was recorded, seconds since 1970: by its container, else by its oldest file; None if unknown."""
    if recorded_at:
        try:
            return _seconds(datetime.fromisoformat(recorded_at))
        except ValueError:
            return None
    return date_of(mtime_ns) if mtime_ns is not None else None


def _seconds(when: datetime) -> float:
    """Seconds since 1970. A time without a zone is local; a year that the clock rejects is approximate."""
    try:
        return when.timestamp()
    except (ValueError, OverflowError, OSError):
        return (when.year - 1970) * _YEAR_S
