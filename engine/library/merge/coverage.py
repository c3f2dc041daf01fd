"""Joins what two libraries know of videos that are scanned only in part.

A content that is observed and not in the table `unfinished` counts as complete. So a row is added before the features
come, and removed after they came.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import observations


class Scanned(NamedTuple):
    """What identifies an observation."""

    content_key: str
    backbone_hash: str
    sampling: str


class CoverageState(NamedTuple):
    """What both libraries had scanned before the merge; the partial ones with their covered and total length."""

    own_complete: frozenset[Scanned]
    other_complete: frozenset[Scanned]
    own_partial: Mapping[Scanned, tuple[int, int]]
    other_partial: Mapping[Scanned, tuple[int, int]]


def read_state(
    library: LibraryWriter, source: sqlite3.Connection, features: sqlite3.Connection | None
) -> CoverageState:
    """What both libraries have scanned."""
    own_partial, other_partial = _partial(library.connection), _partial(source)
    own, other = _observed(library.observations), _observed(features) if features else frozenset[Scanned]()
    return CoverageState(own - own_partial.keys(), other - other_partial.keys(), own_partial, other_partial)


def add_partial(library: LibraryWriter, state: CoverageState) -> None:
    """Add the rows of what only the other library has, and only in part; in the caller's transaction."""
    ids = dict(library.connection.execute("SELECT key, id FROM contents").fetchall())
    library.connection.executemany(
        "INSERT INTO unfinished (content_id, backbone_hash, sampling, seen_ms, length_ms) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        [
            (ids[scanned.content_key], scanned.backbone_hash, scanned.sampling, *lengths)
            for scanned, lengths in state.other_partial.items()
            if scanned not in state.own_complete
        ],
    )


def update_partial(library: LibraryWriter, state: CoverageState) -> None:
    """After the features came: remove the rows of what is complete now, and correct those of others."""
    with library.transaction() as db:
        for scanned, (seen_ms, length_ms) in _partial(db).items():
            content = "(SELECT id FROM contents WHERE key = ?)"
            where = f"WHERE content_id = {content} AND backbone_hash = ? AND sampling = ?"
            identity = tuple(scanned)
            if scanned in state.other_complete:
                db.execute(f"DELETE FROM unfinished {where}", identity)
            elif scanned in state.own_partial and scanned in state.other_partial:
                covered_ms = min(length_ms, _covered_ms(library, scanned))
                seen_ms = max(seen_ms, state.other_partial[scanned][0], covered_ms)
                db.execute(f"UPDATE unfinished SET seen_ms = ? {where}", (seen_ms, *identity))


def _partial(db: sqlite3.Connection) -> dict[Scanned, tuple[int, int]]:
    rows = db.execute(
        "SELECT c.key, u.backbone_hash, u.sampling, u.seen_ms, u.length_ms FROM unfinished u "
        "JOIN contents c ON c.id = u.content_id"
    )
    return {Scanned(*row[:3]): (row[3], row[4]) for row in rows}


def _observed(features: sqlite3.Connection) -> frozenset[Scanned]:
    rows = features.execute("SELECT content_key, backbone_hash, sampling FROM observations")
    return frozenset(Scanned(*row) for row in rows)


def _covered_ms(library: LibraryWriter, scanned: Scanned) -> int:
    """The length of the union of the observed windows."""
    observation = observations.get(library, *scanned)
    if observation is None:
        return 0
    starts, ends = observation.windows.T
    latest = np.maximum.accumulate(np.concatenate([[0], ends[:-1]]))
    return int(np.maximum(0, ends - np.maximum(starts, latest)).sum())
