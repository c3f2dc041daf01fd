"""Sure and less sure moments: how they are derived, bounded, ordered and kept apart."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.library_factory import LABELS, add_video, fill_library
from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.engine.library.analysis import derive
from vtag.engine.library.analysis.history import history
from vtag.engine.library.analysis.segments import (
    Hysteresis,
    find_less_sure_segments,
    find_segments,
    label_thresholds,
    margins,
)
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.certainty import min_margin_of
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search.moments import FILLED_TO, content_moments, label_counts, search, search_videos
from vtag.engine.library.store import heads
from vtag.engine.library.store.settings import save_setting
from vtag.engine.library.views.results import moments_after

EVERYTHING = 'archery OR "riding a bike" OR yoga'
MANY_LABELS = tuple(f"label {number}" for number in range(60))


@pytest.fixture
def strict(library: LibraryWriter, tmp_path: Path) -> LibraryWriter:
    """Six videos with a threshold that few windows reach."""
    fill_library(library, tmp_path / "v", 6, threshold=0.9995)
    return library


def add_many_labels(library: LibraryWriter) -> int:
    rng = np.random.default_rng(0)
    model_id = heads.save_model(
        library,
        name="many",
        source="many",
        backbone_hash="backbone",
        head_hash="many",
        spec={"labels": [*MANY_LABELS, "none of these"]},
        weight=0.2 * rng.normal(size=(61, 6)).astype(np.float32),
        bias=np.zeros(61, np.float32),
    )
    heads.use_model(library, model_id)
    heads.set_model_threshold(library, model_id, 1.0)
    return model_id


# --- the rule


def test_a_margin_is_zero_at_the_threshold_and_on_one_scale_for_all_labels() -> None:
    thresholds = label_thresholds(["a", "b", "c", "none of these"], {"a": 0.3, "b": 0.9, "c": 1.0}, None)
    at_threshold = margins(np.array([0.3, 0.9, 1.0, 1.0]), thresholds)
    assert at_threshold[:2].tolist() == [0, 0]
    assert at_threshold[2] < 0 and at_threshold[3] == -np.inf
    # odds of 3 to 7, doubled: 6 to 7; odds of 9 to 1, doubled: 18 to 1
    doubled = margins(np.array([6 / 13, 18 / 19, 0.5, 0.5]), thresholds)
    assert doubled[:2] == pytest.approx([np.log(2)] * 2)


@given(
    score=st.floats(0, 1),
    other=st.floats(0, 1),
    threshold=st.floats(0, 1),
    dial=st.sampled_from([-1.5, 0, 1.5]),
)
def test_margins_order_scores_as_they_are_and_tell_sure_from_less_sure(
    score: float, other: float, threshold: float, dial: float
) -> None:
    thresholds = label_thresholds(["a", "a"], {"a": threshold}, None)
    first, second = margins(np.array([score, other]), thresholds)
    assert (first >= 0) == (score >= thresholds[0])
    if score >= other:
        assert first >= second and (first >= dial or second < dial)


@given(
    spans=st.lists(
        st.tuples(st.integers(0, 9000), st.integers(1, 1500)), max_size=25, unique_by=lambda s: s[0]
    ),
    seed=st.integers(0, 1000),
    thresholds=st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.9, 2.0, np.inf]), min_size=5, max_size=5),
    limit=st.integers(0, 8),
    end_ms=st.integers(1, 12_000),
)
@settings(max_examples=150, deadline=None)
def test_less_sure_segments_are_the_best_below_the_threshold(
    spans: list[tuple[int, int]], seed: int, thresholds: list[float], limit: int, end_ms: int
) -> None:
    windows = np.array(sorted((start, start + length) for start, length in spans), np.int64).reshape(-1, 2)
    scores = np.random.default_rng(seed).random((len(windows), 5)).round(2)
    limits, rule = np.array(thresholds), Hysteresis(max_gap_ms=500)
    sure = find_segments(windows, scores, limits, end_ms, rule)
    floors = np.array([-1, 2, 2, -1, -1.0])
    found = find_less_sure_segments(windows, scores, limits, sure, end_ms, rule, limit=limit, floors=floors)
    kept = [row for row in found if not row.is_label_best]
    assert len(kept) <= limit and [row.margin for row in kept] == sorted(
        (r.margin for r in kept), reverse=True
    )
    assert all(count <= 3 for count in Counter(row.segment.label for row in kept).values())
    assert all(row.margin < 0 and thresholds[row.segment.label] != np.inf for row in found)
    assert all(0 <= s.start_ms < s.end_ms <= end_ms for s, _, _ in found)
    for segment, _, _ in found:
        of_label = [s for s in sure if s.label == segment.label]
        others = [s for s, _, _ in found if s.label == segment.label and s != segment]
        assert not any(
            s.start_ms < segment.end_ms and segment.start_ms < s.end_ms for s in (*of_label, *others)
        )
    for label in range(5):  # a label's best window that touches nothing sure is in its first segment
        free = [
            score
            for (start, end), score in zip(windows.tolist(), scores[:, label].tolist(), strict=True)
            if not any(s.label == label and start <= s.end_ms + 500 and end >= s.start_ms - 500 for s in sure)
        ]
        of_label = [row.segment.score for row in found if row.segment.label == label]
        if of_label and end_ms > windows[:, 1].max():
            assert max(of_label) == max(free)
        if free and floors[label] < 0 and thresholds[label] != np.inf and end_ms > windows[:, 1].max():
            assert of_label or limit > 0


# --- in a library


def test_every_label_has_a_row_however_many_labels_there_are(library: LibraryWriter, tmp_path: Path) -> None:
    for seed in range(12):
        add_video(library, tmp_path / "v" / f"{seed}.mp4", seed=seed, windows=2)
    model_id = add_many_labels(library)
    counts = [counts for _, counts in derive.retag(library, model_id)]
    assert len(counts) == 12 and not any(c.sure for c in counts)
    for label in MANY_LABELS:
        moments = search(library.connection, f'"{label}"', less_sure="fill")
        assert moments and not any(m.sure for m in moments)
    extra = library.connection.execute(
        "SELECT label_id, count(*) FROM segments WHERE is_label_best = 1 GROUP BY label_id"
    ).fetchall()
    assert max(count for _, count in extra) <= 10


def test_the_best_of_a_label_do_not_depend_on_the_order_of_the_videos(
    library: LibraryWriter, tmp_path: Path
) -> None:
    ids = [add_video(library, tmp_path / "v" / f"{seed}.mp4", seed=seed, windows=1) for seed in range(25)]
    model = heads.load_head(library, add_many_labels(library))
    rules = derive.derivation_rules(library, model)
    rows = []
    for order in (ids, ids[::-1]):
        library.connection.execute("DELETE FROM segments")
        for content_id in order:
            derive.derive_segments(library, content_id, model, rules, "sampling", force=True)
        rows.append(
            library.connection.execute(
                "SELECT label_id, content_id, start_ms, end_ms, score, margin, is_label_best FROM segments "
                "ORDER BY 1, 2, 3"
            ).fetchall()
        )
    assert rows[0] == rows[1]


def test_a_search_gives_sure_moments_first_then_less_sure_ones_up_to_ten(strict: LibraryWriter) -> None:
    reader = strict.connection
    sure = search(reader, EVERYTHING)
    assert all(m.sure and m.score >= 0.9995 for m in sure) and 0 < len(sure) < FILLED_TO
    filled = search(reader, EVERYTHING, less_sure="fill")
    assert filled[: len(sure)] == sure and len(filled) == FILLED_TO
    rest = [m.score for m in filled if not m.sure]
    assert rest == sorted(rest, reverse=True) and rest[0] < 0.9995
    everything = search(reader, EVERYTHING, less_sure="all", limit=None)
    assert everything[:FILLED_TO] == filled and len(everything) > FILLED_TO
    assert len({m.id for m in everything}) == len(everything)
    assert search(reader, EVERYTHING, less_sure="fill", limit=3) == filled[:3]


def test_what_a_scan_found_are_its_sure_moments_else_the_surest(strict: LibraryWriter) -> None:
    reader = strict.connection
    sure = search(reader, EVERYTHING)
    shown = [found.moment for found in moments_after(reader, 0, 12)]
    assert set(shown) <= set(sure)
    assert {(m.path, m.label) for m in shown} == {(m.path, m.label) for m in sure}
    newest = max(moment.id for moment in sure)
    rest = [m for m in search(reader, EVERYTHING, less_sure="all", limit=None) if m.id > newest]
    surest = rest[-1]
    reader.execute("UPDATE segments SET margin = -1e-9 WHERE id = ?", (surest.id,))
    [shown_last] = [found.moment for found in moments_after(reader, newest, 1)]
    assert (shown_last.path, shown_last.label) == (surest.path, surest.label)


def test_one_dial_moves_all_labels(strict: LibraryWriter) -> None:
    reader = strict.connection
    found = {
        name: {m.id for m in search(reader, EVERYTHING, limit=None, min_margin=min_margin_of(name))}
        for name in ("low", "normal", "high")
    }
    assert found["low"] <= found["normal"] < found["high"]
    save_setting(strict, "sensitivity", "high")
    assert {m.id for m in search(reader, EVERYTHING, limit=None)} == found["high"]
    assert sum(count for _, count in label_counts(reader)) == len(found["high"])


def test_sequences_conjunctions_and_groups_know_both(strict: LibraryWriter) -> None:
    reader = strict.connection
    for query in ('archery THEN "riding a bike"', "archery AND yoga", "yoga shorter:1h", "-archery yoga"):
        sure = search(reader, query, limit=None)
        both = search(reader, query, limit=None, less_sure="all")
        assert both[: len(sure)] == sure and len(both) > len(sure), query
        assert not any(m.sure for m in both[len(sure) :])
    videos = search_videos(reader, "yoga", less_sure="all")
    assert {m.path for video in videos for m in video} >= {
        m.path for m in search(reader, "yoga", limit=None, less_sure="all")
    }


def test_only_a_sure_moment_excludes_a_video(strict: LibraryWriter) -> None:
    with_archery = {m.path for m in search(strict.connection, "archery", limit=None)}
    remaining = search(strict.connection, "yoga -archery", limit=None, less_sure="all")
    assert remaining and not with_archery & {m.path for m in remaining}
    assert {m.path for m in search(strict.connection, "archery", limit=None, less_sure="all")} & {
        m.path for m in remaining
    }


def test_without_words_a_search_shows_the_best_of_each_label(strict: LibraryWriter) -> None:
    best = search(strict.connection, "", less_sure="fill")
    assert Counter(m.label for m in best) == Counter(LABELS[:3])
    for moment in best:
        assert moment == search(strict.connection, f'"{moment.label}"', less_sure="fill")[0]
    newest = max(m.id for m in best)
    assert all(m.id > newest for m in search(strict.connection, "", less_sure="all", newer_than=newest))


def test_what_a_person_says_of_a_less_sure_moment_holds(strict: LibraryWriter) -> None:
    reader = strict.connection
    first, second = [m for m in search(reader, "yoga", less_sure="all") if not m.sure][:2]
    annotation_log.confirm(strict, [first.id])
    annotation_log.reject(strict, [second.id])
    sure = search(reader, "yoga", limit=None)
    assert any((m.path, m.start_ms, m.end_ms) == (first.path, first.start_ms, first.end_ms) for m in sure)
    everything = search(reader, "yoga", limit=None, less_sure="all")
    assert second.id not in {m.id for m in everything}
    list(derive.retag(strict, 1))
    assert any(
        (m.path, m.start_ms, m.end_ms) == (first.path, first.start_ms, first.end_ms)
        for m in search(reader, "yoga", limit=None)
    )


def test_counts_and_charts_are_of_sure_moments(strict: LibraryWriter) -> None:
    reader = strict.connection
    sure = search(reader, "yoga", limit=None)
    assert dict(label_counts(reader))["yoga"] == len(sure)
    rows = history(reader, "yoga").labels
    assert rows[0].total == len(sure)
    everything = search(reader, "yoga", limit=None, less_sure="all")
    assert history(reader, "yoga", min_margin=-math.inf).labels[0].total == len(everything) > len(sure)
    (content_id,) = reader.execute("SELECT min(id) FROM contents").fetchone()
    assert all(m.sure for m in content_moments(reader, content_id))
    assert not all(m.sure for m in content_moments(reader, content_id, less_sure="fill"))


def test_an_older_library_gets_them_by_a_retag(strict: LibraryWriter) -> None:
    """Before m007 only sure segments were kept, by rules that said nothing of others."""
    db = strict.connection
    db.execute("DELETE FROM segments WHERE margin < 0")
    db.execute("UPDATE segments SET margin = 0")
    db.execute("UPDATE derivations SET rules = '[0.97, [0.6, 0, 1000]]'")
    assert len(search(db, EVERYTHING, less_sure="all", limit=None)) == len(search(db, EVERYTHING, limit=None))
    list(derive.retag(strict, 1))
    assert len(search(db, EVERYTHING, less_sure="all", limit=None)) > len(search(db, EVERYTHING, limit=None))
