"""Merges annotations from files and from other libraries into the log."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from vtag.engine.library.annotations.annotation_log import (
    Annotation,
    AnnotationChange,
    Slot,
    annotations_as_json,
    is_overruled,
    latest_of_each_slot,
    list_annotations,
    list_changes,
    next_time,
    record_change,
    replace_annotations,
)
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store.label_names import label_spellings
from vtag.engine.library.timestamps import now_after


def merge_annotations(
    library: LibraryWriter, annotations: Iterable[Annotation], action: str = "imported"
) -> AnnotationChange:
    """Add annotations from elsewhere, in any order; of two with the same slot the later one counts.

    Without anything new, the change has the id 0 and is not in the log. An annotation of an unknown content waits
    for a scan to find the content.
    """
    with library.transaction() as db:
        existing = {annotation.slot: annotation for annotation in list_annotations(db)}
        annotations = _spelled(db, annotations)
        accepted: dict[Slot, Annotation] = {}
        current_time = next_time(db)
        for annotation in latest_of_each_slot(annotations):
            previous = existing.get(annotation.slot)
            if annotation.said_at > current_time:
                # a future date would overrule all verdicts until then: it becomes today's, and only once
                if previous and previous.verdict == annotation.verdict and not is_overruled(db, previous):
                    continue
                current_time = now_after(current_time)
                annotation = annotation._replace(said_at=current_time)
            if previous is None or annotation.said_at > previous.said_at:
                accepted[annotation.slot] = annotation
        replaced = [existing[slot] for slot in accepted if slot in existing]
        return record_change(library, action, replaced, list(accepted.values()))


def _spelled(db: sqlite3.Connection, annotations: Iterable[Annotation]) -> list[Annotation]:
    """The annotations with the library's spelling of their labels; a new label has that of the first one."""
    spellings = label_spellings(db)
    return [
        annotation._replace(label=spellings.setdefault(annotation.label.casefold(), annotation.label))
        for annotation in annotations
    ]


def write_history(
    library: LibraryWriter, annotations: Mapping[Slot, Annotation], changes: Sequence[AnnotationChange]
) -> None:
    """Make the annotations and their log what a merge of two libraries found, the earliest change first.

    Rows that are right stay as they are. The ids of changes are given anew.
    """
    with library.transaction() as db:
        existing = {annotation.slot: annotation for annotation in list_annotations(db)}
        old = [annotation for slot, annotation in existing.items() if annotations.get(slot) != annotation]
        new = [annotation for slot, annotation in annotations.items() if existing.get(slot) != annotation]
        replace_annotations(library, old=old, new=new)
        rows = [
            (c.at, c.action, annotations_as_json(c.before), annotations_as_json(c.after), c.undone_at)
            for c in changes
        ]
        stored = [
            (c.at, c.action, annotations_as_json(c.before), annotations_as_json(c.after), c.undone_at)
            for c in list_changes(db)
        ]
        if rows != stored[::-1]:
            db.execute("DELETE FROM word_log")
            db.executemany(
                "INSERT INTO word_log (at, action, before, after, undone_at) VALUES (?, ?, ?, ?, ?)", rows
            )
