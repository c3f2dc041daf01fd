"""The views `videos`, `moments` and `annotations`: the library for other programs. docs/library.md describes them.

Their names, columns and meaning stay when tables change: a migration that changes a table that they read calls
`drop_views` first and `create_views` last. Times are those of players (engine/video_clock.py), as everywhere outside
of vtag; the tables have the library's times.
"""

from __future__ import annotations

import sqlite3

_CLOCK_IS_PLAIN = "(c.clock IS NULL OR c.clock LIKE '{\"stretches\": [[0, 0]],%')"


def _rounded(microseconds: str) -> str:
    """SQL for a start of a stretch in whole milliseconds, from the arguments of json_extract."""
    return f"CAST(round(json_extract({microseconds}) / 1000.0) AS INTEGER)"


def _player_ms(library_ms: str) -> str:
    """SQL for `VideoClock.player_ms` of a time in the library, by the clock of the content `c`."""
    return f"""
        CASE WHEN {_CLOCK_IS_PLAIN} THEN {library_ms} ELSE (
            SELECT max(0, min(
                {library_ms} - {_rounded("stretch.value, '$[0]'")} + {_rounded("stretch.value, '$[1]'")},
                coalesce({_rounded("c.clock, '$.stretches[' || (stretch.key + 1) || '][1]'")}, 1 << 62)
            ))
            FROM json_each(c.clock, '$.stretches') AS stretch
            WHERE stretch.key = 0 OR {_rounded("stretch.value, '$[0]'")} <= {library_ms}
            ORDER BY stretch.key DESC LIMIT 1
        ) END"""


# of several files with the same content the first that is there; everything up to the last slash of its path
_FILE = "(SELECT id FROM files WHERE content_id = c.id ORDER BY state DESC, id LIMIT 1)"
_FOLDER = "rtrim(f.display, replace(f.display, '/', ''))"

_VIEWS = {
    "videos": f"""
        SELECT c.id AS id, f.display AS path, {_FOLDER} AS folder, substr(f.display, length({_FOLDER}) + 1) AS name,
            coalesce(f.state = 'present', 0) AS present,
            (SELECT count(*) FROM files WHERE content_id = c.id) AS copies,
            c.size_bytes AS size_bytes, c.duration_ms AS duration_ms, c.width AS width, c.height AS height,
            c.frame_rate AS frame_rate, c.codec AS codec, c.recorded_at AS recorded_at, c.added_at AS added_at,
            c.error AS error, c.note AS note
        FROM contents c LEFT JOIN files f ON f.id = {_FILE}""",
    "moments": f"""
        SELECT s.id AS id, s.content_id AS video_id, f.display AS path, l.name AS label,
            {_player_ms("s.start_ms")} AS start_ms,
            max({_player_ms("s.end_ms")}, 1 + {_player_ms("s.start_ms")}) AS end_ms, round(s.score, 6) AS score,
            s.verdict IS NOT NULL OR s.margin >= coalesce((
                SELECT iif(value = 'low', 1.5, iif(value = 'high', -1.5, 0)) FROM settings WHERE key = 'sensitivity'
            ), 0) AS sure,
            iif(s.model_id IS NULL, 'user', 'model') AS source, m.name AS model, s.verdict AS verdict
        FROM segments s JOIN contents c ON c.id = s.content_id JOIN labels l ON l.id = s.label_id
            LEFT JOIN files f ON f.id = {_FILE} LEFT JOIN models m ON m.id = s.model_id
        WHERE s.verdict IS NOT 'rejected'""",
    "annotations": f"""
        SELECT w.id AS id, w.content_id AS video_id, f.display AS path, w.label AS label,
            {_player_ms("w.start_ms")} AS start_ms, {_player_ms("w.end_ms")} AS end_ms, w.verdict AS verdict,
            w.said_at AS annotated_at
        FROM words w JOIN contents c ON c.id = w.content_id LEFT JOIN files f ON f.id = {_FILE}""",
}
VIEW_NAMES = tuple(_VIEWS)


def create_views(connection: sqlite3.Connection) -> None:
    """Create the views, inside the caller's transaction."""
    for name, select in _VIEWS.items():
        connection.execute(f"CREATE VIEW {name} AS {select}")


def drop_views(connection: sqlite3.Connection) -> None:
    """Drop the views, inside the caller's transaction, so that a migration can change their tables."""
    for name in VIEW_NAMES:
        connection.execute(f"DROP VIEW IF EXISTS {name}")
