"""Which videos a filter leaves: by path, by date, by whether they are there; one look at the table of files each."""

from __future__ import annotations

import fnmatch
import os
import re
import sqlite3
import unicodedata
from datetime import datetime
from functools import cached_property

from vtag.engine.library.search import query
from vtag.engine.library.search.query import Node
from vtag.engine.library.store.file_stat import MIN_INTEGER, date_of


def is_of_videos(node: Node) -> bool:
    """Whether a filter asks nothing of the moment, only of its video."""
    if isinstance(node, query.Not):
        return is_of_videos(node.part)
    if isinstance(node, query.And | query.Or):
        return all(map(is_of_videos, node.parts))
    return isinstance(node, query.PathFilter | query.DateFilter | query.UnavailableFilter)


class Videos:
    """The contents of a library as filters see them; each table is read once."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader

    @cached_property
    def all(self) -> set[int]:
        """Ids of all contents."""
        return {row[0] for row in self._reader.execute("SELECT id FROM contents")}

    @cached_property
    def dates(self) -> dict[int, float]:
        """When each was recorded, seconds since 1970: by the container, else the oldest date of its files."""
        rows = self._reader.execute(
            "SELECT id, recorded_at, iif(coalesce(recorded_at, '') = '', "
            "(SELECT min(mtime_ns) FROM files WHERE content_id = contents.id AND mtime_ns > ?), NULL) FROM contents",
            (MIN_INTEGER,),
        )
        dated = ((content, _date(recorded, mtime_ns)) for content, recorded, mtime_ns in rows)
        return {content: date for content, date in dated if date is not None}

    def that(self, node: Node) -> set[int]:
        """Ids of the contents that a filter (see `is_of_videos`) leaves."""
        match node:
            case query.Not(part):
                return self.all - self.that(part)
            case query.And(parts):
                return set.intersection(*map(self.that, parts))
            case query.Or(parts):
                return set.union(*map(self.that, parts))
            case query.PathFilter(pattern):
                fits = path_pattern(pattern)
                return {content for content, path in self._files if fits.match(path)}
            case query.DateFilter(operator, when):
                after, instant = operator == ">=", _seconds(when)
                return {content for content, date in self.dates.items() if (date >= instant) == after}
            case query.UnavailableFilter():
                return self.all - {content for content, path in self._raw_files if os.path.lexists(path)}
        raise AssertionError(node)

    @cached_property
    def _raw_files(self) -> list[tuple[int, bytes]]:
        rows = self._reader.execute(
            "SELECT f.content_id, v.mount, f.path FROM files f JOIN volumes v ON v.id = f.volume_id"
        )
        return [(content, os.path.join(mount, path)) for content, mount, path in rows]

    @cached_property
    def _files(self) -> list[tuple[int, str]]:
        return [(content, _comparable(os.fsdecode(path))) for content, path in self._raw_files]


def path_pattern(pattern: str) -> re.Pattern[str]:
    """What fits `path:`: a glob over the whole path, of which a relative one may begin at any folder.

    Without a wildcard it is looked for anywhere in the path. `*` goes over folders, too; case does not count.
    """
    pattern = os.path.expanduser(pattern)
    anchored = os.path.isabs(pattern) or pattern.startswith("*")
    pattern = _comparable(pattern)
    if not any(c in pattern for c in "*?["):
        return re.compile(f".*{re.escape(pattern)}", re.DOTALL)
    return re.compile(fnmatch.translate(pattern if anchored else f"*/{pattern}"))


def _comparable(text: str) -> str:
    if os.sep != "/":
        text = text.replace(os.sep, "/")
    return text.casefold() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def _date(recorded: str | None, mtime_ns: int | None) -> float | None:
    if recorded:
        try:
            return _seconds(datetime.fromisoformat(recorded))
        except ValueError:
            return None
    return date_of(mtime_ns) if mtime_ns is not None else None


def _seconds(when: datetime) -> float:
    """Since 1970; a time without a zone is local. Of years that the clock cannot be asked about, about as many."""
    try:
        return when.timestamp()
    except (ValueError, OverflowError, OSError):
        return (when.year - 1970) * 31_556_952.0
