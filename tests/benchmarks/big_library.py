"""Builds a library as large as a lifetime's: real schema and indexes, generated videos, moments and features."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vtag.assets import kinetics400_labels
from vtag.engine.library.analysis.segments import margins
from vtag.engine.library.database import LibraryWriter

BACKBONE, SAMPLING = "backbone", "sampling"
_CHUNK = 1000  # videos a transaction
_DIM = 768
_THRESHOLD = 0.3


def build(path: Path, *, videos: int, segments: int, less_sure: int, features: int) -> None:
    """A library at `path`: `segments` sure moments, `less_sure` ones and `features` windows' features, over `videos`.

    Labels follow Zipf's law, and a video has a theme: six labels of its own and some from anywhere.
    """
    labels = kinetics400_labels()
    with LibraryWriter.open(path) as library:
        db = library.connection
        with library.transaction():
            _models_and_labels(db, labels)
            indexes = db.execute(
                "SELECT name, sql FROM sqlite_master "
                "WHERE type = 'index' AND tbl_name = 'segments' AND sql IS NOT NULL"
            ).fetchall()
            for name, _ in indexes:  # made at the end: sorted once
                db.execute(f"DROP INDEX {name}")
        rng = np.random.default_rng(0)
        for first in range(0, videos, _CHUNK):
            count = min(_CHUNK, videos - first)
            with library.transaction():
                _add_videos(db, first, count)
                for number, is_sure in ((segments, True), (less_sure, False)):
                    db.executemany(
                        "INSERT INTO segments (content_id, label_id, model_id, start_ms, end_ms, score, verdict, "
                        "margin) VALUES (?, ?, 1, ?, ?, ?, ?, ?)",
                        _segments(rng, first, count, number // videos, len(labels), is_sure=is_sure),
                    )
        with library.transaction():
            for _, sql in indexes:
                db.execute(sql)
        _add_features(library.observations, rng, videos, features)


def _models_and_labels(db: sqlite3.Connection, labels: tuple[str, ...]) -> None:
    db.executemany("INSERT INTO labels (name) VALUES (?)", [(label,) for label in labels])
    db.execute(
        "INSERT INTO models (name, source, backbone_hash, head_hash, spec, weight, bias, added_at) "
        "VALUES ('m', 'm', ?, 'head', '{}', x'', x'', '')",
        (BACKBONE,),
    )
    db.execute("INSERT INTO volumes VALUES (1, 'v', x'2f', '/')")


def _add_videos(db: sqlite3.Connection, first: int, count: int) -> None:
    ids = range(first + 1, first + count + 1)
    paths = [(i, f"videos/{2010 + i % 15}/trip {i % 400}/clip{i}.mp4") for i in ids]
    db.executemany(
        "INSERT INTO contents (id, key, size_bytes, duration_ms, recorded_at, added_at) "
        "VALUES (?, ?, 1, 600000, ?, '')",
        [(i, f"1-{i:032x}", f"{2010 + i % 15}-{1 + i % 12:02}-{1 + i % 28:02}T12:00:00Z") for i in ids],
    )
    db.executemany(
        "INSERT INTO files (volume_id, path, display, size_bytes, mtime_ns, inode, content_id, seen_at) "
        "VALUES (1, ?, ?, 1, 0, ?, ?, '')",
        [(path.encode(), f"/{path}", i, i) for i, path in paths],
    )


def _segments(
    rng: np.random.Generator, first: int, count: int, each: int, labels: int, *, is_sure: bool
) -> Iterator[tuple[object, ...]]:
    weights = 1 / (np.arange(labels) + 3.0)
    weights /= weights.sum()
    theme = rng.choice(labels, (count, 6), p=weights)
    own = np.take_along_axis(theme, rng.integers(0, 6, (count, each)), axis=1)
    anywhere = rng.choice(labels, (count, each), p=weights)
    chosen = np.where(rng.random((count, each)) < 0.8, own, anywhere) + 1
    starts = np.sort(rng.integers(0, 600, (count, each)), axis=1) * 1000
    ends = starts + 2133 * rng.integers(1, 6, (count, each))
    above, below = (
        rng.beta(2, 3, (count, each)) * 0.7 + _THRESHOLD,
        rng.beta(1, 3, (count, each)) * _THRESHOLD,
    )
    scores = above if is_sure else below
    said = np.where(rng.random((count, each)) < 0.0005 * is_sure, "confirmed", None)
    margin = margins(scores, np.full(scores.shape, _THRESHOLD))
    contents = np.repeat(np.arange(first + 1, first + count + 1), each)
    columns = (contents, *(part.ravel() for part in (chosen, starts, ends, scores, said, margin)))
    return zip(*(column.tolist() for column in columns), strict=True)


def _add_features(db: sqlite3.Connection, rng: np.random.Generator, videos: int, features: int) -> None:
    each = max(1, features // videos)
    windows = np.stack([np.arange(each), np.arange(each) + 1], axis=1).astype("<i8") * 2133
    for first in range(0, min(videos, features), _CHUNK):
        db.execute("BEGIN")
        drawn = rng.standard_normal((min(_CHUNK, videos - first), each, _DIM), np.float32).astype("<f2")
        db.executemany(
            "INSERT INTO observations (content_key, backbone_hash, sampling, views, dim, window_count, windows, "
            "features, backend, device, precision, made_at) "
            "VALUES (?, ?, ?, 1, ?, ?, ?, ?, 'torch', 'cpu', 'fp32', '')",
            [
                (
                    f"1-{first + i + 1:032x}",
                    BACKBONE,
                    SAMPLING,
                    _DIM,
                    each,
                    windows.tobytes(),
                    block.tobytes(),
                )
                for i, block in enumerate(drawn)
            ],
        )
        db.commit()
