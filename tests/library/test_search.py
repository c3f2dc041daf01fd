"""Search as a library call: matches, their order and files, and the index that keeps it fast."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from helpers.library_factory import LABELS, add_model, add_video, fill_library

from vtag.engine.errors import QueryError
from vtag.engine.library.analysis import derive
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search.contents import content_at_path
from vtag.engine.library.search.labels import nearest_labels
from vtag.engine.library.search.moments import (
    content_moments,
    label_counts,
    match_terms,
    search,
)

EVERYTHING = 'archery OR "riding a bike" OR yoga'


@pytest.fixture
def tagged(library: LibraryWriter, tmp_path: Path) -> LibraryWriter:
    """Four videos with a moment of each label in some windows."""
    fill_library(library, tmp_path / "v", 4)
    return library


def annotate(
    library: LibraryWriter, content_id: int, label: str, start_ms: int, end_ms: int, verdict: str = "added"
) -> None:
    """Write a person's annotation and its segment, as the library stores them."""
    db = library.connection
    annotation_id = db.execute(
        "INSERT INTO words (content_id, label, start_ms, end_ms, verdict, said_at) VALUES (?, ?, ?, ?, ?, '')",
        (content_id, label, start_ms, end_ms, verdict),
    ).lastrowid
    if verdict == "added":
        db.execute(
            "INSERT INTO segments (content_id, label_id, word_id, start_ms, end_ms, score, verdict) "
            "VALUES (?, (SELECT id FROM labels WHERE name = ?), ?, ?, ?, 1, 'confirmed')",
            (content_id, label, annotation_id, start_ms, end_ms),
        )


def test_moments_of_several_labels_come_best_first_and_all_of_them(tagged: LibraryWriter) -> None:
    rows = tagged.connection.execute("SELECT id FROM sure_segments ORDER BY score DESC, id").fetchall()
    moments = search(tagged.connection, EVERYTHING, limit=1000)
    assert [m.id for m in moments] == [row[0] for row in rows]
    assert {m.label for m in moments} == set(LABELS[:3])
    assert [m.id for m in search(tagged.connection, EVERYTHING, limit=5)] == [m.id for m in moments[:5]]


def test_min_score_drops_lower_moments(tagged: LibraryWriter) -> None:
    moments = search(tagged.connection, EVERYTHING, limit=1000)
    min_score = moments[len(moments) // 2].score
    assert search(tagged.connection, EVERYTHING, limit=1000, min_score=min_score) == [
        m for m in moments if m.score >= min_score
    ]


@pytest.mark.parametrize("name", ["m", "other"])
def test_a_model_filter_keeps_only_the_moments_of_that_model(tagged: LibraryWriter, name: str) -> None:
    list(derive.retag(tagged, add_model(tagged, seed=1, name="other")))
    moments = search(tagged.connection, EVERYTHING, limit=1000, model=name)
    assert moments and {m.model for m in moments} == {name}


def test_an_unknown_model_is_an_error_that_lists_the_models(tagged: LibraryWriter) -> None:
    with pytest.raises(QueryError, match="no model 'x'; it knows m"):
        search(tagged.connection, "yoga", model="x")


def test_a_persons_own_moment_is_found_and_outlives_a_retag(tagged: LibraryWriter) -> None:
    (content,) = tagged.connection.execute("SELECT min(id) FROM contents").fetchone()
    annotate(tagged, content, "yoga", 0, 500)
    for _ in range(2):
        annotated = [m for m in search(tagged.connection, "yoga") if m.source == "user"]
        assert [(m.start_ms, m.end_ms, m.score, m.model) for m in annotated] == [(0, 500, 1.0, None)]
        list(derive.retag(tagged, 1))


@pytest.mark.parametrize(("share", "hidden"), [(0.6, True), (0.5, True), (0.4, False)])
def test_a_rejection_covers_what_it_overlaps_by_half(
    tagged: LibraryWriter, share: float, hidden: bool
) -> None:
    moment = search(tagged.connection, EVERYTHING)[0]
    (content,) = tagged.connection.execute(
        "SELECT content_id FROM segments WHERE id = ?", (moment.id,)
    ).fetchone()
    end = moment.start_ms + int(share * (moment.end_ms - moment.start_ms))
    annotate(tagged, content, moment.label, moment.start_ms, end, "rejected")
    count = dict(label_counts(tagged.connection))[moment.label]
    list(derive.retag(tagged, 1))
    spans = {(m.path, m.label, m.start_ms) for m in search(tagged.connection, EVERYTHING, limit=1000)}
    assert ((moment.path, moment.label, moment.start_ms) not in spans) == hidden
    assert dict(label_counts(tagged.connection))[moment.label] == count - hidden


def test_of_several_copies_an_existing_one_is_shown(tagged: LibraryWriter, tmp_path: Path) -> None:
    add_video(tagged, tmp_path / "copy" / "0.mp4", seed=0, is_scanned=False)
    first, second = (os.fsencode(tmp_path / p) for p in ("v/0.mp4", "copy/0.mp4"))
    paths = {m.path for m in search(tagged.connection, EVERYTHING, limit=1000)}
    assert first in paths and second not in paths
    os.unlink(first)  # no scan knows yet
    moments = search(tagged.connection, EVERYTHING, limit=1000)
    assert {m.path for m in moments} == paths - {first} | {second}
    assert all(m.present for m in moments)
    os.unlink(second)
    assert {m.path for m in search(tagged.connection, EVERYTHING, limit=1000) if not m.present} == {first}


def test_a_content_whose_files_were_all_forgotten_is_not_shown(tagged: LibraryWriter) -> None:
    tagged.connection.execute("DELETE FROM files")
    assert search(tagged.connection, EVERYTHING) == []


def test_a_path_is_found_as_it_is_shown(tagged: LibraryWriter, tmp_path: Path) -> None:
    """Nobody can type a newline or a byte that is no text; what is copied from a result has escapes for them."""
    odd = tmp_path / os.fsdecode(b"odd \xff\nfolder") / "copy.mp4"
    add_video(tagged, odd, seed=0, is_scanned=False)
    for text in (r"odd \xff\nfolder", r"*/odd \xff\nfolder/*.mp4"):
        moments = search(tagged.connection, f'({EVERYTHING}) path:"{text}"', limit=1000)
        assert {moment.path for moment in moments} == {os.fsencode(odd)}


def test_a_videos_moments_come_by_time_with_the_path_of_the_query(
    tagged: LibraryWriter, tmp_path: Path
) -> None:
    add_video(tagged, tmp_path / "copy" / "0.mp4", seed=0, is_scanned=False)
    path = os.fsencode(tmp_path / "copy" / "0.mp4")
    content = content_at_path(tagged.connection, path)
    assert content is not None
    moments = content_moments(tagged.connection, content.id, path)
    assert moments and {m.path for m in moments} == {path}
    assert [m.start_ms for m in moments] == sorted(m.start_ms for m in moments)
    assert content_at_path(tagged.connection, path + b"x") is None


def test_best_first_needs_no_sorting(tagged: LibraryWriter) -> None:
    plan = tagged.connection.execute(
        "EXPLAIN QUERY PLAN SELECT id FROM segments WHERE label_id = 1 AND score >= 0 "
        "AND verdict IS NOT 'rejected' ORDER BY score DESC, id"
    ).fetchall()
    assert "segments_by_label" in plan[0][3]
    assert not [row for row in plan if "TEMP B-TREE" in row[3]]


def test_a_filter_reads_nothing_but_the_index(tagged: LibraryWriter) -> None:
    statements: list[str] = []
    tagged.connection.set_trace_callback(statements.append)
    assert search(tagged.connection, "yoga longer:1s score<0.99 source:model -is:confirmed") is not None
    tagged.connection.set_trace_callback(None)
    (statement,) = [text for text in statements if "FROM segments WHERE label_id" in text]
    plan = [row[3] for row in tagged.connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert len(plan) == 1 and "USING COVERING INDEX segments_by_label (label_id=" in plan[0]


def test_counting_reads_no_rows_but_the_index(tagged: LibraryWriter) -> None:
    plan = tagged.connection.execute(
        "EXPLAIN QUERY PLAN SELECT label_id, count(*) FROM segments GROUP BY label_id"
    ).fetchall()
    assert [row[3] for row in plan] == ["SCAN segments USING COVERING INDEX segments_by_label"]


_cached: list[sqlite3.Connection] = []


def _labels_alone() -> sqlite3.Connection:
    if not _cached:
        from vtag.engine.library import migrations

        connection = sqlite3.connect(":memory:", isolation_level=None)
        migrations.apply(connection, "vtag")
        connection.executemany("INSERT INTO labels (name) VALUES (?)", [(label,) for label in LABELS[:3]])
        _cached.append(connection)
    return _cached[0]


@pytest.mark.parametrize(
    ("text", "nearest"), [("archry", "archery"), ("biker", "riding a bike"), ("YOG", "yoga"), ("xyzzy", None)]
)
def test_a_word_without_a_match_has_similar_labels(text: str, nearest: str | None) -> None:
    assert nearest_labels(_labels_alone(), text)[:1] == ([nearest] if nearest else [])


def test_letters_with_marks_are_found_without_them(library: LibraryWriter) -> None:
    library.connection.execute("INSERT INTO labels (name) VALUES ('Prüfung schreiben')")
    assert match_terms(library.connection, "prufung") == [("prufung", True)]


def test_scores_are_those_of_the_head(tagged: LibraryWriter) -> None:
    moments = search(tagged.connection, EVERYTHING, limit=1000)
    assert all(0.4 <= m.score <= 1 for m in moments)
    assert len({m.score for m in moments}) > 1
    assert np.isfinite([m.score for m in moments]).all()
