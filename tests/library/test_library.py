"""The library: identity, observations, derived segments, search; with real SQLite files."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers.shelf import LABELS, MADE_BY, SAMPLING, add_model, add_video
from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.engine.errors import LibraryError, QueryError
from vtag.engine.library import migrations
from vtag.engine.library.analysis import derive
from vtag.engine.library.analysis.segments import Hysteresis, Segment, find_segments, probabilities
from vtag.engine.library.database import OBSERVATIONS_SCHEMA, SCHEMA, Library, open_reader
from vtag.engine.library.maintenance import forget
from vtag.engine.library.search.evaluate import label_ids_of_term
from vtag.engine.library.search.labels import nearest_labels
from vtag.engine.library.search.moments import search
from vtag.engine.library.search.query import parse, terms_of
from vtag.engine.library.store import files, heads, observations, runs


def said(library: Library) -> list[tuple[object, ...]]:
    return library.connection.execute(
        "SELECT content_id, label_id, model_id, start_ms, end_ms, score, verdict FROM segments ORDER BY 1, 2, 3, 4"
    ).fetchall()


def test_the_schema_that_readers_expect_is_the_one_that_is_written() -> None:
    from sqlite_utils import Database

    for steps, known in (
        (migrations.library_migrations, SCHEMA),
        (migrations.observation_migrations, OBSERVATIONS_SCHEMA),
    ):
        assert steps.name == known.name
        assert tuple(step.name for step in steps.pending(Database(memory=True))) == known.steps


def test_the_files_are_their_owners_alone(library: Library, tmp_path: Path) -> None:
    add_model(library)
    for file in (tmp_path / "home").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_library_of_a_newer_vtag_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "library.db"
    Library.open(path).close()
    with sqlite3.connect(path) as db:
        db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('vtag', 'm999_x', '')"
        )
    with pytest.raises(LibraryError, match="newer vtag"):
        Library.open(path)
    with pytest.raises(LibraryError, match="newer vtag"):
        open_reader(path)


@pytest.mark.parametrize(
    "content", [b"this is no database at all, whatever it is called" * 50, b"SQLite format 3\0"]
)
def test_what_is_no_database_is_said_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "library.db").write_bytes(content)
    for attempt in (Library.open, open_reader):
        with pytest.raises(LibraryError, match=r"library\.db"):
            attempt(tmp_path / "library.db")
    assert (tmp_path / "library.db").read_bytes() == content


def test_a_database_of_another_program_is_not_written_to(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "library.db") as db:
        db.execute("CREATE TABLE theirs (x)")
    with pytest.raises(LibraryError, match="another program"):
        Library.open(tmp_path / "library.db")


def test_reading_where_there_is_no_library_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="vtag scan"):
        open_reader(tmp_path / "library.db")


@given(size=st.integers(0, 3_000_000), at=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_the_content_key_is_of_the_bytes_and_not_of_the_name(
    tmp_path_factory: pytest.TempPathFactory, size: int, at: float
) -> None:
    folder = tmp_path_factory.mktemp("key")
    data = np.random.default_rng(size).bytes(size)
    (folder / "a").write_bytes(data)
    (folder / "b.mp4").write_bytes(data)
    key = files.content_key(os.fsencode(folder / "a"))
    assert key == files.content_key(os.fsencode(folder / "b.mp4"))
    if size:  # head and tail always count
        changed = bytearray(data)
        changed[0 if at < 0.5 else -1] ^= 1
        (folder / "a").write_bytes(changed)
        assert files.content_key(os.fsencode(folder / "a")) != key


def test_windows_that_are_there_are_kept_and_missing_ones_added(library: Library) -> None:
    first = np.array([[0, 10], [20, 30]])
    observations.add(library, "k", "b", "s", first, np.ones((2, 1, 3), np.float32), MADE_BY)
    more = np.array([[10, 20], [20, 30]])
    seen = observations.add(library, "k", "b", "s", more, np.full((2, 1, 3), 2, np.float32), MADE_BY)
    assert seen.windows[:, 0].tolist() == [0, 10, 20]
    assert seen.features[:, 0, 0].tolist() == [1, 2, 1]
    again = observations.get(library, "k", "b", "s")
    assert again is not None and np.array_equal(again.features, seen.features)
    assert observations.observed_keys(library, "b", "s") == {"k"}


def test_features_beyond_float16_stay_finite(library: Library) -> None:
    seen = observations.add(
        library, "k", "b", "s", np.array([[0, 1]]), np.full((1, 1, 2), 1e9, np.float32), MADE_BY
    )
    assert np.isfinite(seen.features).all()


def test_hysteresis_joins_short_pauses_and_keeps_the_highest_score() -> None:
    windows = np.array([(i * 1000, i * 1000 + 1000) for i in range(8)])
    scores = np.array([[0.1], [0.5], [0.35], [0.2], [0.6], [0.1], [0.1], [0.31]])
    rule = Hysteresis(exit_ratio=0.6, min_length_ms=0, max_gap_ms=1000)
    assert find_segments(windows, scores, np.array([0.5]), 8000, rule) == [Segment(0, 1000, 5000, 0.6)]
    assert find_segments(windows, scores, np.array([0.5]), 8000, Hysteresis(0.6, 0, 0)) == [
        Segment(0, 1000, 3000, 0.5),
        Segment(0, 4000, 5000, 0.6),
    ]
    assert find_segments(windows, scores, np.array([0.5]), 8000, Hysteresis(0.6, 1500, 0)) == [
        Segment(0, 1000, 3000, 0.5)
    ]


@given(
    scores=st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), max_size=30),
    threshold=st.floats(0.01, 1),
    end_ms=st.integers(1, 20_000),
    stride=st.integers(100, 1500),
)
def test_segments_lie_in_the_video_apart_from_each_other_and_above_the_threshold(
    scores: list[list[float]], threshold: float, end_ms: int, stride: int
) -> None:
    starts = [i * stride for i in range(len(scores)) if i * stride < end_ms]
    table = np.array(scores[: len(starts)]).reshape(-1, 3)
    windows = np.array([(s, s + 1000) for s in starts]).reshape(-1, 2)
    found = find_segments(windows, table, np.full(3, threshold), end_ms, Hysteresis())
    for s in found:
        assert 0 <= s.start_ms < s.end_ms <= end_ms
        assert s.score >= threshold
    for a, b in pairwise(found):
        assert a.label < b.label or b.start_ms - a.end_ms > Hysteresis().max_gap_ms
    said_labels = {s.label for s in found}
    assert said_labels == set(np.flatnonzero((table >= threshold).any(axis=0)) if len(table) else [])


def test_probabilities_are_those_of_each_view_averaged_in_any_batch() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(9, 3, 5)).astype(np.float16)
    weight, bias = rng.normal(size=(4, 5)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    whole = probabilities(features, weight, bias)
    e = np.exp(features.astype(np.float64) @ weight.T.astype(np.float64) + bias)
    assert np.allclose(whole, (e / e.sum(-1, keepdims=True)).mean(axis=1), atol=1e-8)
    assert np.array_equal(
        whole, np.concatenate([probabilities(features[i : i + 1], weight, bias) for i in range(9)])
    )


def test_retag_says_exactly_what_a_fresh_derivation_says(library: Library, tmp_path: Path) -> None:
    first, second = add_model(library), add_model(library, seed=1, name="other")
    contents = [add_video(library, tmp_path / f"{i}.mp4", seed=i) for i in range(3)]
    for content in contents:
        model = heads.load_head(library, first)
        derive.derive_segments(library, content, model, derive.derivation_rules(library, model), SAMPLING)
    fresh = said(library)
    assert fresh
    heads.set_model_threshold(library, first, 0.9)
    assert sum(n for _, n in derive.retag(library, first)) < len(fresh)
    heads.set_model_threshold(library, first, None)
    assert sum(n for _, n in derive.retag(library, first)) == len(fresh)
    assert said(library) == fresh
    assert sum(n for _, n in derive.retag(library, second)) > 0
    assert [row for row in said(library) if row[2] == first] == fresh


def test_none_of_these_is_never_said(library: Library, tmp_path: Path) -> None:
    model_id = add_model(library)
    add_video(library, tmp_path / "a.mp4")
    heads.set_model_threshold(library, model_id, 0.0)
    list(derive.retag(library, model_id))
    names = {
        row[0]
        for row in library.connection.execute(
            "SELECT l.name FROM segments s JOIN labels l ON l.id = label_id"
        )
    }
    assert names == set(LABELS) - {"none of these"}


def test_a_verdict_outlives_retag_and_hides_what_was_rejected(library: Library, tmp_path: Path) -> None:
    model_id = add_model(library)
    content = add_video(library, tmp_path / "a.mp4")
    heads.set_model_threshold(library, model_id, 0.0)
    library.connection.execute(
        "INSERT INTO words (content_id, label, verdict, said_at) VALUES (?, 'archery', 'rejected', '')",
        (content,),
    )
    for _ in range(2):
        list(derive.retag(library, model_id))
        assert search(library.connection, "archery") == []
        assert search(library.connection, "yoga")


def test_a_word_cannot_be_deleted_with_its_content(library: Library, tmp_path: Path) -> None:
    content = add_video(library, tmp_path / "a.mp4")
    library.connection.execute(
        "INSERT INTO words (content_id, label, verdict, said_at) VALUES (?, 'x', 'added', '')", (content,)
    )
    with pytest.raises(sqlite3.IntegrityError):
        library.connection.execute("DELETE FROM contents WHERE id = ?", (content,))


def test_words_fit_by_their_stem_and_phrases_by_their_order(library: Library) -> None:
    add_model(library)
    names = dict(library.connection.execute("SELECT id, name FROM labels"))

    def fit(query: str) -> set[str]:
        (term,) = terms_of(parse(query))
        return {names[i] for i in label_ids_of_term(library.connection, term)}

    assert fit("rides") == fit("BIKES") == fit("ride bike") == fit('"riding a bike"') == {"riding a bike"}
    assert fit('"bike riding"') == set()
    assert fit("archery yoga") == set()
    assert nearest_labels(library.connection, "archry") == ["archery"]


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_no_query_can_break_the_search(text: str) -> None:
    reader = _reader_of_labels()
    try:
        assert isinstance(search(reader, text), list)
    except QueryError as error:
        assert "\n" not in str(error)
    nearest_labels(reader, text)


_cached: list[sqlite3.Connection] = []


def _reader_of_labels() -> sqlite3.Connection:
    if not _cached:
        from sqlite_utils import Database

        db = Database(memory=True)
        migrations.library_migrations.apply(db)
        db.conn.executemany("INSERT INTO labels (name) VALUES (?)", [(label,) for label in LABELS])
        _cached.append(db.conn)
    return _cached[0]


def test_a_moment_that_two_models_saw_is_there_once_with_the_better_score(
    library: Library, tmp_path: Path
) -> None:
    add_video(library, tmp_path / "a.mp4")
    for seed in (0, 1):
        model_id = add_model(library, seed=seed, name=f"m{seed}")
        heads.set_model_threshold(library, model_id, 0.0)
        list(derive.retag(library, model_id))
    both = search(library.connection, "yoga")
    each = [search(library.connection, "yoga", model=f"m{seed}") for seed in (0, 1)]
    assert len(both) == 1 and both[0].score == max(found[0].score for found in each)


def test_a_missing_file_is_marked_and_a_copy_is_shown_instead(library: Library, tmp_path: Path) -> None:
    model_id = add_model(library)
    add_video(library, tmp_path / "v" / "a.mp4")
    heads.set_model_threshold(library, model_id, 0.0)
    list(derive.retag(library, model_id))
    (tmp_path / "v" / "a.mp4").rename(tmp_path / "v" / "b.mp4")
    assert files.mark_missing(library, [os.fsencode(tmp_path / "v")], set()) == 1
    assert not search(library.connection, "yoga")[0].present
    add_video(library, tmp_path / "v" / "b.mp4", look=False)
    found = search(library.connection, "yoga")[0]
    assert found.present and found.path.endswith(b"b.mp4")


def test_a_root_that_is_gone_marks_nothing_missing(library: Library, tmp_path: Path) -> None:
    add_video(library, tmp_path / "disk" / "a.mp4")
    shutil.rmtree(tmp_path / "disk")
    assert files.mark_missing(library, [os.fsencode(tmp_path / "disk")], set()) == 0


def test_forgetting_a_folder_leaves_nothing_but_what_lies_elsewhere(library: Library, tmp_path: Path) -> None:
    model_id = add_model(library)
    for place in ("gone/a.mp4", "kept/a.mp4"):
        add_video(library, tmp_path / place, seed=1)
    add_video(library, tmp_path / "gone" / "only.mp4", seed=2)
    heads.set_model_threshold(library, model_id, 0.0)
    list(derive.retag(library, model_id))
    forget.forget(library, forget.plan_forget(library, os.fsencode(tmp_path / "gone")))
    paths = {m.path for m in search(library.connection, "yoga")}
    assert paths == {os.fsencode(tmp_path / "kept" / "a.mp4")}
    assert len(observations.observed_keys(library, "backbone", SAMPLING)) == 1
    with pytest.raises(LibraryError, match="nothing is known"):
        forget.plan_forget(library, os.fsencode(tmp_path / "gone"))


# --- runs -------------------------------------------------------------------------------------------------------


def test_a_run_that_ends_while_it_is_asked_for_is_not_called_interrupted(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = runs.start(library, "scan", "/videos")

    def has_just_ended(pid: int) -> bool:
        with Library.open(tmp_path / "home" / "library.db") as theirs:
            runs.report(theirs, run_id, {"videos": 2})
            runs.finish(theirs, run_id, "done")
        return False

    monkeypatch.setattr(runs, "_is_running", has_just_ended)
    (run,) = runs.recent_runs(library.connection)
    assert (run.state, run.progress) == ("done", {"videos": 2})


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="has no such processes")
def test_a_dead_process_that_nobody_waited_for_does_not_run(library: Library) -> None:
    """Where the first process of a container waits for nobody, it would keep its number for ever."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        run_id = runs.start(library, "scan", "/videos")
        library.connection.execute("UPDATE runs SET pid = ? WHERE id = ?", (process.pid, run_id))
        assert runs.recent_runs(library.connection)[0].state == "running"
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert runs.recent_runs(library.connection)[0].state == "interrupted"
