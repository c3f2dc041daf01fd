"""Annotations: which moments they cover, that they outlive all models, and that every change can be undone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from helpers.library_factory import LABELS, add_model, add_video, fill_library
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.errors import LibraryError
from vtag.engine.library.analysis import derive
from vtag.engine.library.annotations import annotation_log, apply, undo_redo
from vtag.engine.library.annotations.validation import resolve_label
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.maintenance import forget
from vtag.engine.library.search.moments import Moment, content_moments, search
from vtag.engine.library.store import heads

EVERYTHING = 'archery OR "riding a bike" OR yoga'


@pytest.fixture
def tagged(library: LibraryWriter, tmp_path: Path) -> LibraryWriter:
    """Three videos of 8 s with moments of a model's three labels."""
    fill_library(library, tmp_path / "v", 3)
    return library


def moments(library: LibraryWriter) -> list[Moment]:
    return search(library.connection, EVERYTHING, limit=1000)


def annotation_rows(library: LibraryWriter) -> set[tuple[object, ...]]:
    return {
        (w.content, w.label, w.start_ms, w.end_ms, w.verdict)
        for w in annotation_log.list_annotations(library.connection)
    }


def segment_rows(library: LibraryWriter) -> list[tuple[object, ...]]:
    """All segments without their ids, which change with each derivation."""
    return sorted(
        library.connection.execute(
            "SELECT content_id, label_id, coalesce(model_id, 0), start_ms, end_ms, score, coalesce(verdict, '') "
            "FROM segments"
        )
    )


def test_a_label_is_renamed_and_removed_with_all_its_annotations(
    library: LibraryWriter, tmp_path: Path
) -> None:
    """Each is one change and one undo. Of two annotations on the same range, the later counts."""
    first, second = (add_video(library, tmp_path / f"{n}.mp4", seed=n) for n in range(2))
    annotation_log.add(library, first, "wave", 0, 1000)
    annotation_log.add(library, first, "greeting", 0, 1000)
    annotation_log.add(library, second, "wave", 1000, 2000)
    state = annotation_log.list_annotations(library.connection)
    change = annotation_log.rename_label(library, "Wave", "greeting")
    assert [(word.label, word.start_ms) for word in annotation_log.list_annotations(library.connection)] == [
        ("greeting", 0),
        ("greeting", 1000),
    ]
    assert len(change.before) == 3 and len(change.after) == 2
    undo_redo.undo(library)
    assert annotation_log.list_annotations(library.connection) == state
    annotation_log.remove_label(library, "wave")
    assert [word.label for word in annotation_log.list_annotations(library.connection)] == ["greeting"]
    undo_redo.undo(library)
    assert annotation_log.list_annotations(library.connection) == state
    for act in (
        lambda: annotation_log.rename_label(library, "nobody said so", "x"),
        lambda: annotation_log.rename_label(library, "wave", "?!"),
        lambda: annotation_log.rename_label(library, "wave", "wave"),
        lambda: annotation_log.remove_label(library, "nobody said so"),
    ):
        with pytest.raises(LibraryError):
            act()
    assert annotation_log.list_annotations(library.connection) == state


def test_a_rejected_moment_is_hidden_also_after_a_retag(tagged: LibraryWriter) -> None:
    first = moments(tagged)[0]
    annotation_log.reject(tagged, [first.id])
    for _ in range(2):
        assert (first.path, first.label, first.start_ms) not in {
            (m.path, m.label, m.start_ms) for m in moments(tagged)
        }
        list(derive.retag(tagged, 1))


def test_a_confirmed_moment_stays_if_no_model_finds_it_any_more(tagged: LibraryWriter) -> None:
    first = moments(tagged)[-1]
    annotation_log.confirm(tagged, [first.id])
    assert [m for m in moments(tagged) if m.id == first.id] == [first]  # still the model's moment
    heads.set_model_threshold(tagged, 1, 1.1)
    list(derive.retag(tagged, 1))
    (own_moment,) = moments(tagged)
    assert (own_moment.path, own_moment.label, own_moment.start_ms, own_moment.end_ms) == (
        first.path,
        first.label,
        first.start_ms,
        first.end_ms,
    )
    assert (own_moment.source, own_moment.score) == ("user", 1.0)
    heads.set_model_threshold(tagged, 1, 0.4)
    list(derive.retag(tagged, 1))
    assert {m.source for m in moments(tagged)} == {"model"}  # found again: one moment, not two


def test_an_added_annotation_is_a_moment_with_any_label(tagged: LibraryWriter) -> None:
    change = annotation_log.add(tagged, 1, "  grandma   dances ", 1500, 2500)
    assert change.after[0].label == "grandma dances"
    (own_moment,) = search(tagged.connection, "grandma")
    assert (own_moment.start_ms, own_moment.end_ms, own_moment.source, own_moment.score) == (
        1500,
        2500,
        "user",
        1.0,
    )
    assert own_moment in content_moments(tagged.connection, 1)
    list(derive.retag(tagged, 1))
    assert search(tagged.connection, "grandma") == [own_moment]  # with the same id, because no model made it
    assert annotation_log.add(tagged, 2, "GRANDMA dances").after[0].label == "grandma dances"
    assert {(m.start_ms, m.end_ms) for m in search(tagged.connection, "grandma")} == {(1500, 2500), (0, 8000)}


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (9000, 9500, "ends at 8.0 s"),
        (3000, 3000, "end after"),
        (3000, 2000, "end after"),
        (-1, 5, "end after"),
    ],
)
def test_an_invalid_range_is_refused(tagged: LibraryWriter, start: int, end: int, message: str) -> None:
    with pytest.raises(LibraryError, match=message):
        annotation_log.add(tagged, 1, "yoga", start, end)
    assert annotation_log.add(tagged, 1, "yoga", 7000, 99999).after[0].end_ms == 8000


@pytest.mark.parametrize("label", ["", "...", "x" * 300, "a\x1b[31mb", "none of these"])
def test_an_invalid_label_is_refused(tagged: LibraryWriter, label: str) -> None:
    with pytest.raises(LibraryError, match="cannot be a label"):
        annotation_log.add(tagged, 1, label)


def test_a_rename_to_another_case_is_undone_to_one_annotation_of_each_range(
    library: LibraryWriter, tmp_path: Path
) -> None:
    content = add_video(library, tmp_path / "a.mp4")
    for label in ("Foo", "foo"):  # as older libraries may hold them
        library.connection.execute(
            "INSERT INTO words (content_id, label, start_ms, end_ms, verdict, said_at) "
            "VALUES (?, ?, 0, 1000, 'added', ?)",
            (content, label, f"2026-01-01T00:00:0{len(label)}.{label == 'foo':d}00000+00:00"),
        )
    before = annotation_log.list_annotations(library.connection)
    annotation_log.rename_label(library, "foo", "foo")
    assert len({a.label for a in annotation_log.list_annotations(library.connection)}) == 1
    undo_redo.undo(library)
    assert annotation_log.list_annotations(library.connection) == before


def test_a_renamed_moment_loses_its_old_label(tagged: LibraryWriter) -> None:
    first = moments(tagged)[0]
    annotation_log.rename(tagged, [first.id], "unicycle")
    (own_moment,) = search(tagged.connection, "unicycle")
    assert (own_moment.path, own_moment.start_ms, own_moment.end_ms) == (
        first.path,
        first.start_ms,
        first.end_ms,
    )
    assert first.id not in {m.id for m in moments(tagged)}
    annotation_log.rename(tagged, [own_moment.id], "tricycle")
    assert not search(tagged.connection, "unicycle") and len(search(tagged.connection, "tricycle")) == 1
    assert len(annotation_log.list_annotations(tagged.connection)) == 2  # a rejection and an addition
    with pytest.raises(LibraryError, match="called tricycle already"):
        annotation_log.rename(tagged, [search(tagged.connection, "tricycle")[0].id], "tricycle")


def test_an_own_moment_can_be_rejected(tagged: LibraryWriter) -> None:
    annotation_log.add(tagged, 1, "grandma", 0, 4000)
    (own_moment,) = search(tagged.connection, "grandma")
    assert annotation_log.confirm(tagged, [own_moment.id]).after == ()  # it is confirmed already
    annotation_log.reject(tagged, [own_moment.id])
    assert not search(tagged.connection, "grandma")
    undo_redo.undo(tagged)
    assert len(search(tagged.connection, "grandma")) == 1


def test_an_unknown_moment_is_an_error_and_nothing_changes(tagged: LibraryWriter) -> None:
    for wrong in (10**6, 2**70, -5):
        with pytest.raises(LibraryError, match="no moment"):
            annotation_log.reject(tagged, [moments(tagged)[0].id, wrong])
    assert (
        annotation_log.list_annotations(tagged.connection)
        == []
        == annotation_log.list_changes(tagged.connection)
    )


def test_every_change_can_be_undone_also_after_a_restart(tagged: LibraryWriter) -> None:
    states = [(annotation_rows(tagged), segment_rows(tagged))]
    path = tagged.path
    actions = [
        lambda lib: annotation_log.reject(lib, [m.id for m in moments(lib)[:2]]),
        lambda lib: annotation_log.confirm(lib, [moments(lib)[0].id]),
        lambda lib: annotation_log.add(lib, 1, "grandma", 0, 3000),
        lambda lib: annotation_log.rename(lib, [m.id for m in moments(lib)[:2]], "grandma"),
        lambda lib: annotation_log.reject(lib, [search(lib.connection, "grandma")[0].id]),
        lambda lib: annotation_log.add(lib, 2, "yoga"),
    ]
    for act in actions:
        assert act(tagged).id
        states.append((annotation_rows(tagged), segment_rows(tagged)))
    for state in reversed(states[:-1]):
        with LibraryWriter.open(path) as reopened:
            undo_redo.undo(reopened)
            assert (annotation_rows(reopened), segment_rows(reopened)) == state
    with pytest.raises(LibraryError, match="nothing to undo"):
        undo_redo.undo(tagged)
    changes = annotation_log.list_changes(tagged.connection)
    assert [c.action for c in changes] == ["added", "rejected", "renamed", "added", "confirmed", "rejected"]
    assert all(c.undone_at for c in changes)


def test_undo_skips_changes_that_were_undone(tagged: LibraryWriter) -> None:
    annotation_log.add(tagged, 1, "one")
    annotation_log.add(tagged, 1, "two")
    undo_redo.undo(tagged)
    annotation_log.add(tagged, 1, "three")
    assert [undo_redo.undo(tagged).after[0].label for _ in range(2)] == ["three", "one"]


def test_a_verdict_applies_to_moments_of_other_models(tagged: LibraryWriter) -> None:
    first = moments(tagged)[0]
    annotation_log.reject(tagged, [first.id])
    other_model = add_model(tagged, seed=7, name="other")
    heads.set_model_threshold(tagged, other_model, 0.01)  # all of the video, of every label
    list(derive.retag(tagged, other_model))
    whole_moments = [
        m for m in moments(tagged) if (m.path, m.label) == (first.path, first.label) and m.model == "other"
    ]
    assert whole_moments  # less than half of it was rejected
    annotation_log.reject(tagged, [m.id for m in whole_moments])
    list(derive.retag(tagged, 1))
    for moment in [m for m in moments(tagged) if (m.path, m.label) == (first.path, first.label)]:
        overlap_ms = sum(
            max(0, min(m.end_ms, moment.end_ms) - max(m.start_ms, moment.start_ms)) for m in whole_moments
        )
        assert moment.model == "m" and overlap_ms < (moment.end_ms - moment.start_ms) / 2


def test_redo_makes_the_change_again_that_was_undone_last(tagged: LibraryWriter) -> None:
    """A change that was undone before another was made is gone for good, also when that one is undone."""
    for label in ("one", "two", "three"):
        annotation_log.add(tagged, 1, label, 0, 1000)
        if label == "one":
            undo_redo.undo(tagged)
    undo_redo.undo(tagged)
    undo_redo.undo(tagged)
    assert [undo_redo.redo(tagged).after[0].label for _ in range(2)] == ["two", "three"]
    assert undo_redo.redoable_change(tagged.connection) is None


def test_forgetting_annotations_is_logged_and_can_be_undone(tagged: LibraryWriter, tmp_path: Path) -> None:
    annotation_log.add(tagged, 1, "grandma", 0, 3000)
    annotations = annotation_log.list_annotations(tagged.connection)
    plan = forget.plan_forget(tagged, os.fsencode(tmp_path / "v"))
    with pytest.raises(LibraryError, match="1 annotation of yours"):
        forget.forget(tagged, plan)
    forget.forget(tagged, plan, with_annotations=True)
    assert annotation_log.list_annotations(tagged.connection) == []
    undo_redo.undo(tagged)
    assert annotation_log.list_annotations(tagged.connection) == annotations


SPAN = st.tuples(st.integers(0, 40), st.integers(1, 20)).map(lambda s: (s[0], s[0] + s[1]))


@given(segment=SPAN, ranges=st.lists(st.tuples(SPAN, st.sampled_from(annotation_log.VERDICTS)), max_size=8))
def test_the_latest_annotations_that_cover_half_count(
    segment: tuple[int, int], ranges: list[tuple[tuple[int, int], str]]
) -> None:
    annotations = [apply.AnnotatedRange(i, *span, verdict) for i, (span, verdict) in enumerate(ranges)]
    combined = apply.verdict_for_range(*segment, annotations)
    half = np.zeros(80, bool)
    half[slice(*segment)] = True

    def covers(*spans: tuple[int, int]) -> bool:
        covered = np.zeros(80, bool)
        for span in spans:
            covered[slice(*span)] = True
        return bool((covered & half).sum() * 2 >= half.sum())

    positive = [span for span, verdict in ranges if verdict != "rejected"]
    negative = [span for span, verdict in ranges if verdict == "rejected"]
    assert (combined is not None) == (covers(*positive) or covers(*negative))
    covering = [verdict for span, verdict in ranges if covers(span)]
    if covering and (combined == "rejected") != (covering[-1] == "rejected"):
        last = max(i for i, (span, _) in enumerate(ranges) if covers(span))
        later = [s for s, v in ranges[last + 1 :] if (v == "rejected") == (combined == "rejected")]
        assert covers(*later)  # only later annotations overrule it


def test_a_label_takes_the_spelling_of_the_model(tagged: LibraryWriter) -> None:
    assert resolve_label(tagged, "YOGA") == LABELS[2]


@pytest.fixture
def remuxed(library: LibraryWriter, tmp_path: Path) -> tuple[int, int]:
    """Two contents of 8 s that show the same: a video and its copy in another container, which is 20 ms longer."""
    contents = tuple(add_video(library, tmp_path / f"{n}.mp4", seed=n, is_scanned=False) for n in range(2))
    library.connection.execute("UPDATE contents SET packets_key = 'same', duration_ms = 7980 + 20 * id")
    return contents[0], contents[1]


def own_moments(library: LibraryWriter, label: str = "wave") -> list[tuple[str, int, int]]:
    found = search(library.connection, label, limit=None)
    return sorted((os.path.basename(m.path).decode(), m.start_ms, m.end_ms) for m in found)


@pytest.mark.parametrize("span", [(3000, 5000), (None, None), (3000, None), (None, 2000)])
def test_the_same_said_of_a_video_and_of_its_remuxed_copy_is_one_moment_a_file(
    library: LibraryWriter, remuxed: tuple[int, int], span: tuple[int | None, int | None]
) -> None:
    for content in remuxed:
        annotation_log.add(library, content, "wave", *span)
    first, second = own_moments(library)
    assert (first[0], second[0]) == ("0.mp4", "1.mp4")
    ids = {m.path: m.id for m in search(library.connection, "wave")}
    annotation_log.rename(library, [ids[min(ids)]], "greeting")
    assert not own_moments(library) and len(own_moments(library, "greeting")) == 2
    undo_redo.undo(library)
    assert own_moments(library) == [first, second]
    annotation_log.reject(library, [search(library.connection, "wave")[-1].id])
    assert not own_moments(library)
    undo_redo.undo(library)
    assert own_moments(library) == [first, second]


def test_a_range_that_rounding_moved_is_the_same_and_another_range_is_not(
    library: LibraryWriter, remuxed: tuple[int, int]
) -> None:
    annotation_log.add(library, remuxed[0], "wave", 3000, 5000)
    annotation_log.add(library, remuxed[1], "wave", 3021, 5010)
    assert own_moments(library) == [("0.mp4", 3000, 5000), ("1.mp4", 3021, 5010)]
    annotation_log.add(library, remuxed[1], "wave", 6000, 7000)
    assert [m[1] for m in own_moments(library)] == [3000, 6000, 3021, 6000]


def test_a_range_lasts_as_long_as_was_said_in_a_video_of_unknown_length(
    library: LibraryWriter, tmp_path: Path
) -> None:
    content = add_video(library, tmp_path / "0.mp4", is_scanned=False)
    library.connection.execute("UPDATE contents SET duration_ms = NULL")
    annotation_log.add(library, content, "wave", 5000, 25000)
    assert own_moments(library) == [("0.mp4", 5000, 25000)]
