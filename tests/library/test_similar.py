"""Find more like this: against a brute force over the observations, through every kind of damage to the cache."""

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
from helpers.sample import make_model
from helpers.shelf import MADE_BY, SAMPLING, add_model, add_video

from vtag.engine.errors import LibraryError
from vtag.engine.library.analysis.similar import SimilarityQuery, find_similar, query_from_content
from vtag.engine.library.analysis.similar import _scores as scores_of
from vtag.engine.library.database import Library
from vtag.engine.library.maintenance import forget
from vtag.engine.library.store import feature_cache, heads, observations

Run = Callable[..., subprocess.CompletedProcess[str]]
D = 6


@pytest.fixture
def seen(library: Library, tmp_path: Path) -> Library:
    """Six videos of eight windows with random features."""
    heads.use_model(library, add_model(library))
    for i in range(6):
        add_video(library, tmp_path / "v" / f"{i}.mp4", seed=i)
    return library


def every_window(library: Library) -> list[tuple[str, int, int, np.ndarray]]:
    """Content key, start, end and features float64 [V, D] of each window, out of observations.db itself."""
    rows = library.observations.execute("SELECT content_key, views, dim, windows, features FROM observations")
    found = []
    for key, views, dim, windows, features in rows:
        for (start, end), feature in zip(
            np.frombuffer(windows, "<i8").reshape(-1, 2),
            np.frombuffer(features, "<f2").reshape(-1, views, dim).astype(float),
            strict=True,
        ):
            found.append((key, int(start), int(end), feature))
    return found


def cosine(feature: np.ndarray, asked: np.ndarray) -> float:
    """The highest of all views."""
    feature = feature / np.linalg.norm(feature, axis=1, keepdims=True)
    return float((feature @ (asked / np.linalg.norm(asked))).max())


def expect(library: Library, like: SimilarityQuery) -> list[tuple[str, float]]:
    """Content and cosine of each window but the asked one's, best first."""
    asked = like.features[0].astype(float)
    scored = [
        (key, cosine(feature, asked))
        for key, start, end, feature in every_window(library)
        if not (key == like.content_key and start < like.end_ms and like.start_ms < end)
    ]
    return sorted(scored, key=lambda row: -row[1])


def keys(library: Library) -> dict[int, str]:
    return dict(library.connection.execute("SELECT id, key FROM contents"))


def check(library: Library) -> None:
    """The first moments are the brute force's best windows, none of which is in a moment before it."""
    like = query_from_content(library.path, 1, 3500)
    assert like is not None and (like.start_ms, like.end_ms) == (3000, 4000)
    found = find_similar(library.path, like, limit=1000, min_score=-1)
    wanted = expect(library, like)
    assert (keys(library)[found[0].content_id], pytest.approx(found[0].score, abs=2e-3)) == wanted[0]
    scores = [s.score for s in found]
    assert scores == sorted(scores, reverse=True)
    # every window that counts is in exactly one moment, which is at least as similar
    for key, start, end, feature in every_window(library):
        if key == like.content_key and start < like.end_ms and like.start_ms < end:
            continue
        holders = [
            s for s in found if keys(library)[s.content_id] == key and s.start_ms <= start and end <= s.end_ms
        ]
        assert len(holders) == 1
        assert holders[0].score >= cosine(feature, like.features[0].astype(float)) - 2e-3
    assert not [s for s in found if s.content_id == 1 and s.start_ms < 4000 and s.end_ms > 3000]
    assert [s.score for s in find_similar(library.path, like, limit=3, min_score=-1)] == scores[:3]
    least = scores[len(scores) // 2]
    assert len(find_similar(library.path, like, limit=1000, min_score=least)) == scores.index(least) + 1


def cache(library: Library) -> list[Path]:
    return sorted(
        p for p in feature_cache.cache_folder(library.path).iterdir() if p.suffix in (".f16", ".rows")
    )


def test_moments_are_ranked_by_their_exact_cosine(seen: Library) -> None:
    check(seen)
    check(seen)  # out of the cache
    assert [f.suffix for f in cache(seen)] == [".f16", ".rows"]
    assert {stat.S_IMODE(f.stat().st_mode) for f in cache(seen)} == {0o600}
    assert stat.S_IMODE(cache(seen)[0].parent.stat().st_mode) == 0o700
    stored = np.fromfile(cache(seen)[0], "<f2").reshape(-1, D).astype(float)
    assert np.abs(np.linalg.norm(stored, axis=1) - 1).max() < 2e-3


def test_every_float16_is_taken_at_its_value(library: Library, tmp_path: Path) -> None:
    """The smallest, denormal and negative ones, too: a feature with one large part and many tiny ones."""
    heads.use_model(library, add_model(library))
    bits = np.arange(0, 0x3C00, 7, dtype=np.uint16)  # 0 up to 1
    values = np.concatenate([bits.view(np.float16), -bits.view(np.float16)]).astype(np.float32)
    values = values[: len(values) // D * D].reshape(-1, 1, D)
    content = add_video(library, tmp_path / "a.mp4", look=False)
    spans = np.array([(i * 9000, i * 9000 + 1000) for i in range(len(values))])
    observations.add(library, keys(library)[content], "backbone", SAMPLING, spans, values, MADE_BY)
    (block,) = feature_cache.cached_features(library.path, library.observations, "backbone")
    like = SimilarityQuery(feature_cache.normalised(np.ones((1, D), np.float32)), "backbone")
    exact = block.features[:, 0].astype(np.float64) @ like.features[0].astype(np.float64)
    assert np.abs(scores_of(block, like) - exact).max() < 1e-6


def test_the_cache_grows_by_what_is_new_and_loses_what_is_gone(seen: Library, tmp_path: Path) -> None:
    check(seen)
    before = cache(seen)[0].read_bytes()
    add_video(seen, tmp_path / "v" / "new.mp4", seed=77)
    check(seen)
    assert cache(seen)[0].read_bytes().startswith(before) and len(cache(seen)[0].read_bytes()) > len(before)
    # a content that was looked at anew; then half of all
    key = keys(seen)[2]
    spans = np.array([(i * 1000, i * 1000 + 1000) for i in range(8)])
    fresh = np.random.default_rng(99).normal(size=(8, 1, D)).astype(np.float32)
    observations.add(seen, key, "backbone", SAMPLING, spans, fresh, MADE_BY, replace=True)
    check(seen)
    for number in (3, 4, 5):
        seen.observations.execute("DELETE FROM observations WHERE content_key = ?", (keys(seen)[number],))
        check(seen)
    # at most a quarter is of what is gone
    assert cache(seen)[0].stat().st_size <= 2 * D * len(every_window(seen)) / 0.75


@pytest.mark.parametrize(
    "damage", ["features cut", "features more", "rows cut", "rows torn", "rows gone", "noise"]
)
def test_a_damaged_cache_costs_nothing_but_its_making(seen: Library, damage: str) -> None:
    check(seen)
    features, rows = cache(seen)
    data = {features: features.read_bytes(), rows: rows.read_bytes()}
    if damage == "features cut":
        features.write_bytes(data[features][:-3])
    elif damage == "features more":  # an update that was killed
        features.write_bytes(data[features] + b"\1" * 17)
    elif damage == "rows cut":
        rows.write_bytes(data[rows][: -24 * 3])
    elif damage == "rows torn":
        rows.write_bytes(data[rows][:-5])
    elif damage == "rows gone":
        rows.unlink()
    else:
        rows.write_bytes(os.urandom(len(data[rows])))
    check(seen)


def test_of_several_views_the_most_similar_counts(library: Library, tmp_path: Path) -> None:
    heads.use_model(library, add_model(library))
    rng = np.random.default_rng(5)
    for i in range(3):
        add_video(library, tmp_path / f"{i}.mp4", seed=i, look=False)
        spans = np.array([(k * 1000, k * 1000 + 1000) for k in range(8)])
        features = rng.normal(size=(8, 3, D)).astype(np.float32)
        observations.add(library, keys(library)[i + 1], "backbone", SAMPLING, spans, features, MADE_BY)
    asked = rng.normal(size=(1, D)).astype(np.float32)
    like = SimilarityQuery(feature_cache.normalised(asked), "backbone")
    found = find_similar(library.path, like, limit=5, min_score=-1)
    assert found[0].score == pytest.approx(expect(library, like)[0][1], abs=2e-3)


def test_forgetting_a_video_empties_the_cache_too(seen: Library, tmp_path: Path) -> None:
    check(seen)
    forget.forget(seen, forget.plan_forget(seen, os.fsencode(tmp_path / "v" / "3.mp4")))
    assert not feature_cache.cache_folder(seen.path).exists()
    check(seen)


def test_a_cache_that_cannot_be_written_is_said(seen: Library) -> None:
    (seen.path.parent / "cache").write_text("no folder")
    like = query_from_content(seen.path, 1, 0)
    assert like is not None
    with pytest.raises(LibraryError, match="cannot be written"):
        find_similar(seen.path, like)


def test_the_command_ranks_a_moment_of_the_library_and_a_clip_from_outside_by_the_same_features(
    vtag: Run, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "model")
    (tmp_path / "v").mkdir()
    for i in range(3):
        make_video(tmp_path / "v" / f"{i}.mp4", seconds=4, seed=i)
    scanned = vtag("scan", tmp_path / "v", "--model", model)
    assert scanned.returncode == 0, scanned.stderr
    inside = vtag("similar", tmp_path / "v" / "0.mp4", "--at", "0:01.5", "--json", "--min-score", "-1")
    assert inside.returncode == 0, inside.stderr
    found = json.loads(inside.stdout)
    assert found
    assert not [
        m for m in found if m["path"].endswith("0.mp4") and m["start_ms"] < 2000 and m["end_ms"] > 1000
    ]
    outside = tmp_path / "other.mp4"
    make_video(outside, seconds=4, seed=0, metadata={"title": "the same pictures, other bytes"})
    looked = vtag("similar", outside, "--at", "1.5", "--json", "--device", "cpu")
    assert looked.returncode == 0, looked.stderr
    best = json.loads(looked.stdout)[0]
    assert best["path"] == str(tmp_path / "v" / "0.mp4") and best["start_ms"] <= 1500 < best["end_ms"]
    assert best["score"] > 0.999
    assert vtag("similar", outside, "--json").returncode == 0
    assert "is no time" in vtag("similar", outside, "--at", "soon").stderr
    assert "it ends at" in vtag("similar", tmp_path / "v" / "0.mp4", "--at", "5:00").stderr
    gone = vtag("similar", tmp_path / "none.mp4")
    assert gone.returncode == 1 and "neither in the library nor there" in gone.stderr
