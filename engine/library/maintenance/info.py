"""Reads what a library contains and how much room it takes."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from vtag.engine.library.database import observations_path, open_observations, open_reader, schema_steps
from vtag.engine.library.maintenance.backup import Backup, list_backups
from vtag.engine.swin.config import NONE_OF_THESE


@dataclass(frozen=True)
class ModelInfo:
    """A model of the library, and how many videos its moments are in."""

    name: str
    source: str
    backbone_hash: str
    labels: int
    videos: int
    is_used: bool  # the library's own


@dataclass(frozen=True)
class LibraryInfo:
    """The sizes of a library's files, and the numbers of what is in them."""

    path: Path
    schema: str  # its last migration
    size_bytes: int
    features_path: Path
    features_size_bytes: int
    unused_bytes: int  # of both files; `vacuum` returns them to the disk
    videos: int
    video_ms: int
    unreadable: int
    files: int
    missing_files: int
    windows: int
    labels: int  # that a sure moment has
    moments: int  # sure ones
    annotations: int
    changes: int  # in the log of annotations
    models: tuple[ModelInfo, ...]
    backups: tuple[Backup, ...]

    @property
    def bytes_per_hour(self) -> float | None:
        """How many bytes of both files an hour of video takes; None without any video."""
        used = self.size_bytes + self.features_size_bytes - self.unused_bytes
        return used / (self.video_ms / 3_600_000) if self.video_ms else None


def read_info(path: Path) -> LibraryInfo:
    """What a library contains. Raises LibraryError if there is none, or if it cannot be opened."""
    features = observations_path(path)
    windows = features_unused = 0
    with contextlib.closing(open_reader(path)) as reader:
        if features.is_file():
            with contextlib.closing(open_observations(features)) as observations:
                windows = _count(observations, "SELECT coalesce(sum(window_count), 0) FROM observations")
                features_unused = _unused_bytes(observations)
        return LibraryInfo(
            path=path,
            schema=schema_steps(reader)[-1],
            size_bytes=_size(path),
            features_path=features,
            features_size_bytes=_size(features),
            unused_bytes=_unused_bytes(reader) + features_unused,
            videos=_count(
                reader, "SELECT count(*) FROM contents WHERE error IS NULL AND duration_ms IS NOT NULL"
            ),
            video_ms=_count(reader, "SELECT coalesce(sum(duration_ms), 0) FROM contents WHERE error IS NULL"),
            unreadable=_count(reader, "SELECT count(*) FROM contents WHERE error IS NOT NULL"),
            files=_count(reader, "SELECT count(*) FROM files"),
            missing_files=_count(reader, "SELECT count(*) FROM files WHERE state = 'missing'"),
            windows=windows,
            labels=_count(reader, "SELECT count(DISTINCT label_id) FROM sure_segments"),
            moments=_count(reader, "SELECT count(*) FROM sure_segments"),
            annotations=_count(reader, "SELECT count(*) FROM words"),
            changes=_count(reader, "SELECT count(*) FROM word_log"),
            models=tuple(_models(reader)),
            backups=tuple(list_backups(path)),
        )


def _models(reader: sqlite3.Connection) -> list[ModelInfo]:
    rows = reader.execute(
        "SELECT m.name, m.source, m.backbone_hash, "
        "(SELECT count(*) FROM json_each(m.spec, '$.labels') WHERE value <> ?), "
        "(SELECT count(*) FROM derivations WHERE model_id = m.id), "
        "EXISTS (SELECT 1 FROM settings WHERE key = 'model' AND value = CAST(m.id AS TEXT)) "
        "FROM models m ORDER BY m.id",
        (NONE_OF_THESE,),
    )
    return [
        ModelInfo(name, source, backbone_hash, labels, videos, bool(is_used))
        for name, source, backbone_hash, labels, videos, is_used in rows
    ]


def _count(reader: sqlite3.Connection, query: str) -> int:
    return int(reader.execute(query).fetchone()[0])


def _unused_bytes(reader: sqlite3.Connection) -> int:
    return _count(reader, "PRAGMA freelist_count") * _count(reader, "PRAGMA page_size")


def _size(path: Path) -> int:
    """The bytes of a database with its write-ahead log; 0 if it is missing."""
    files = (path, path.with_name(f"{path.name}-wal"))
    return sum(file.stat().st_size for file in files if file.is_file())
