"""Checks a library: SQLite's own checks of both files, then what vtag relies on. Changes nothing."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vtag.engine.errors import LibraryError
from vtag.engine.library.annotations.apply import apply_all_annotations
from vtag.engine.library.annotations.validation import is_valid_label
from vtag.engine.library.database import (
    SCHEMA,
    LibraryWriter,
    observations_path,
    open_observations,
    open_unmigrated,
    schema_steps,
)
from vtag.engine.library.timestamps import is_timestamp
from vtag.engine.text import display_path, pluralize, printable

_MAX_LISTED = 5  # problems of one kind
_RESTORE = "vtag library restore"
_RETAG = "vtag retag"


@dataclass(frozen=True)
class LibraryFinding:
    """The result of one check: `state` is ok, note or wrong; `remedy` is the command that mends it."""

    subject: str
    state: str
    message: str
    remedy: str = ""


def check(path: Path) -> Iterator[LibraryFinding]:
    """The findings of all checks of a library; reads all of it.

    Raises LibraryError if there is no library, or if it cannot be opened or was made by a newer vtag.
    """
    with contextlib.closing(open_unmigrated(path)) as reader:
        damage = list(_damage(reader, "tables", _RESTORE))
        applied = schema_steps(reader)
    yield from damage or [LibraryFinding("tables", "ok", f"{display_path(path)} is sound")]
    features = observations_path(path)
    try:
        yield from _check_features_file(features)
    except LibraryError as error:
        yield LibraryFinding("features", "wrong", str(error), "remove the file and `vtag scan`")
        return
    if damage:
        return
    if pending := len(set(SCHEMA.steps) - set(applied)):
        message = f"made by an earlier vtag: the next command applies {pluralize(pending, 'change')}, after a backup"
        yield LibraryFinding("schema", "note", message)
        return
    yield LibraryFinding("schema", "ok", applied[-1])
    with LibraryWriter.open(path) as library:
        yield from _check_content(library)


def _damage(reader: sqlite3.Connection, subject: str, remedy: str) -> Iterator[LibraryFinding]:
    """What SQLite finds wrong in a file."""
    try:
        problems = [str(row[0]) for row in reader.execute(f"PRAGMA integrity_check({_MAX_LISTED})")]
        orphans = reader.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.Error as error:
        problems, orphans = [str(error)], []
    for problem in problems:
        if problem != "ok":
            yield LibraryFinding(subject, "wrong", f"SQLite: {' '.join(printable(problem).split())}", remedy)
    for table in sorted({row[0] for row in orphans}):
        count = sum(row[0] == table for row in orphans)
        message = f"{pluralize(count, 'row')} of {table} name a row that is not there"
        yield LibraryFinding(subject, "wrong", message, remedy)


def _check_features_file(path: Path) -> Iterator[LibraryFinding]:
    """Findings on the file of the features: SQLite's, then of each row.

    Raises LibraryError if it cannot be opened.
    """
    if not path.is_file():
        message = f"{display_path(path)} is missing: moments can be searched, but not derived again"
        yield LibraryFinding("features", "note", message, "vtag scan")
        return
    remedy = "remove the file and `vtag scan`"
    with contextlib.closing(open_observations(path)) as reader:
        if damage := list(_damage(reader, "features", remedy)):
            yield from damage
            return
        broken = count = 0
        ids = [row[0] for row in reader.execute("SELECT id FROM observations")]
        for row_id in ids:
            count += 1
            broken += not _is_observation(
                *reader.execute(
                    "SELECT views, dim, window_count, windows, features FROM observations WHERE id = ?",
                    (row_id,),
                ).fetchone()
            )
    if broken:
        message = f"{broken} of {count} videos have features that do not fit their windows"
        yield LibraryFinding("features", "wrong", message, "vtag scan --force")
    else:
        message = f"{display_path(path)} is sound, features of {pluralize(count, 'video')}"
        yield LibraryFinding("features", "ok", message)


def _is_observation(views: int, dim: int, count: int, windows: bytes, features: bytes) -> bool:
    """Whether a row's numbers and blobs fit, its windows are in order, and its features are finite."""
    if len(windows) != 16 * count or len(features) != 2 * count * views * dim:
        return False
    spans = np.frombuffer(windows, "<i8").reshape(-1, 2)
    is_ordered = bool((np.diff(spans[:, 0]) > 0).all() and (spans[:, 0] < spans[:, 1]).all())
    return is_ordered and bool(np.isfinite(np.frombuffer(features, "<f2")).all())


def _check_content(library: LibraryWriter) -> Iterator[LibraryFinding]:
    """Findings on what vtag relies on; a check that fails by itself is a finding, too."""
    checks: dict[str, Callable[[LibraryWriter], Iterator[LibraryFinding]]] = {
        "models": _check_models,
        "labels": _check_labels,
        "moments": _check_moments,
        "annotations": _check_annotations,
        "log": _check_log,
    }
    for subject, function in checks.items():
        try:
            findings = list(function(library))
        except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
            findings = [LibraryFinding(subject, "wrong", f"{type(error).__name__}: {error}", _RESTORE)]
        is_wrong = any(finding.state == "wrong" for finding in findings)
        yield from (finding for finding in findings if not (is_wrong and finding.state == "ok"))


def _check_models(library: LibraryWriter) -> Iterator[LibraryFinding]:
    """Whether each head has a row of weights for each label, and the library's model exists."""
    rows = library.connection.execute(
        "SELECT id, name, spec, length(weight), length(bias) FROM models"
    ).fetchall()
    for _, name, spec, weight_bytes, bias_bytes in rows:
        labels = len(json.loads(spec)["labels"])
        if bias_bytes != 4 * labels or not weight_bytes or weight_bytes % (4 * labels):
            message = f"the head of {printable(name)} does not fit its {pluralize(labels, 'label')}"
            yield LibraryFinding("models", "wrong", message, f"vtag scan --model {printable(name)}")
    used = library.connection.execute("SELECT value FROM settings WHERE key = 'model'").fetchone()
    if used and used[0] not in {str(row[0]) for row in rows}:
        yield LibraryFinding("models", "wrong", "the library's model is gone", "vtag scan --model NAME")
    yield LibraryFinding("models", "ok", pluralize(len(rows), "model"))


def _check_labels(library: LibraryWriter) -> Iterator[LibraryFinding]:
    """Whether the labels are in their normal form, and the search index has each of them."""
    names = [row[0] for row in library.connection.execute("SELECT name FROM labels ORDER BY id")]
    invalid = [name for name in names if not is_valid_label(name)]
    if invalid:
        shown = ", ".join(printable(name) for name in invalid[:_MAX_LISTED])
        yield LibraryFinding("labels", "note", f"{pluralize(len(invalid), 'label')} in an odd form: {shown}")
    with _undone(library) as db:
        try:  # FTS5 compares its index with the table
            db.execute("INSERT INTO labels_fts (labels_fts, rank) VALUES ('integrity-check', 1)")
        except sqlite3.DatabaseError:
            yield LibraryFinding("labels", "wrong", "the search index does not fit the labels", _RESTORE)
            return
    yield LibraryFinding("labels", "ok", pluralize(len(names), "label"))


def _check_moments(library: LibraryWriter) -> Iterator[LibraryFinding]:
    """Whether moments have a range and a score, and can be derived again from the features."""
    db = library.connection
    (total,) = db.execute("SELECT count(*) FROM segments").fetchone()
    (odd,) = db.execute(
        "SELECT count(*) FROM segments WHERE start_ms < 0 OR end_ms <= start_ms OR score < 0 OR score > 1"
    ).fetchone()
    if odd:
        yield LibraryFinding(
            "moments", "wrong", f"{pluralize(odd, 'moment')} without a range or a score", _RETAG
        )
    windows = {
        tuple(row[:3]): row[3]
        for row in library.observations.execute(
            "SELECT content_key, backbone_hash, sampling, window_count FROM observations"
        )
    }
    rows = db.execute(
        "SELECT c.key, m.backbone_hash, d.sampling, d.windows FROM derivations d "
        "JOIN contents c ON c.id = d.content_id JOIN models m ON m.id = d.model_id"
    ).fetchall()
    lost = sum(tuple(row[:3]) not in windows for row in rows)
    # a scan that was ended between its features and its moments; the next one goes on there
    unfinished = set(
        db.execute(
            "SELECT c.key, u.backbone_hash, u.sampling FROM unfinished u JOIN contents c ON c.id = u.content_id"
        )
    )
    outdated = sum(
        windows.get(tuple(row[:3]), row[3]) != row[3] and tuple(row[:3]) not in unfinished for row in rows
    )
    if lost:
        message = f"the features of {pluralize(lost, 'video')} are gone: they can be searched, but not derived again"
        yield LibraryFinding("moments", "note", message, "vtag scan")
    if outdated:
        message = f"{pluralize(outdated, 'video')} have features that their moments do not follow from"
        yield LibraryFinding("moments", "wrong", message, _RETAG)
    yield LibraryFinding("moments", "ok", pluralize(total, "moment"))


def _check_annotations(library: LibraryWriter) -> Iterator[LibraryFinding]:
    """Whether annotations are valid, and the moments follow from them."""
    rows = library.connection.execute("SELECT label, start_ms, end_ms, said_at FROM words").fetchall()
    invalid = sum(
        not is_valid_label(label)
        or (start is None) != (end is None)
        or (start is not None and not 0 <= start < end)
        or not is_timestamp(said_at)
        for label, start, end, said_at in rows
    )
    if invalid:
        yield LibraryFinding("annotations", "wrong", f"{invalid} of {len(rows)} are not valid", _RESTORE)
    with _undone(library) as db:
        before = _judged_segments(db)
        apply_all_annotations(db)
        differing = len(before ^ _judged_segments(db))
    if differing:
        message = f"{pluralize(differing, 'moment')} do not follow from the annotations"
        yield LibraryFinding("annotations", "wrong", message, _RETAG)
    yield LibraryFinding("annotations", "ok", pluralize(len(rows), "annotation"))


def _judged_segments(db: sqlite3.Connection) -> set[tuple[object, ...]]:
    """The segments that annotations may change, without their ids."""
    return set(
        db.execute(
            "SELECT content_id, label_id, model_id, word_id, start_ms, end_ms, verdict FROM segments "
            "WHERE model_id IS NULL OR verdict IS NOT NULL"
        )
    )


def _check_log(library: LibraryWriter) -> Iterator[LibraryFinding]:
    """Whether the log of changes can be read, so that they can be undone."""
    rows = library.connection.execute("SELECT before, after FROM word_log").fetchall()
    for texts in rows:
        for text in texts:
            for entry in json.loads(text or "[]"):
                if entry.keys() != {"content", "label", "start_ms", "end_ms", "verdict", "said_at"}:
                    raise ValueError("an entry that is no annotation")
    yield LibraryFinding("log", "ok", pluralize(len(rows), "change"))


@contextlib.contextmanager
def _undone(library: LibraryWriter) -> Iterator[sqlite3.Connection]:
    """A transaction that is rolled back."""
    library.connection.execute("BEGIN IMMEDIATE")
    try:
        yield library.connection
    finally:
        library.connection.rollback()
