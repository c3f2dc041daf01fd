"""Normalised features in plain files beside observations.db, to be mapped into memory; thrown away without loss.

For each backbone and number of views two files grow side by side: `*.f16` float16 [W, V, D], each feature of length
1, and `*.rows` with the observation and the span of each window. The rows are written last and count: features
behind them are of an update that was cut off.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtag.engine.errors import LibraryError
from vtag.engine.paths import make_private_dir
from vtag.engine.system.locks import LockHeldError, lock_file
from vtag.engine.text import display_path

_ROW = np.dtype([("stamp", "<i8"), ("start_ms", "<i8"), ("end_ms", "<i8")])
_CHUNK = 4096  # windows that are normalised at once
_MOST_DEAD = 0.25  # of the rows may be of observations that are gone, before the files are made anew
_WAIT_S = 600.0


class StampedObservation(NamedTuple):
    """An observation in observations.db: `stamp` is another one as soon as it was looked at anew."""

    id: int
    stamp: int
    content_key: str
    windows: int


class CachedFeatures(NamedTuple):
    """What the cache holds for a backbone and a number of views.

    `features` float16 [W, V, D] (mapped, not read); `rows` [W] with stamp, start_ms, end_ms; `live` bool [W];
    `contents` the content keys of the stamps.
    """

    features: NDArray[np.float16]
    rows: NDArray[np.void]
    live: NDArray[np.bool_]
    contents: dict[int, str]


def cache_folder(library: Path) -> Path:
    """Where the files lie for the library at `library`."""
    return library.parent / "cache" / "similar"


def delete_cache(library: Path) -> None:
    """Throw the files away: what was forgotten must not live on in them."""
    shutil.rmtree(cache_folder(library), ignore_errors=True)


def cached_features(
    library: Path, observations: sqlite3.Connection, backbone_hash: str
) -> list[CachedFeatures]:
    """All features of a backbone, brought up to date. Raises LibraryError where the files cannot be written."""
    folder = cache_folder(library)
    shapes = sorted(_known(observations, backbone_hash).items())
    try:
        make_private_dir(folder.parent)
        make_private_dir(folder)
        with lock_file(folder / "lock", wait_s=_WAIT_S):
            return [
                _features_of_shape(folder, observations, backbone_hash, views, dim, known)
                for (views, dim), known in shapes
            ]
    except LockHeldError as error:
        raise LibraryError(f"{display_path(folder)} is in use by another program: try again") from error
    except OSError as error:
        raise LibraryError(f"{display_path(folder)} cannot be written: {error.strerror or error}") from error


def _features_of_shape(
    folder: Path,
    observations: sqlite3.Connection,
    backbone_hash: str,
    views: int,
    dim: int,
    known: dict[int, StampedObservation],
) -> CachedFeatures:
    name = f"{hashlib.sha256(backbone_hash.encode()).hexdigest()[:16]}-{views}x{dim}"
    features, rows = folder / f"{name}.f16", folder / f"{name}.rows"
    there = _sound_rows(features, rows, known, 2 * views * dim)
    _append(features, rows, observations, [o for o in known.values() if o.stamp not in there], views, dim)
    table = np.fromfile(rows, _ROW) if rows.exists() else np.empty(0, _ROW)
    stamps, counts = _runs(table)
    live = np.repeat([stamp in known for stamp in stamps.tolist()], counts).astype(bool)
    shape = (len(table), views, dim)
    mapped = np.memmap(features, "<f2", "r", shape=shape) if len(table) else np.empty(shape, np.float16)
    return CachedFeatures(mapped, table, live, {o.stamp: o.content_key for o in known.values()})


def _runs(table: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The stamps of a table of rows in their order, and how many rows each has."""
    stamps = np.ascontiguousarray(table["stamp"])
    first = np.flatnonzero(np.diff(stamps, prepend=stamps[:1] - 1)) if len(stamps) else np.empty(0, np.int64)
    return stamps[first], np.diff(first, append=len(stamps))


def _known(
    observations: sqlite3.Connection, backbone_hash: str
) -> dict[tuple[int, int], dict[int, StampedObservation]]:
    """The observations of a backbone by their numbers of views and dimensions, and by their stamps."""
    # nothing that lies behind the features in a row: to get there SQLite reads them
    rows = observations.execute(
        "SELECT views, dim, id, content_key, sampling, window_count FROM observations WHERE backbone_hash = ?",
        (backbone_hash,),
    )
    found: dict[tuple[int, int], dict[int, StampedObservation]] = {}
    for views, dim, row_id, key, sampling, windows in rows:
        text = f"{row_id} {key} {windows} {sampling}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        stamp = int.from_bytes(digest, "little", signed=True)
        found.setdefault((views, dim), {})[stamp] = StampedObservation(row_id, stamp, key, windows)
    return found


def _sound_rows(features: Path, rows: Path, known: dict[int, StampedObservation], row_bytes: int) -> set[int]:
    """The observations that the files hold; makes them end together, and removes them where they are not sound."""
    try:
        whole = rows.stat().st_size // _ROW.itemsize
        table = np.fromfile(rows, _ROW, whole)
        stamps, counts = _runs(table)
        held = dict(zip(stamps.tolist(), counts.tolist(), strict=True))
        dead = sum(count for stamp, count in held.items() if stamp not in known)
        sound = (
            rows.stat().st_size == whole * _ROW.itemsize
            and features.stat().st_size >= whole * row_bytes
            and len(held) == len(stamps)  # an observation's windows lie together
            and dead <= _MOST_DEAD * whole
            and all(known[stamp].windows == count for stamp, count in held.items() if stamp in known)
        )
    except FileNotFoundError:
        sound, held, whole = False, {}, 0
    if not sound:
        features.unlink(missing_ok=True)
        rows.unlink(missing_ok=True)
        return set()
    if features.stat().st_size > whole * row_bytes:
        with open(features, "r+b") as file:
            file.truncate(whole * row_bytes)
    return set(held)


def _append(
    features: Path,
    rows: Path,
    observations: sqlite3.Connection,
    missing: list[StampedObservation],
    views: int,
    dim: int,
) -> None:
    if not missing:
        return
    with _appending(features) as file, _appending(rows) as index:
        for observation in missing:
            row = observations.execute(
                "SELECT windows, features FROM observations WHERE id = ?", (observation.id,)
            ).fetchone()
            if row is None:  # replaced since: the next update has it
                continue
            windows = np.frombuffer(row[0], "<i8").reshape(-1, 2)
            seen = np.frombuffer(row[1], "<f2").reshape(-1, views, dim)
            for at in range(0, len(seen), _CHUNK):
                file.write(normalised(seen[at : at + _CHUNK]).astype("<f2").tobytes())
            table = np.empty(len(windows), _ROW)
            table["stamp"] = observation.stamp
            table["start_ms"], table["end_ms"] = windows.T
            index.write(table.tobytes())
            if file.tell() % (2 * views * dim) or len(seen) != len(windows):
                raise OSError("an observation whose windows and features differ in number")


def normalised(features: NDArray[np.float16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Features [..., D] as float32 of length 1; one that is all zero stays so, and is like nothing."""
    values = features.astype(np.float32)
    length = np.sqrt(np.einsum("...d,...d->...", values, values, dtype=np.float64))[..., None]
    return np.asarray(values / np.maximum(length, 1e-12), np.float32)


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[BinaryIO]:
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags, 0o600), "ab") as file:
        yield file
