"""The rows of a library without ids and dates of the machine, to compare libraries that were filled apart."""

from __future__ import annotations

from typing import Any

from vtag.engine.library.database import LibraryWriter

Rows = dict[str, list[tuple[Any, ...]]]

_FACTS = {
    "contents": "SELECT key, size_bytes, duration_ms, width, codec, packets_key, shown_as, note, error, clock "
    "FROM contents",
    "files": "SELECT v.key, f.path, f.size_bytes, f.mtime_ns, c.key, f.state FROM files f "
    "JOIN volumes v ON v.id = f.volume_id JOIN contents c ON c.id = f.content_id",
    "roots": "SELECT v.key, r.path FROM roots r JOIN volumes v ON v.id = r.volume_id",
    "labels": "SELECT name, threshold FROM labels",
    "models": "SELECT name, source, backbone_hash, head_hash, spec, weight, bias, threshold FROM models",
    "words": "SELECT c.key, w.label, w.start_ms, w.end_ms, w.verdict, w.said_at FROM words w "
    "JOIN contents c ON c.id = w.content_id",
    "derivations": "SELECT c.key, m.head_hash, d.sampling, d.rules, d.windows FROM derivations d "
    "JOIN contents c ON c.id = d.content_id JOIN models m ON m.id = d.model_id",
    "segments": "SELECT c.key, l.name, m.head_hash, s.start_ms, s.end_ms, s.score, s.margin, s.is_label_best, "
    "s.verdict FROM segments s "
    "JOIN contents c ON c.id = s.content_id JOIN labels l ON l.id = s.label_id "
    "LEFT JOIN models m ON m.id = s.model_id",
    "unfinished": "SELECT c.key, u.backbone_hash, u.sampling, u.seen_ms, u.length_ms FROM unfinished u "
    "JOIN contents c ON c.id = u.content_id",
}


def facts(library: LibraryWriter) -> Rows:
    """All rows of a library, sorted, without ids and dates."""
    rows = {name: sorted(library.connection.execute(query), key=str) for name, query in _FACTS.items()}
    rows["observations"] = sorted(
        library.observations.execute(
            "SELECT content_key, backbone_hash, sampling, views, dim, window_count, windows, features "
            "FROM observations"
        )
    )
    return rows
