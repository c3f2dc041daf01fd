"""Similar moments: compared with a brute force over the observations, also after damage to the cache."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.footage import make_video
from helpers.library_factory import MADE_BY, SAMPLING, add_model, add_video
from helpers.small_model import make_model

from vtag.engine.errors import LibraryError
from vtag.engine.library.analysis.similar import SimilarityQuery, find_similar, query_from_content
from vtag.engine.library.analysis.similar import _scores as scores_of
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.maintenance import forget
from vtag.engine.library.store import feature_cache, heads, observations

Run = Callable[..., subprocess.CompletedProcess[str]]
D = 6


@pytest.fixture
def observed_library(library: LibraryWriter, tmp_path: Path) -> LibraryWriter:
    """Six videos of eight windows with random features."""
    heads.use_model(library, add_model(library))
    for i in range(6):
        add_video(library, tmp_path / "v" / f"{i}.mp4", seed=i)
    return library


def every_window(library: LibraryWriter) -> list[tuple[str, int, int, np.ndarray]]:
    """Content key, start, end and features float64 [V, D] of each window, read from observations.db."""
    rows = library.observations.execute("SELECT content_key, views, dim, windows, features FROM observations")
    window_rows = []
    for key, views, dim, windows, features in rows:
        for (start, end), feature in zip(
            np.frombuffer(windows, "<i8").reshape(-1, 2),
            np.frombuffer(features, "<f2").reshape(-1, views, dim).astype(float),
            strict=True,
        ):
            window_rows.append((key, int(start), int(end), feature))
    return window_rows


def cosine(feature: np.ndarray, query_feature: np.ndarray) -> float:
    """The highest cosine of all views."""
    feature = feature / np.linalg.norm(feature, axis=1, keepdims=True)
    return float((feature @ (query_feature / np.linalg.norm(query_feature))).max())


def brute_force(library: LibraryWriter, query: SimilarityQuery) -> list[tuple[str, float]]:
    """Content key and cosine of each window outside the query, best first."""
    query_feature = query.features[0].astype(float)
    scored = [
        (key, cosine(feature, query_feature))
        for key, start, end, feature in every_window(library)
        if not (key == query.content_key and start < query.end_ms and query.start_ms < end)
    ]
    return sorted(scored, key=lambda row: -row[1])


def keys(library: LibraryWriter) -> dict[int, str]:
    return dict(library.connection.execute("SELECT id, key FROM contents"))


def assert_ranking(library: LibraryWriter) -> None:
    """Assert that the moments agree with the windows of the brute force, best first."""
    query = query_from_content(library.path, 1, 3500)
    assert query is not None and (query.start_ms, query.end_ms) == (3000, 4000)
    moments = find_similar(library.path, query, limit=1000, min_score=-1)
    expected = brute_force(library, query)
    assert (keys(library)[moments[0].content_id], pytest.approx(moments[0].score, abs=2e-3)) == expected[0]
    scores = [s.score for s in moments]
    assert scores == sorted(scores, reverse=True)
    # every window that counts is in exactly one moment, which is at least as similar
    for key, start, end, feature in every_window(library):
        if key == query.content_key and start < query.end_ms and query.start_ms < end:
            continue
        holders = [
            s
            for s in moments
            if keys(library)[s.content_id] == key and s.start_ms <= start and end <= s.end_ms
        ]
        assert len(holders) == 1
        assert holders[0].score >= cosine(feature, query.features[0].astype(float)) - 2e-3
    assert not [s for s in moments if s.content_id == 1 and s.start_ms < 4000 and s.end_ms > 3000]
    assert [s.score for s in find_similar(library.path, query, limit=3, min_score=-1)] == scores[:3]
    min_score = scores[len(scores) // 2]
    assert (
        len(find_similar(library.path, query, limit=1000, min_score=min_score)) == scores.index(min_score) + 1
    )


def cache_files(library: LibraryWriter) -> list[Path]:
    return sorted(
        p for p in feature_cache.cache_folder(library.path).iterdir() if p.suffix in (".f16", ".rows")
    )


def test_moments_are_ranked_by_their_exact_cosine(observed_library: LibraryWriter) -> None:
    assert_ranking(observed_library)
    assert_ranking(observed_library)  # from the cache
    assert [f.suffix for f in cache_files(observed_library)] == [".f16", ".rows"]
    assert {stat.S_IMODE(f.stat().st_mode) for f in cache_files(observed_library)} == {0o600}
    assert stat.S_IMODE(cache_files(observed_library)[0].parent.stat().st_mode) == 0o700
    stored = np.fromfile(cache_files(observed_library)[0], "<f2").reshape(-1, D).astype(float)
    assert np.abs(np.linalg.norm(stored, axis=1) - 1).max() < 2e-3


def test_every_float16_value_is_converted_exactly(library: LibraryWriter, tmp_path: Path) -> None:
    """Also the smallest, denormal and negative values."""
    heads.use_model(library, add_model(library))
    bits = np.arange(0, 0x3C00, 7, dtype=np.uint16)  # 0 up to 1
    values = np.concatenate([bits.view(np.float16), -bits.view(np.float16)]).astype(np.float32)
    values = values[: len(values) // D * D].reshape(-1, 1, D)
    content = add_video(library, tmp_path / "a.mp4", is_scanned=False)
    spans = np.array([(i * 9000, i * 9000 + 1000) for i in range(len(values))])
    observations.add(library, keys(library)[content], "backbone", SAMPLING, spans, values, MADE_BY)
    (table,) = feature_cache.cached_features(library.path, library.observations, "backbone")
    query = SimilarityQuery(feature_cache.normalised(np.ones((1, D), np.float32)), "backbone")
    exact = table.features[:, 0].astype(np.float64) @ query.features[0].astype(np.float64)
    assert np.abs(scores_of(table, query) - exact).max() < 1e-6


def test_the_cache_adds_new_and_drops_deleted_observations(
    observed_library: LibraryWriter, tmp_path: Path
) -> None:
    assert_ranking(observed_library)
    features_bytes = cache_files(observed_library)[0].read_bytes()
    add_video(observed_library, tmp_path / "v" / "new.mp4", seed=77)
    assert_ranking(observed_library)
    assert cache_files(observed_library)[0].read_bytes().startswith(features_bytes) and len(
        cache_files(observed_library)[0].read_bytes()
    ) > len(features_bytes)
    # one content is observed again; then half of all are deleted
    key = keys(observed_library)[2]
    spans = np.array([(i * 1000, i * 1000 + 1000) for i in range(8)])
    fresh = np.random.default_rng(99).normal(size=(8, 1, D)).astype(np.float32)
    observations.add(observed_library, key, "backbone", SAMPLING, spans, fresh, MADE_BY, replace=True)
    assert_ranking(observed_library)
    for number in (3, 4, 5):
        observed_library.observations.execute(
            "DELETE FROM observations WHERE content_key = ?", (keys(observed_library)[number],)
        )
        assert_ranking(observed_library)
    # at most a quarter belongs to deleted observations
    assert (
        cache_files(observed_library)[0].stat().st_size <= 2 * D * len(every_window(observed_library)) / 0.75
    )


@pytest.mark.parametrize(
    "damage", ["features cut", "features more", "rows cut", "rows torn", "rows gone", "noise"]
)
def test_a_damaged_cache_is_rebuilt(observed_library: LibraryWriter, damage: str) -> None:
    assert_ranking(observed_library)
    features, rows = cache_files(observed_library)
    data = {features: features.read_bytes(), rows: rows.read_bytes()}
    if damage == "features cut":
        features.write_bytes(data[features][:-3])
    elif damage == "features more":  # an interrupted update
        features.write_bytes(data[features] + b"\1" * 17)
    elif damage == "rows cut":
        rows.write_bytes(data[rows][: -24 * 3])
    elif damage == "rows torn":
        rows.write_bytes(data[rows][:-5])
    elif damage == "rows gone":
        rows.unlink()
    else:
        rows.write_bytes(os.urandom(len(data[rows])))
    assert_ranking(observed_library)


def test_of_several_views_the_most_similar_counts(library: LibraryWriter, tmp_path: Path) -> None:
    heads.use_model(library, add_model(library))
    rng = np.random.default_rng(5)
    for i in range(3):
        add_video(library, tmp_path / f"{i}.mp4", seed=i, is_scanned=False)
        spans = np.array([(k * 1000, k * 1000 + 1000) for k in range(8)])
        features = rng.normal(size=(8, 3, D)).astype(np.float32)
        observations.add(library, keys(library)[i + 1], "backbone", SAMPLING, spans, features, MADE_BY)
    query_feature = rng.normal(size=(1, D)).astype(np.float32)
    query = SimilarityQuery(feature_cache.normalised(query_feature), "backbone")
    moments = find_similar(library.path, query, limit=5, min_score=-1)
    assert moments[0].score == pytest.approx(brute_force(library, query)[0][1], abs=2e-3)


def test_forgetting_a_video_empties_the_cache_too(observed_library: LibraryWriter, tmp_path: Path) -> None:
    assert_ranking(observed_library)
    forget.forget(
        observed_library, forget.plan_forget(observed_library, os.fsencode(tmp_path / "v" / "3.mp4"))
    )
    assert not feature_cache.cache_folder(observed_library.path).exists()
    assert_ranking(observed_library)


def test_a_cache_that_cannot_be_written_is_an_error(observed_library: LibraryWriter) -> None:
    (observed_library.path.parent / "cache").write_text("no folder")
    query = query_from_content(observed_library.path, 1, 0)
    assert query is not None
    with pytest.raises(LibraryError, match="cannot be written"):
        find_similar(observed_library.path, query)


def test_the_command_ranks_a_moment_of_the_library_and_a_clip_from_outside_by_the_same_features(
    vtag: Run, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "model")
    (tmp_path / "v").mkdir()
    for i in range(3):
        make_video(tmp_path / "v" / f"{i}.mp4", seconds=4, seed=i)
    scan_run = vtag("scan", tmp_path / "v", "--model", model)
    assert scan_run.returncode == 0, scan_run.stderr
    inside_run = vtag("similar", tmp_path / "v" / "0.mp4", "--at", "0:01.5", "--json", "--min-score", "-1")
    assert inside_run.returncode == 0, inside_run.stderr
    moments = json.loads(inside_run.stdout)
    assert moments
    assert not [
        m for m in moments if m["path"].endswith("0.mp4") and m["start_ms"] < 2000 and m["end_ms"] > 1000
    ]
    outside_file = tmp_path / "other.mp4"
    make_video(outside_file, seconds=4, seed=0, metadata={"title": "the same pictures, other bytes"})
    outside_run = vtag("similar", outside_file, "--at", "1.5", "--json", "--device", "cpu")
    assert outside_run.returncode == 0, outside_run.stderr
    best = json.loads(outside_run.stdout)[0]
    assert best["path"] == str(tmp_path / "v" / "0.mp4") and best["start_ms"] <= 1500 < best["end_ms"]
    assert best["score"] > 0.999
    assert vtag("similar", outside_file, "--json").returncode == 0
    assert "is no time" in vtag("similar", outside_file, "--at", "soon").stderr
    assert "it ends at" in vtag("similar", tmp_path / "v" / "0.mp4", "--at", "5:00").stderr
    missing_run = vtag("similar", tmp_path / "none.mp4")
    assert missing_run.returncode == 1 and "neither in the library nor on the disk" in missing_run.stderr
