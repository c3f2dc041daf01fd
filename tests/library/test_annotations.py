"""A person's word: what it covers, that it outlives whatever models say, and that every change can be undone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from helpers.shelf import LABELS, add_model, add_video, fill
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.errors import LibraryError
from vtag.engine.library.analysis import derive
from vtag.engine.library.annotations import annotation_log, apply
from vtag.engine.library.annotations.validation import resolve_label
from vtag.engine.library.database import Library
from vtag.engine.library.maintenance import forget
from vtag.engine.library.search.moments import Moment, content_moments, search
from vtag.engine.library.store import heads

EVERYTHING = 'archery OR "riding a bike" OR yoga'


@pytest.fixture
def tagged(library: Library, tmp_path: Path) -> Library:
    """Three videos of 8 s with moments of a model's three labels."""
    fill(library, tmp_path / "v", 3)
    return library


def moments(library: Library) -> list[Moment]:
    return search(library.connection, EVERYTHING, limit=1000)


def spoken(library: Library) -> set[tuple[object, ...]]:
    return {
        (w.content, w.label, w.start_ms, w.end_ms, w.verdict)
        for w in annotation_log.list_annotations(library.connection)
    }


def rows(library: Library) -> list[tuple[object, ...]]:
    """What can be found, without the ids, which are new after each derivation."""
    return sorted(
        library.connection.execute(
            "SELECT content_id, label_id, coalesce(model_id, 0), start_ms, end_ms, score, coalesce(verdict, '') "
            "FROM segments"
        )
    )


def test_a_label_is_renamed_and_taken_away_as_a_whole(library: Library, tmp_path: Path) -> None:
    """In one step each, which is taken back in one; of two words on one place the later counts."""
    first, second = (add_video(library, tmp_path / f"{n}.mp4", seed=n) for n in range(2))
    annotation_log.add(library, first, "wave", 0, 1000)
    annotation_log.add(library, first, "greeting", 0, 1000)
    annotation_log.add(library, second, "wave", 1000, 2000)
    before = annotation_log.list_annotations(library.connection)
    change = annotation_log.rename_label(library, "Wave", "greeting")
    assert [(word.label, word.start_ms) for word in annotation_log.list_annotations(library.connection)] == [
        ("greeting", 0),
        ("greeting", 1000),
    ]
    assert len(change.before) == 3 and len(change.after) == 2
    annotation_log.undo(library)
    assert annotation_log.list_annotations(library.connection) == before
    annotation_log.remove_label(library, "wave")
    assert [word.label for word in annotation_log.list_annotations(library.connection)] == ["greeting"]
    annotation_log.undo(library)
    assert annotation_log.list_annotations(library.connection) == before
    for act in (
        lambda: annotation_log.rename_label(library, "nobody said so", "x"),
        lambda: annotation_log.rename_label(library, "wave", "?!"),
        lambda: annotation_log.rename_label(library, "wave", "wave"),
        lambda: annotation_log.remove_label(library, "nobody said so"),
    ):
        with pytest.raises(LibraryError):
            act()
    assert annotation_log.list_annotations(library.connection) == before


def test_a_rejected_moment_is_gone_and_stays_gone(tagged: Library) -> None:
    first = moments(tagged)[0]
    annotation_log.reject(tagged, [first.id])
    for _ in range(2):
        assert (first.path, first.label, first.start_ms) not in {
            (m.path, m.label, m.start_ms) for m in moments(tagged)
        }
        list(derive.retag(tagged, 1))


def test_a_confirmed_moment_is_there_though_no_model_sees_it_any_more(tagged: Library) -> None:
    first = moments(tagged)[-1]
    annotation_log.confirm(tagged, [first.id])
    assert [m for m in moments(tagged) if m.id == first.id] == [first]  # still the model's own
    heads.set_model_threshold(tagged, 1, 1.1)
    list(derive.retag(tagged, 1))
    (mine,) = moments(tagged)
    assert (mine.path, mine.label, mine.start_ms, mine.end_ms) == (
        first.path,
        first.label,
        first.start_ms,
        first.end_ms,
    )
    assert (mine.source, mine.score) == ("user", 1.0)
    heads.set_model_threshold(tagged, 1, 0.4)
    list(derive.retag(tagged, 1))
    assert {m.source for m in moments(tagged)} == {"model"}  # it is seen again: one moment, not two


def test_an_added_word_is_a_moment_of_its_own_in_any_label(tagged: Library) -> None:
    change = annotation_log.add(tagged, 1, "  grandma   dances ", 1500, 2500)
    assert change.after[0].label == "grandma dances"
    (mine,) = search(tagged.connection, "grandma")
    assert (mine.start_ms, mine.end_ms, mine.source, mine.score) == (1500, 2500, "user", 1.0)
    assert mine in content_moments(tagged.connection, 1)
    list(derive.retag(tagged, 1))
    assert search(tagged.connection, "grandma") == [mine]  # the same id: no model has to do with it
    assert annotation_log.add(tagged, 2, "GRANDMA dances").after[0].label == "grandma dances"
    assert {(m.start_ms, m.end_ms) for m in search(tagged.connection, "grandma")} == {(1500, 2500), (0, 8000)}


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (9000, 9500, "ends at 8.0 s"),
        (3000, 3000, "end after"),
        (3000, 2000, "end after"),
        (-1, 5, "end after"),
    ],
)
def test_a_range_that_is_none_is_refused(tagged: Library, start: int, end: int, said: str) -> None:
    with pytest.raises(LibraryError, match=said):
        annotation_log.add(tagged, 1, "yoga", start, end)
    assert annotation_log.add(tagged, 1, "yoga", 7000, 99999).after[0].end_ms == 8000


@pytest.mark.parametrize("label", ["", "...", "x" * 300, "a\x1b[31mb", "none of these"])
def test_a_label_that_is_none_is_refused(tagged: Library, label: str) -> None:
    with pytest.raises(LibraryError, match="cannot be a label"):
        annotation_log.add(tagged, 1, label)


def test_a_renamed_moment_is_no_longer_what_it_was(tagged: Library) -> None:
    first = moments(tagged)[0]
    annotation_log.rename(tagged, [first.id], "unicycle")
    (mine,) = search(tagged.connection, "unicycle")
    assert (mine.path, mine.start_ms, mine.end_ms) == (first.path, first.start_ms, first.end_ms)
    assert first.id not in {m.id for m in moments(tagged)}
    annotation_log.rename(tagged, [mine.id], "tricycle")
    assert not search(tagged.connection, "unicycle") and len(search(tagged.connection, "tricycle")) == 1
    assert len(annotation_log.list_annotations(tagged.connection)) == 2  # what it is not, and what it is
    with pytest.raises(LibraryError, match="called tricycle already"):
        annotation_log.rename(tagged, [search(tagged.connection, "tricycle")[0].id], "tricycle")


def test_ones_own_moment_can_be_rejected_too(tagged: Library) -> None:
    annotation_log.add(tagged, 1, "grandma", 0, 4000)
    (mine,) = search(tagged.connection, "grandma")
    assert annotation_log.confirm(tagged, [mine.id]).after == ()  # it was said already
    annotation_log.reject(tagged, [mine.id])
    assert not search(tagged.connection, "grandma")
    annotation_log.undo(tagged)
    assert len(search(tagged.connection, "grandma")) == 1


def test_a_moment_that_is_not_there_is_said_and_nothing_is_done(tagged: Library) -> None:
    for wrong in (10**6, 2**70, -5):
        with pytest.raises(LibraryError, match="no moment"):
            annotation_log.reject(tagged, [moments(tagged)[0].id, wrong])
    assert (
        annotation_log.list_annotations(tagged.connection)
        == []
        == annotation_log.list_changes(tagged.connection)
    )


def test_every_change_can_be_undone_in_order_also_after_a_restart(tagged: Library) -> None:
    states = [(spoken(tagged), rows(tagged))]
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
        states.append((spoken(tagged), rows(tagged)))
    for before in reversed(states[:-1]):
        with Library.open(path) as again:
            annotation_log.undo(again)
            assert (spoken(again), rows(again)) == before
    with pytest.raises(LibraryError, match="nothing to undo"):
        annotation_log.undo(tagged)
    log = annotation_log.list_changes(tagged.connection)
    assert [c.action for c in log] == ["added", "rejected", "renamed", "added", "confirmed", "rejected"]
    assert all(c.undone_at for c in log)


def test_after_an_undo_new_changes_are_undone_first(tagged: Library) -> None:
    annotation_log.add(tagged, 1, "one")
    annotation_log.add(tagged, 1, "two")
    annotation_log.undo(tagged)
    annotation_log.add(tagged, 1, "three")
    assert [annotation_log.undo(tagged).after[0].label for _ in range(2)] == ["three", "one"]


def test_another_models_moments_hear_of_a_verdict(tagged: Library) -> None:
    first = moments(tagged)[0]
    annotation_log.reject(tagged, [first.id])
    other = add_model(tagged, seed=7, name="other")
    heads.set_model_threshold(tagged, other, 0.01)  # all of the video, of every label
    list(derive.retag(tagged, other))
    long = [
        m for m in moments(tagged) if (m.path, m.label) == (first.path, first.label) and m.model == "other"
    ]
    assert long  # less than half of it was rejected
    annotation_log.reject(tagged, [m.id for m in long])
    list(derive.retag(tagged, 1))
    for left in [m for m in moments(tagged) if (m.path, m.label) == (first.path, first.label)]:
        heard = sum(max(0, min(m.end_ms, left.end_ms) - max(m.start_ms, left.start_ms)) for m in long)
        assert left.model == "m" and heard < (left.end_ms - left.start_ms) / 2


def test_forgetting_with_words_is_in_the_log_and_can_be_undone(tagged: Library, tmp_path: Path) -> None:
    annotation_log.add(tagged, 1, "grandma", 0, 3000)
    said = annotation_log.list_annotations(tagged.connection)
    what = forget.plan_forget(tagged, os.fsencode(tmp_path / "v"))
    with pytest.raises(LibraryError, match="1 word of it"):
        forget.forget(tagged, what)
    forget.forget(tagged, what, with_annotations=True)
    assert annotation_log.list_annotations(tagged.connection) == []
    annotation_log.undo(tagged)
    assert annotation_log.list_annotations(tagged.connection) == said


SPAN = st.tuples(st.integers(0, 40), st.integers(1, 20)).map(lambda s: (s[0], s[0] + s[1]))


@given(segment=SPAN, said=st.lists(st.tuples(SPAN, st.sampled_from(annotation_log.VERDICTS)), max_size=8))
def test_the_latest_word_that_covers_half_counts(
    segment: tuple[int, int], said: list[tuple[tuple[int, int], str]]
) -> None:
    on = [apply.AnnotatedRange(i, *span, verdict) for i, (span, verdict) in enumerate(said)]
    found = apply.verdict_for_range(*segment, on)
    half = np.zeros(80, bool)
    half[slice(*segment)] = True

    def covers(*spans: tuple[int, int]) -> bool:
        seen = np.zeros(80, bool)
        for span in spans:
            seen[slice(*span)] = True
        return bool((seen & half).sum() * 2 >= half.sum())

    positive = [span for span, verdict in said if verdict != "rejected"]
    negative = [span for span, verdict in said if verdict == "rejected"]
    assert (found is not None) == (covers(*positive) or covers(*negative))
    alone = [verdict for span, verdict in said if covers(span)]
    if alone and (found == "rejected") != (alone[-1] == "rejected"):
        last = max(i for i, (span, _) in enumerate(said) if covers(span))
        later = [s for s, v in said[last + 1 :] if (v == "rejected") == (found == "rejected")]
        assert covers(*later)  # only what was said after it overrules it


def test_labels_of_a_model_are_spelt_as_it_does(tagged: Library) -> None:
    assert resolve_label(tagged, "YOGA") == LABELS[2]
