"""Merges another library into one: rows of tables, annotations with their log, features, moments.

The steps are in an order in which an interruption leaves nothing wrong, and merging again completes them.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vtag.engine.errors import LibraryError
from vtag.engine.library.annotations.annotation_log import list_annotations, list_changes
from vtag.engine.library.annotations.apply import apply_all_annotations
from vtag.engine.library.annotations.merging import write_history
from vtag.engine.library.database import LibraryWriter, observations_path, open_observations, open_reader
from vtag.engine.library.maintenance.forget import forget_model
from vtag.engine.library.merge import coverage, moments, tables
from vtag.engine.library.merge.histories import AnnotationConflict, AnnotationHistory, merge_histories
from vtag.engine.library.merge.tables import TableConflict
from vtag.engine.library.store import heads, observations
from vtag.engine.library.store.label_names import spell_as
from vtag.engine.text import display_path

# what becomes of each table of library.db; a test holds that none is forgotten
MERGED_TABLES = {
    "volumes", "roots", "contents", "files", "labels", "models", "words", "word_log", "derivations", "segments",
    "settings", "unfinished",
}  # fmt: skip
OWN_TABLES = {"runs", "versions"}  # they tell of this machine, and of changes here


@dataclass
class MergeReport:
    """What a library got from another, and where the two contradict each other."""

    videos: int = 0
    windows: int = 0
    annotations: int = 0  # new, changed or removed
    models: int = 0
    annotation_conflicts: list[AnnotationConflict] = field(default_factory=list)
    conflicts: list[TableConflict] = field(default_factory=list)


def require_other(library: Path, path: Path) -> None:
    """Raise LibraryError if `path` is the `library` that others are merged into."""
    if path.exists() and library.exists() and path.samefile(library):
        raise LibraryError(
            f"{display_path(path)} is the library that the others go into: name only the others"
        )


def merge(library: LibraryWriter, path: Path) -> MergeReport:
    """Merge the library at `path` into `library`; the other one is only read.

    The same content is one video, and the later of two annotations counts. Merging it again changes nothing. Raises
    LibraryError if the other library cannot be opened, or is this one.
    """
    require_other(library.path, path)
    report = MergeReport()
    with contextlib.closing(open_reader(path)) as source, _features(path, library) as features:
        source.execute("BEGIN")  # one state of it, even if a scan goes on there
        state = coverage.read_state(library, source, features)
        with library.transaction():
            spell = spell_as(library.connection, source)
            content_ids, model_ids = _merge_tables(library, source, spell, report)
            coverage.add_partial(library, state)
            _merge_annotations(library, source, spell, report)
        if features is not None:
            report.windows = observations.merge_file(library.observations, features)
        coverage.update_partial(library, state)
        moments.derive_merged(library, source, content_ids, model_ids, spell)
        with library.transaction() as db:
            apply_all_annotations(db)  # contents with the same pictures share them
    return report


@contextlib.contextmanager
def _features(path: Path, library: LibraryWriter) -> Iterator[sqlite3.Connection | None]:
    """The features of the other library, for reading; None if it has none, or none of its own."""
    file = observations_path(path)
    if not file.is_file() or file.samefile(observations_path(library.path)):
        yield None
        return
    with contextlib.closing(open_observations(file)) as connection:
        connection.execute("BEGIN")
        yield connection


def _merge_tables(
    library: LibraryWriter, source: sqlite3.Connection, spell: Callable[[str], str], report: MergeReport
) -> tuple[dict[int, int], dict[int, int]]:
    """Merge all that is no annotation and no moment; returns ids of contents and of models, the source's to ours."""
    db = library.connection
    videos_before, models_before = _count(db, "contents"), _count(db, "models")
    volume_ids = tables.merge_volumes(db, source)
    tables.merge_roots(db, source, volume_ids)
    content_ids = tables.merge_contents(db, source)
    report.conflicts += tables.merge_files(db, source, volume_ids, content_ids)
    report.conflicts += tables.merge_labels(db, source, spell)
    model_ids, replaced, conflicts = tables.merge_models(db, source)
    report.conflicts += conflicts + tables.merge_settings(db, source, model_ids)
    report.videos = _count(db, "contents") - videos_before
    report.models = _count(db, "models") - models_before
    _forget_replaced(library, replaced)
    return content_ids, model_ids


def _forget_replaced(library: LibraryWriter, replaced: dict[int, int]) -> None:
    """Remove the earlier versions of taught models; the later becomes the library's if they were."""
    for old_id, new_id in replaced.items():
        is_used = heads.library_model(library) == old_id
        forget_model(library, old_id)
        if is_used:
            heads.use_model(library, new_id)


def _merge_annotations(
    library: LibraryWriter, source: sqlite3.Connection, spell: Callable[[str], str], report: MergeReport
) -> None:
    own, other = _history(library.connection), _history(source).with_spelling(spell)
    merged = merge_histories(own, other)
    write_history(library, merged.annotations, merged.changes)
    before = {annotation.slot: annotation for annotation in own.annotations}
    slots = before.keys() | merged.annotations.keys()
    report.annotations = sum(before.get(slot) != merged.annotations.get(slot) for slot in slots)
    report.annotation_conflicts += merged.conflicts


def _history(reader: sqlite3.Connection) -> AnnotationHistory:
    return AnnotationHistory(tuple(list_annotations(reader)), tuple(reversed(list_changes(reader))))


def _count(db: sqlite3.Connection, table: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
