"""How two logs of annotations are joined, by examples: what counts, what an undo brings back, what contradicts."""

from __future__ import annotations

import pytest

from vtag.engine.library.annotations.annotation_log import Annotation, AnnotationChange
from vtag.engine.library.merge.histories import (
    AnnotationConflict,
    AnnotationHistory,
    MergedHistory,
    merge_histories,
)

T = [f"2026-01-0{day}T12:00:00.000Z" for day in range(1, 8)]


def said(
    at: int, verdict: str = "added", span: tuple[int, int] = (0, 1000), label: str = "dog"
) -> Annotation:
    return Annotation("1-a", label, *span, verdict, T[at])


def change(
    after: Annotation, *before: Annotation, undone_at: str | None = None, action: str = ""
) -> AnnotationChange:
    return AnnotationChange(0, after.said_at, action or after.verdict, before, (after,), undone_at)


def history(*changes: AnnotationChange, has: tuple[Annotation, ...] = ()) -> AnnotationHistory:
    return AnnotationHistory(has, changes)


NOTHING = history()
DOG, NO_DOG = said(0), said(3, "rejected")
ADDED = change(DOG)


def kept(merged: MergedHistory) -> list[Annotation]:
    return sorted(merged.annotations.values())


def test_what_both_undid_was_undone_when_the_first_did() -> None:
    own, other = (history(change(DOG, undone_at=T[at])) for at in (4, 2))
    for merged in (merge_histories(own, other), merge_histories(other, own)):
        assert [each.undone_at for each in merged.changes] == [T[2]]
        assert kept(merged) == [] and merged.conflicts == []


@pytest.mark.parametrize(("later", "verdict"), [(1, "added"), (4, "rejected")])
def test_an_annotation_that_no_log_tells_of_counts_from_its_time(later: int, verdict: str) -> None:
    untold = history(has=(said(2),))
    rejected = said(later, "rejected")
    told = history(change(rejected), has=(rejected,))
    for merged in (merge_histories(untold, told), merge_histories(told, untold)):
        assert [annotation.verdict for annotation in kept(merged)] == [verdict]
        assert len(merged.changes) == 1


def test_what_was_removed_without_a_log_stays_away() -> None:
    removed = history(ADDED)  # but it has no annotation
    for merged in (merge_histories(removed, NOTHING), merge_histories(NOTHING, removed)):
        assert kept(merged) == [] and merged.changes == [ADDED]
    assert kept(merge_histories(removed, history(ADDED, has=(DOG,)))) == []


def test_of_two_changes_at_one_time_the_later_in_the_log_counts() -> None:
    no = said(0, "rejected")
    merged = merge_histories(history(ADDED, change(no, DOG), has=(no,)), NOTHING)
    assert kept(merged) == [no]


def test_a_rename_leaves_no_old_label() -> None:
    cat = said(1, label="cat")
    own = history(ADDED, change(cat, DOG, action="renamed"), has=(cat,))
    for merged in (merge_histories(own, history(ADDED, has=(DOG,))), merge_histories(NOTHING, own)):
        assert kept(merged) == [cat]


def test_an_older_annotation_that_was_imported_later_is_no_news() -> None:
    imported = AnnotationChange(0, T[5], "imported", (), (DOG,), None)
    merged = merge_histories(history(change(NO_DOG), has=(NO_DOG,)), history(imported, has=(DOG,)))
    assert kept(merged) == [NO_DOG]


def test_an_undo_brings_back_what_the_other_side_had_said() -> None:
    own = history(ADDED, has=(DOG,))
    unknown = said(2)  # what the other side had there, and has no change of
    for before in ((), (unknown,)):
        other = history(change(NO_DOG, *before), has=(NO_DOG,))
        merged = merge_histories(own, other)
        assert [each.before for each in merged.changes] == [(), (DOG,)]
    alone = merge_histories(history(ADDED, change(NO_DOG, DOG), has=(NO_DOG,)), NOTHING)
    assert [each.before for each in alone.changes] == [(), (DOG,)]


def test_a_change_that_both_know_is_in_the_log_once() -> None:
    both = history(ADDED, has=(DOG,))
    merged = merge_histories(both, both)
    assert (merged.changes, kept(merged), merged.conflicts) == ([ADDED], [DOG], [])


@pytest.mark.parametrize(
    ("other", "is_conflict"),
    [
        (said(3, "rejected"), True),
        (said(3, "rejected", (999, 1500)), True),
        (said(3, "rejected", (1000, 1500)), False),  # they touch
        (said(3, "rejected", (2000, 3000)), False),
        (said(3, "rejected", label="cat"), False),
        (said(3, "confirmed"), False),
        (said(3, "confirmed", (500, 1500)), False),
    ],
)
def test_a_yes_contradicts_a_no_to_the_same_time(other: Annotation, is_conflict: bool) -> None:
    mine, theirs = history(ADDED, has=(DOG,)), history(change(other), has=(other,))
    expected = [AnnotationConflict(DOG, other)] if is_conflict else []
    assert merge_histories(mine, theirs).conflicts == expected
    assert merge_histories(theirs, mine).conflicts == [AnnotationConflict(*pair[::-1]) for pair in expected]


def test_a_removal_contradicts_a_no() -> None:
    removal = AnnotationChange(0, T[2], "forgotten", (DOG,), (), None)
    merged = merge_histories(history(ADDED, removal), history(ADDED, change(NO_DOG, DOG), has=(NO_DOG,)))
    assert merged.conflicts == [AnnotationConflict(None, NO_DOG)]


@pytest.mark.parametrize("mine", [(ADDED,), (ADDED, change(said(1, "rejected"), DOG, undone_at=T[2]))])
def test_who_answers_to_what_he_knows_contradicts_nobody(mine: tuple[AnnotationChange, ...]) -> None:
    """Nor is what was undone news."""
    theirs = history(ADDED, change(NO_DOG, DOG), has=(NO_DOG,))
    merged = merge_histories(history(*mine, has=(DOG,)), theirs)
    assert merged.conflicts == [] and kept(merged) == [NO_DOG]


def test_what_both_have_without_a_log_is_no_news() -> None:
    near = said(3, "rejected", (500, 1500))
    merged = merge_histories(history(has=(DOG,)), history(change(near), has=(DOG, near)))
    assert merged.conflicts == [] and kept(merged) == [DOG, near]
