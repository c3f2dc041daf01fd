"""Observations: for a content, a backbone and a sampling, the pooled feature of every window."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vtag.engine.errors import LibraryError
from vtag.engine.library.timestamps import now

if TYPE_CHECKING:
    from vtag.engine.library.database import LibraryWriter

_FLOAT16_MAX = 65504.0
_MAX_BLOB_BYTES = 900 * 2**20  # SQLite's own limit for a value is 1,000,000,000 bytes
# A content may have several samplings. The one with the most windows counts, of equals the latest: it comes last.
_DENSEST_LAST = "ORDER BY window_count, id"
_DENSEST_FIRST = "ORDER BY window_count DESC, id DESC"
_MERGED_AT_ONCE = 64  # rows in a transaction of `merge_file`; a row of an hour of video has 2.6 MB
_COLUMNS = (
    "content_key, backbone_hash, sampling, views, dim, window_count, windows, features, backend, device, precision, "
    "made_at"
)


@dataclass(frozen=True)
class Observation:
    """`windows` int64 [W, 2] (start_ms, end_ms), sorted; `features` float16 [W, V, D] (V views of each window)."""

    windows: NDArray[np.int64]
    features: NDArray[np.float16]


@dataclass(frozen=True)
class Provenance:
    """What computed an observation. Recorded only: another provenance does not make an observation outdated."""

    backend: str
    device: str
    precision: str


def observed_keys(library: LibraryWriter, backbone_hash: str, sampling: str) -> set[str]:
    """Keys of the contents that have an observation of this backbone and sampling; reads only an index."""
    rows = library.observations.execute(
        "SELECT content_key FROM observations WHERE backbone_hash = ? AND sampling = ?",
        (backbone_hash, sampling),
    )
    return {row[0] for row in rows}


def list_samplings(library: LibraryWriter, backbone_hash: str) -> list[tuple[str, str]]:
    """Content key and sampling of each observation of a backbone, the one with the most windows last."""
    return library.observations.execute(
        f"SELECT content_key, sampling FROM observations WHERE backbone_hash = ? {_DENSEST_LAST}",
        (backbone_hash,),
    ).fetchall()


def densest_samplings(library: LibraryWriter, backbone_hash: str) -> dict[str, str]:
    """Content keys to the sampling with the most windows, of the observations of one backbone."""
    return dict(list_samplings(library, backbone_hash))


def densest_of_any_backbone(library: LibraryWriter) -> dict[str, tuple[str, str]]:
    """Content keys to the backbone hash and the sampling of the observation with the most windows."""
    rows = library.observations.execute(
        f"SELECT content_key, backbone_hash, sampling FROM observations {_DENSEST_LAST}"
    )
    return {key: (backbone_hash, sampling) for key, backbone_hash, sampling in rows}


def densest(reader: sqlite3.Connection, content_key: str, backbone_hash: str) -> Observation | None:
    """A content's observation with the most windows, None without any. `reader` is open on observations.db."""
    row = reader.execute(
        "SELECT views, dim, windows, features FROM observations WHERE content_key = ? AND backbone_hash = ? "
        f"{_DENSEST_FIRST} LIMIT 1",
        (content_key, backbone_hash),
    ).fetchone()
    return _observation(*row) if row else None


def get(library: LibraryWriter, content_key: str, backbone_hash: str, sampling: str) -> Observation | None:
    """The observation of a content by a backbone and a sampling, or None."""
    return _get(library.observations, content_key, backbone_hash, sampling)


def _get(
    reader: sqlite3.Connection, content_key: str, backbone_hash: str, sampling: str
) -> Observation | None:
    row = reader.execute(
        "SELECT views, dim, windows, features FROM observations "
        "WHERE backbone_hash = ? AND sampling = ? AND content_key = ?",
        (backbone_hash, sampling, content_key),
    ).fetchone()
    return _observation(*row) if row else None


def window_starts(
    library: LibraryWriter, content_key: str, backbone_hash: str, sampling: str
) -> frozenset[int]:
    """The start of each observed window of a content, in ms."""
    row = library.observations.execute(
        "SELECT windows FROM observations WHERE backbone_hash = ? AND sampling = ? AND content_key = ?",
        (backbone_hash, sampling, content_key),
    ).fetchone()
    return frozenset(np.frombuffer(row[0], "<i8")[::2].tolist()) if row else frozenset()


def made_at(library: LibraryWriter, content_key: str, backbone_hash: str, sampling: str) -> str:
    """When the latest windows of an observation were stored; "" if there is none. Reads past its features."""
    row = library.observations.execute(
        "SELECT made_at FROM observations WHERE backbone_hash = ? AND sampling = ? AND content_key = ?",
        (backbone_hash, sampling, content_key),
    ).fetchone()
    return str(row[0]) if row else ""


def add(
    library: LibraryWriter,
    content_key: str,
    backbone_hash: str,
    sampling: str,
    windows: NDArray[np.int64],
    features: NDArray[np.float32] | NDArray[np.float16],
    made_by: Provenance,
    *,
    replace: bool = False,
) -> Observation:
    """Store `windows` [W, 2] with `features` [W, V, D], and return the whole observation.

    New windows are merged into those of an earlier call, which win if both start together. With `replace`, the
    earlier ones are dropped. Raises LibraryError if a feature is not finite or the observation is too large.
    """
    halves = to_halves(features)
    if not np.isfinite(halves).all():
        raise LibraryError(
            "the model gave features that are no numbers: try another precision, or another model"
        )
    library.observations.execute("BEGIN IMMEDIATE")  # two processes may scan the same content
    try:
        stored = None if replace else get(library, content_key, backbone_hash, sampling)
        observation = _merged(stored, windows, halves)
        _put(library.observations, (content_key, backbone_hash, sampling), observation, made_by, now())
    except BaseException:
        library.observations.rollback()
        raise
    library.observations.commit()
    return observation


def to_halves(features: NDArray[np.float32] | NDArray[np.float16]) -> NDArray[np.float16]:
    """Features as they are stored."""
    return np.clip(features, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16)


def copy(library: LibraryWriter, content_key: str, to_key: str) -> None:
    """Give a content with the same video the observations of another, of every backbone and sampling."""
    library.observations.execute("BEGIN IMMEDIATE")
    library.observations.execute(
        f"INSERT OR IGNORE INTO observations ({_COLUMNS}) SELECT ?, backbone_hash, sampling, views, dim, "
        "window_count, windows, features, backend, device, precision, made_at FROM observations "
        "WHERE content_key = ?",
        (to_key, content_key),
    )
    library.observations.commit()


def merge_file(target: sqlite3.Connection, source: sqlite3.Connection) -> int:
    """Add the windows that the features' file `source` has and `target` lacks; returns how many.

    A window that both have stays as `target` has it. An interrupted merge leaves complete observations.
    """
    ids = [row[0] for row in source.execute("SELECT id FROM observations ORDER BY id")]
    added = 0
    for first in range(0, len(ids), _MERGED_AT_ONCE):
        target.execute("BEGIN IMMEDIATE")
        try:
            added += sum(
                _merge_row(target, source, row_id) for row_id in ids[first : first + _MERGED_AT_ONCE]
            )
        except BaseException:
            target.rollback()
            raise
        target.commit()
    return added


def _merge_row(target: sqlite3.Connection, source: sqlite3.Connection, row_id: int) -> int:
    """Add the new windows of one row of `source`, in the caller's transaction; returns how many."""
    row = source.execute(f"SELECT {_COLUMNS} FROM observations WHERE id = ?", (row_id,)).fetchone()
    if row is None:  # removed meanwhile
        return 0
    key, backbone_hash, sampling, views, dim, count, windows, features, *made_by, made_at = row
    stored = _get(target, key, backbone_hash, sampling)
    if stored is None:
        marks = ", ".join("?" * len(row))
        target.execute(f"INSERT INTO observations ({_COLUMNS}) VALUES ({marks})", row)
        return int(count)
    other = _observation(views, dim, windows, features)
    if stored.features.shape[1:] != (views, dim):  # never of the same sampling, but for damage
        return 0
    merged = _merged(stored, other.windows, other.features)
    added = len(merged.windows) - len(stored.windows)
    if added:
        _put(target, (key, backbone_hash, sampling), merged, Provenance(*made_by), made_at)
    return added


def _observation(views: int, dim: int, windows: bytes, features: bytes) -> Observation:
    return Observation(
        np.frombuffer(windows, "<i8").reshape(-1, 2),
        np.frombuffer(features, "<f2").reshape(-1, views, dim),
    )


def _merged(
    stored: Observation | None, windows: NDArray[np.int64], features: NDArray[np.float16]
) -> Observation:
    """Both, sorted by start; of windows that start together, the stored one."""
    if stored is not None:
        windows = np.concatenate([stored.windows, windows])
        features = np.concatenate([stored.features, features])
    _, first = np.unique(windows[:, 0], return_index=True)
    return Observation(np.ascontiguousarray(windows[first]), np.ascontiguousarray(features[first]))


def _put(
    db: sqlite3.Connection,
    identity: tuple[str, str, str],
    observation: Observation,
    made_by: Provenance,
    made_at: str,
) -> None:
    """Write an observation; `identity` is its content key, backbone hash and sampling."""
    blob_bytes = observation.features.nbytes
    if blob_bytes > _MAX_BLOB_BYTES:
        raise LibraryError(
            f"{len(observation.windows)} windows of one video take {blob_bytes >> 20} MB, more than the library "
            "holds: scan it with a longer --stride"
        )
    db.execute(
        f"INSERT OR REPLACE INTO observations ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *identity,
            *observation.features.shape[1:],
            len(observation.windows),
            observation.windows.astype("<i8").tobytes(),
            observation.features.astype("<f2").tobytes(),
            made_by.backend,
            made_by.device,
            made_by.precision,
            made_at,
        ),
    )
