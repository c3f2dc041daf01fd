"""Text to labels to moments, over the standard library's sqlite3 alone, so that a search starts at once."""

from __future__ import annotations

import difflib
import os
import re
import sqlite3
from dataclasses import dataclass
from typing import NamedTuple

from vtag.engine.errors import QueryError

DEFAULT_LIMIT = 50
_TOKEN = re.compile(r'(-?)"([^"]*)"?|(\S+)')


@dataclass(frozen=True)
class Term:
    """One alternative of a query: words and phrases that a label has to have, and those that it must not."""

    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]


class Moment(NamedTuple):
    """A stretch of a video in which somebody or some model saw an action."""

    id: int
    path: bytes  # absolute
    label: str
    start_ms: int
    end_ms: int
    score: float
    model: str | None
    source: str  # model, user
    present: bool  # whether a file with this content is known to be there


def parse(query: str) -> list[Term]:
    """The alternatives of a query: `words`, `"a phrase"`, `-not`, joined by OR.

    Raises QueryError where nothing is asked for.
    """
    terms: list[Term] = []
    wanted: list[str] = []
    unwanted: list[str] = []
    for minus, phrase, word in (*_TOKEN.findall(query), ("", "", "OR")):
        if word == "OR":
            if wanted:
                terms.append(Term(tuple(wanted), tuple(unwanted)))
            elif unwanted:
                raise QueryError("a query with -not needs a word to find, too")
            wanted, unwanted = [], []
            continue
        text = (phrase or word).strip()
        negative = bool(minus)
        if word.startswith("-") and len(word) > 1:
            negative, text = True, word[1:]
        if _has_letters(text):
            (unwanted if negative else wanted).append(text)
    if not terms:
        raise QueryError("the query names nothing to look for: say a word, as in `vtag search archery`")
    return terms


def matching_labels(reader: sqlite3.Connection, terms: list[Term]) -> list[int]:
    """Ids of the labels that fit an alternative; a word fits by its stem."""
    found: set[int] = set()
    for term in terms:
        expression = " AND ".join(map(_quoted, term.wanted))
        if term.unwanted:
            expression = f"({expression}) NOT ({' OR '.join(map(_quoted, term.unwanted))})"
        rows = reader.execute("SELECT rowid FROM labels_fts WHERE labels_fts MATCH ?", (expression,))
        found.update(row[0] for row in rows)
    return sorted(found)


def nearest_labels(reader: sqlite3.Connection, query: str, count: int = 5) -> list[str]:
    """Labels whose words look like those of a query that fits none."""
    names = [row[0] for row in reader.execute("SELECT name FROM labels ORDER BY name")]
    by_word: dict[str, list[str]] = {}
    for name in names:
        for word in (name.lower(), *re.findall(r"\w+", name.lower())):
            by_word.setdefault(word, []).append(name)
    near: list[str] = []
    for word in (query.lower(), *re.findall(r"\w+", query.lower())):
        for match in difflib.get_close_matches(word, by_word, count, 0.6):
            near += by_word[match]
    return list(dict.fromkeys(near))[:count]


def search(
    reader: sqlite3.Connection,
    query: str,
    *,
    min_score: float = 0.0,
    limit: int = DEFAULT_LIMIT,
    model: str | None = None,
) -> list[Moment]:
    """Moments of the labels that fit `query`, best first; none that a person rejected.

    A moment that several models saw is there once, with its best score. Raises QueryError.
    """
    labels = matching_labels(reader, parse(query))
    where = f"s.label_id IN ({', '.join(map(str, labels)) or 'NULL'})"
    # several models may say the same: read more than is asked for, until enough distinct ones are there
    fetch = limit * 2 + 10
    while True:
        rows = _moments(
            reader, f"{where} AND s.score >= ?", "s.score DESC, s.id", [min_score], model=model, limit=fetch
        )
        found = _once(rows)
        if len(found) >= limit or len(rows) < fetch:
            return found[:limit]
        fetch *= 4


def moments_of(reader: sqlite3.Connection, content_id: int) -> list[Moment]:
    """All moments of one content, by time."""
    return _once(_moments(reader, "s.content_id = ?", "s.score DESC, s.id", [content_id], limit=-1))


def _moments(
    reader: sqlite3.Connection,
    where: str,
    order: str,
    parameters: list[object],
    *,
    limit: int,
    model: str | None = None,
) -> list[tuple[int, Moment]]:
    if model is not None:
        where += " AND (m.name = ? OR m.source = ?)"
        parameters = [*parameters, model, model]
    rows = reader.execute(
        f"""
        SELECT s.content_id, s.id, v.mount, f.path, l.name, s.start_ms, s.end_ms, s.score, m.name,
               f.state = 'present'
        FROM segments s
        JOIN labels l ON l.id = s.label_id
        JOIN files f ON f.id = (
            SELECT id FROM files WHERE content_id = s.content_id ORDER BY state = 'missing', id LIMIT 1)
        JOIN volumes v ON v.id = f.volume_id
        LEFT JOIN models m ON m.id = s.model_id
        WHERE {where} AND s.verdict IS NOT 'rejected' ORDER BY {order} LIMIT ?
        """,
        (*parameters, limit),
    )
    return [
        (
            content,
            Moment(
                id_,
                os.path.join(mount, path),
                label,
                start,
                end,
                score,
                name,
                "user" if name is None else "model",
                bool(present),
            ),
        )
        for content, id_, mount, path, label, start, end, score, name, present in rows
    ]


def _once(rows: list[tuple[int, Moment]]) -> list[Moment]:
    """Best first in, best first out; what overlaps a better one of the same content and label is left out."""
    kept: dict[tuple[int, str], list[Moment]] = {}
    out = []
    for content, moment in rows:
        better = kept.setdefault((content, moment.label), [])
        if not any(
            b.model != moment.model and b.start_ms < moment.end_ms and moment.start_ms < b.end_ms
            for b in better
        ):
            better.append(moment)
            out.append(moment)
    return out


def _has_letters(text: str) -> bool:
    return any(c.isalnum() for c in text)


def _quoted(text: str) -> str:
    """Text as an FTS5 string, in which nothing is an operator."""
    return '"' + text.replace('"', '""').replace("\0", " ") + '"'


class SeenContent(NamedTuple):
    """A content as a timeline needs it."""

    id: int
    duration_ms: int | None
    error: str | None


def content_of(reader: sqlite3.Connection, path: bytes) -> SeenContent | None:
    """The content that the file at `path` (absolute) held when it was last seen."""
    rows = reader.execute("SELECT id, mount FROM volumes").fetchall()
    for volume, mount in sorted(rows, key=lambda row: -len(row[1])):
        prefix = os.path.join(mount, b"")
        if path.startswith(prefix):
            row = reader.execute(
                "SELECT c.id, c.duration_ms, c.error FROM files f JOIN contents c ON c.id = f.content_id "
                "WHERE f.volume_id = ? AND f.path = ?",
                (volume, path[len(prefix) :]),
            ).fetchone()
            if row:
                return SeenContent(*row)
    return None


def label_counts(reader: sqlite3.Connection, word: str | None = None) -> list[tuple[str, int]]:
    """Labels (all, or those that a word fits) and how many moments each has, most first."""
    where = "1"
    parameters: list[object] = []
    if word is not None:
        ids = matching_labels(reader, parse(word)) if _has_letters(word) else []
        where = f"(l.id IN ({', '.join(map(str, ids)) or 'NULL'}) OR instr(lower(l.name), lower(?)) > 0)"
        parameters.append(word)
    return reader.execute(
        f"""
        SELECT l.name, count(s.id) FROM labels l
        LEFT JOIN segments s ON s.label_id = l.id AND s.verdict IS NOT 'rejected'
        WHERE {where} GROUP BY l.id ORDER BY count(s.id) DESC, l.name
        """,
        parameters,
    ).fetchall()
