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
from helpers.library_factory import LABELS, MADE_BY, SAMPLING, add_model, add_video
from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.engine.errors import LibraryError, QueryError
from vtag.engine.library import migrations
from vtag.engine.library.analysis import derive
from vtag.engine.library.analysis.segments import Hysteresis, Segment, find_segments, probabilities
from vtag.engine.library.database import OBSERVATIONS_SCHEMA, SCHEMA, LibraryWriter, open_reader
from vtag.engine.library.maintenance import forget
from vtag.engine.library.search.evaluate import label_ids_of_term
from vtag.engine.library.search.labels import nearest_labels
from vtag.engine.library.search.moments import search
from vtag.engine.library.search.query import parse, terms_of
from vtag.engine.library.store import files, heads, observations, runs


def segment_rows(library: LibraryWriter) -> list[tuple[object, ...]]:
    return library.connection.execute(
        "SELECT content_id, label_id, model_id, start_ms, end_ms, score, verdict FROM segments ORDER BY 1, 2, 3, 4"
    ).fetchall()


def test_the_schema_lists_the_steps_of_the_migrations() -> None:
    from sqlite_utils import Database

    for steps, schema in (
        (migrations.library_migrations, SCHEMA),
        (migrations.observation_migrations, OBSERVATIONS_SCHEMA),
    ):
        assert steps.name == schema.name
        assert tuple(step.name for step in steps.pending(Database(memory=True))) == schema.steps


def test_the_files_are_private(library: LibraryWriter, tmp_path: Path) -> None:
    add_model(library)
    for file in (tmp_path / "home").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_library_of_a_newer_vtag_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "library.db"
    LibraryWriter.open(path).close()
    with sqlite3.connect(path) as db:
        db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('vtag', 'm999_x', '')"
        )
    with pytest.raises(LibraryError, match="newer vtag"):
        LibraryWriter.open(path)
    with pytest.raises(LibraryError, match="newer vtag"):
        open_reader(path)


@pytest.mark.parametrize(
    "content", [b"this is no database at all, whatever it is called" * 50, b"SQLite format 3\0"]
)
def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "library.db").write_bytes(content)
    for attempt in (LibraryWriter.open, open_reader):
        with pytest.raises(LibraryError, match=r"library\.db"):
            attempt(tmp_path / "library.db")
    assert (tmp_path / "library.db").read_bytes() == content


def test_a_database_of_another_program_is_not_written_to(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "library.db") as db:
        db.execute("CREATE TABLE theirs (x)")
    with pytest.raises(LibraryError, match="another program"):
        LibraryWriter.open(tmp_path / "library.db")


def test_reading_a_missing_library_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="vtag scan"):
        open_reader(tmp_path / "library.db")


@given(size=st.integers(0, 3_000_000), at=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_the_content_key_depends_on_the_bytes_and_not_on_the_name(
    tmp_path_factory: pytest.TempPathFactory, size: int, at: float
) -> None:
    folder = tmp_path_factory.mktemp("key")
    data = np.random.default_rng(size).bytes(size)
    (folder / "a").write_bytes(data)
    (folder / "b.mp4").write_bytes(data)
    key = files.content_key(os.fsencode(folder / "a"))
    assert key == files.content_key(os.fsencode(folder / "b.mp4"))
    if size:  # the first and the last block always count
        changed = bytearray(data)
        changed[0 if at < 0.5 else -1] ^= 1
        (folder / "a").write_bytes(changed)
        assert files.content_key(os.fsencode(folder / "a")) != key


def test_stored_windows_are_kept_and_missing_ones_added(library: LibraryWriter) -> None:
    first = np.array([[0, 10], [20, 30]])
    observations.add(library, "k", "b", "s", first, np.ones((2, 1, 3), np.float32), MADE_BY)
    more = np.array([[10, 20], [20, 30]])
    observation = observations.add(library, "k", "b", "s", more, np.full((2, 1, 3), 2, np.float32), MADE_BY)
    assert observation.windows[:, 0].tolist() == [0, 10, 20]
    assert observation.features[:, 0, 0].tolist() == [1, 2, 1]
    stored = observations.get(library, "k", "b", "s")
    assert stored is not None and np.array_equal(stored.features, observation.features)
    assert observations.observed_keys(library, "b", "s") == {"k"}


def test_of_several_samplings_the_one_with_the_most_windows_counts(library: LibraryWriter) -> None:
    """Of equally many, the latest, whichever function is asked."""
    for value, (sampling, windows) in enumerate((("first", 2), ("second", 2), ("fewest", 1))):
        ranges = np.array([(i * 10, i * 10 + 10) for i in range(windows)])
        features = np.full((windows, 1, 3), value, np.float32)
        observations.add(library, "k", "b", sampling, ranges, features, MADE_BY)
    densest = observations.densest(library.observations, "k", "b")
    assert densest is not None and densest.features[:, 0, 0].tolist() == [1, 1]
    assert observations.densest_samplings(library, "b") == {"k": "second"}
    assert observations.densest_of_any_backbone(library) == {"k": ("b", "second")}
    assert [sampling for _, sampling in observations.list_samplings(library, "b")][-1] == "second"


def test_features_beyond_float16_stay_finite(library: LibraryWriter) -> None:
    observation = observations.add(
        library, "k", "b", "s", np.array([[0, 1]]), np.full((1, 1, 2), 1e9, np.float32), MADE_BY
    )
    assert np.isfinite(observation.features).all()


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
def test_segments_are_in_the_video_disjoint_and_above_the_threshold(
    scores: list[list[float]], threshold: float, end_ms: int, stride: int
) -> None:
    starts = [i * stride for i in range(len(scores)) if i * stride < end_ms]
    table = np.array(scores[: len(starts)]).reshape(-1, 3)
    windows = np.array([(s, s + 1000) for s in starts]).reshape(-1, 2)
    segments = find_segments(windows, table, np.full(3, threshold), end_ms, Hysteresis())
    for s in segments:
        assert 0 <= s.start_ms < s.end_ms <= end_ms
        assert s.score >= threshold
    for a, b in pairwise(segments):
        assert a.label < b.label or b.start_ms - a.end_ms > Hysteresis().max_gap_ms
    found_labels = {s.label for s in segments}
    assert found_labels == set(np.flatnonzero((table >= threshold).any(axis=0)) if len(table) else [])


def test_probabilities_are_averaged_over_views_in_any_batch() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(9, 3, 5)).astype(np.float16)
    weight, bias = rng.normal(size=(4, 5)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    expected = probabilities(features, weight, bias)
    e = np.exp(features.astype(np.float64) @ weight.T.astype(np.float64) + bias)
    assert np.allclose(expected, (e / e.sum(-1, keepdims=True)).mean(axis=1), atol=1e-8)
    assert np.array_equal(
        expected, np.concatenate([probabilities(features[i : i + 1], weight, bias) for i in range(9)])
    )


def test_retag_gives_the_same_segments_as_a_new_derivation(library: LibraryWriter, tmp_path: Path) -> None:
    first, second = add_model(library), add_model(library, seed=1, name="other")
    contents = [add_video(library, tmp_path / f"{i}.mp4", seed=i) for i in range(3)]
    for content in contents:
        model = heads.load_head(library, first)
        derive.derive_segments(library, content, model, derive.derivation_rules(library, model), SAMPLING)
    fresh = segment_rows(library)
    (sure_count,) = library.connection.execute("SELECT count(*) FROM sure_segments").fetchone()
    assert sure_count
    heads.set_model_threshold(library, first, 0.9)
    assert sum(n.sure for _, n in derive.retag(library, first)) < sure_count
    heads.set_model_threshold(library, first, None)
    assert sum(n.sure for _, n in derive.retag(library, first)) == sure_count
    assert segment_rows(library) == fresh
    assert sum(n.sure for _, n in derive.retag(library, second)) > 0
    assert [row for row in segment_rows(library) if row[2] == first] == fresh


def test_none_of_these_is_never_a_moment(library: LibraryWriter, tmp_path: Path) -> None:
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


def test_a_rejection_survives_retag(library: LibraryWriter, tmp_path: Path) -> None:
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


def test_an_annotated_content_cannot_be_deleted(library: LibraryWriter, tmp_path: Path) -> None:
    content = add_video(library, tmp_path / "a.mp4")
    library.connection.execute(
        "INSERT INTO words (content_id, label, verdict, said_at) VALUES (?, 'x', 'added', '')", (content,)
    )
    with pytest.raises(sqlite3.IntegrityError):
        library.connection.execute("DELETE FROM contents WHERE id = ?", (content,))


def test_terms_match_by_stem_and_phrases_by_order(library: LibraryWriter) -> None:
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


def test_a_moment_that_two_models_found_is_listed_once_with_the_better_score(
    library: LibraryWriter, tmp_path: Path
) -> None:
    add_video(library, tmp_path / "a.mp4")
    for seed in (0, 1):
        model_id = add_model(library, seed=seed, name=f"m{seed}")
        heads.set_model_threshold(library, model_id, 0.0)
        list(derive.retag(library, model_id))
    merged = search(library.connection, "yoga")
    by_model = [search(library.connection, "yoga", model=f"m{seed}") for seed in (0, 1)]
    assert len(merged) == 1 and merged[0].score == max(moments[0].score for moments in by_model)


def test_a_missing_file_is_marked_and_a_copy_is_shown_instead(library: LibraryWriter, tmp_path: Path) -> None:
    model_id = add_model(library)
    add_video(library, tmp_path / "v" / "a.mp4")
    heads.set_model_threshold(library, model_id, 0.0)
    list(derive.retag(library, model_id))
    (tmp_path / "v" / "a.mp4").rename(tmp_path / "v" / "b.mp4")
    assert files.mark_missing(library, [os.fsencode(tmp_path / "v")], set()) == 1
    assert not search(library.connection, "yoga")[0].present
    add_video(library, tmp_path / "v" / "b.mp4", is_scanned=False)
    moment = search(library.connection, "yoga")[0]
    assert moment.present and moment.path.endswith(b"b.mp4")


def test_a_missing_root_marks_no_file_missing(library: LibraryWriter, tmp_path: Path) -> None:
    add_video(library, tmp_path / "disk" / "a.mp4")
    shutil.rmtree(tmp_path / "disk")
    assert files.mark_missing(library, [os.fsencode(tmp_path / "disk")], set()) == 0


def test_forgetting_a_folder_keeps_copies_elsewhere(library: LibraryWriter, tmp_path: Path) -> None:
    model_id = add_model(library)
    for name in ("gone/a.mp4", "kept/a.mp4"):
        add_video(library, tmp_path / name, seed=1)
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


def test_a_run_that_ends_during_a_query_is_not_interrupted(
    library: LibraryWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = runs.start(library, "scan", "/videos")

    def has_just_ended(pid: int) -> bool:
        with LibraryWriter.open(tmp_path / "home" / "library.db") as other_connection:
            runs.report(other_connection, run_id, {"videos": 2})
            runs.finish(other_connection, run_id, "done")
        return False

    monkeypatch.setattr(runs, "_is_running", has_just_ended)
    (run,) = runs.recent_runs(library.connection)
    assert (run.state, run.progress) == ("done", {"videos": 2})


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="has no such processes")
def test_a_zombie_process_does_not_count_as_running(library: LibraryWriter) -> None:
    """In a container whose first process does not wait for others, a zombie keeps its id for ever."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        run_id = runs.start(library, "scan", "/videos")
        library.connection.execute("UPDATE runs SET pid = ? WHERE id = ?", (process.pid, run_id))
        assert runs.recent_runs(library.connection)[0].state == "running"
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert runs.recent_runs(library.connection)[0].state == "interrupted"
