"""The files of contents, in the order in which one of several is preferred. What shows or opens a file asks here.

A query may ask for another copy: `search/copies.py` chooses for searches.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection
from typing import NamedTuple

_PREFERRED_FIRST = "f.state DESC, f.id"  # present before missing, then the one that was found first


class ContentFile(NamedTuple):
    """A file of a content: its absolute path, also as shown, and whether it was there when it was last looked for."""

    path: bytes
    display: str
    is_present: bool


def content_files(reader: sqlite3.Connection, content_id: int) -> list[ContentFile]:
    """The files of a content, the preferred one first; none if all were forgotten."""
    rows = reader.execute(
        "SELECT v.mount, f.path, f.display, f.state = 'present' FROM files f JOIN volumes v ON v.id = f.volume_id "
        f"WHERE f.content_id = ? ORDER BY {_PREFERRED_FIRST}",
        (content_id,),
    )
    return [
        ContentFile(os.path.join(mount, path), display, bool(is_present))
        for mount, path, display, is_present in rows
    ]


def displays_by_content(
    reader: sqlite3.Connection, content_ids: Collection[int] | None = None
) -> dict[int, list[str]]:
    """The paths as shown of the files of contents (None: of all), the preferred one first, by content."""
    condition = "" if content_ids is None else "WHERE f.content_id IN (SELECT value FROM json_each(?)) "
    rows = reader.execute(
        f"SELECT f.content_id, f.display FROM files f {condition}ORDER BY {_PREFERRED_FIRST}",
        () if content_ids is None else (json.dumps(sorted(content_ids)),),
    )
    displays: dict[int, list[str]] = {}
    for content_id, display in rows:
        displays.setdefault(content_id, []).append(display)
    return displays
