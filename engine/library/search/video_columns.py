"""Columns of the table of videos, kept in memory by searches and lists while the library's videos do not change."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar, cast

_KEPT_VERSIONS = 1  # a server has one library; while a scan changes it, two would take twice the memory
_KEPT_MATCHES = 8
_ColumnT = TypeVar("_ColumnT")


class VideoColumns:
    """The columns of one version of the videos, each read when first asked for. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._columns: dict[str, Any] = {}
        self._matches: OrderedDict[object, set[int]] = OrderedDict()

    def column(self, name: str, read: Callable[[], _ColumnT]) -> _ColumnT:
        """The column called `name`, by `read` if it is not there yet. Not to be changed."""
        with self._lock:
            if name not in self._columns:
                self._columns[name] = read()
            return cast(_ColumnT, self._columns[name])

    def peek(self, name: str) -> Any:
        """The column called `name` if it was read already, else None. Not to be changed."""
        with self._lock:
            return self._columns.get(name)

    def matches(self, node: object, find: Callable[[], set[int]]) -> set[int]:
        """The contents that match the filter `node`, by `find` if not asked for lately. Not to be changed."""
        with self._lock:
            if node not in self._matches:
                self._matches[node] = find()
                while len(self._matches) > _KEPT_MATCHES:
                    self._matches.popitem(last=False)
            self._matches.move_to_end(node)
            return self._matches[node]


_versions: OrderedDict[int, VideoColumns] = OrderedDict()
_versions_lock = threading.Lock()


def video_version(reader: sqlite3.Connection) -> int:
    """A number that changes with the files, their places and the facts of the videos; of no other library."""
    return int(reader.execute("SELECT value FROM versions WHERE name = 'videos'").fetchone()[0])


def video_columns(reader: sqlite3.Connection) -> VideoColumns:
    """The columns of the videos as they are now, shared by all who ask for this version."""
    # The version first: what is read from now on is not older.
    version = video_version(reader)
    with _versions_lock:
        columns = _versions.setdefault(version, VideoColumns())
        _versions.move_to_end(version)
        while len(_versions) > _KEPT_VERSIONS:
            _versions.popitem(last=False)
    return columns
