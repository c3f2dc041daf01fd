"""The first view of a library: the best moment of each label, then the second best of each, and so on."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator

from vtag.engine.library.search.rows import BY_SCORE, COLUMNS, SegmentRow, drop_duplicates


def best_rows(reader: sqlite3.Connection) -> Iterator[SegmentRow]:
    """All moments in rounds: of each label the best one, by score; then the second best of each; and so on.

    Reads each label's index no further than its consumer needs.
    """
    label_ids = [row[0] for row in reader.execute("SELECT id FROM labels ORDER BY id")]
    streams = [_label_rows(reader, label_id) for label_id in label_ids]
    while streams:
        heads = [(next(stream, None), stream) for stream in streams]
        streams = [stream for row, stream in heads if row is not None]
        yield from sorted((row for row, _ in heads if row is not None), key=BY_SCORE.key)


def _label_rows(reader: sqlite3.Connection, label_id: int) -> Iterator[SegmentRow]:
    """A label's moments that nobody rejected, best first; of what several models found, only the best."""
    rows = reader.execute(
        f"SELECT {COLUMNS} FROM segments WHERE label_id = ? AND verdict IS NOT 'rejected' "
        f"ORDER BY {BY_SCORE.sql}",
        (label_id,),
    )
    return drop_duplicates(
        itertools.starmap(SegmentRow, rows), key=lambda row: row.content_id, source=lambda row: row.model_id
    )
