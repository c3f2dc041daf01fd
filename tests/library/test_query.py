"""The query language: the evaluation of trees compared with a brute force over small libraries."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtag.engine.errors import QueryError
from vtag.engine.library import migrations
from vtag.engine.library.search import evaluate, query, sequence
from vtag.engine.library.search.moments import Moment, search, search_videos
from vtag.engine.library.search.phrases import find_meanings
from vtag.engine.library.search.query import parse

Text, Score = query.TextTerm, query.ScoreFilter


LABELS = ("archery", "riding a bike", "riding a horse", "yoga")
MODELS = ("m", "n")


class GeneratedSegment(NamedTuple):
    """A segment of a generated library."""

    content: int
    label: int
    model: int | None
    start: int
    end: int
    score: float
    verdict: str | None


class GeneratedVideo(NamedTuple):
    """A video of a generated library; `exists` is whether its file does."""

    path: str
    recorded: str
    exists: bool


THIS_FILE = os.path.abspath(__file__)
segments_strategy = st.builds(
    lambda content, label, model, start, length, score, verdict: GeneratedSegment(
        content, label, model, start * 1000, (start + length) * 1000, score / 10, verdict
    ),
    st.integers(0, 3),
    st.integers(0, len(LABELS) - 1),
    st.sampled_from([None, 0, 1]),
    st.integers(0, 150),
    st.integers(1, 20),
    st.integers(0, 10),
    st.sampled_from([None, None, None, "confirmed", "rejected"]),
)
libraries = st.lists(segments_strategy, max_size=14)
VIDEOS = (
    GeneratedVideo(THIS_FILE, "2020-01-01", True),
    GeneratedVideo("/gone/Holiday/a.mp4", "2021-06-01T12:00:00", False),
    GeneratedVideo("/gone/holiday/b.mov", "2022-06-01", False),
    GeneratedVideo("/gone/office/c.mp4", "2023-12-31", False),
)
TERMS = [
    "archery", "riding", "bike", '"riding a"', "yoga", "horse", "label:yoga", "label:riding*", "xyzzy",
    "score>0.5", "score<=0.3", "longer:8s", "shorter:5s", "model:m", "source:user", "source:model",
    "is:confirmed", "is:rejected", "is:unavailable", "path:holiday", "path:/gone/*.mp4", "path:office/*",
    "after:2021", "before:2022-06-02",
]  # fmt: skip
queries = st.recursive(
    st.sampled_from(TERMS),
    lambda inner: (
        st.lists(inner, min_size=2, max_size=3).map(" ".join)
        | st.lists(inner, min_size=2, max_size=3).map(" AND ".join)
        | st.lists(inner, min_size=2, max_size=3).map(" OR ".join)
        | st.lists(inner, min_size=2, max_size=3).map(" THEN<20s ".join)
        | inner.map("({})".format)
        | inner.map("-({})".format)
        | st.sampled_from(TERMS).map("-{}".format)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("is_large_library", [False, True])
@given(segments=libraries, text=queries)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_search_agrees_with_the_brute_force(
    monkeypatch: pytest.MonkeyPatch, is_large_library: bool, segments: list[GeneratedSegment], text: str
) -> None:
    if is_large_library:  # as if the library were larger than these limits
        monkeypatch.setattr(evaluate, "_SMALL_SCOPE", 0)
        monkeypatch.setattr(sequence, "_SMALL_STEP", 0)
        monkeypatch.setattr(sequence, "_FIRST_BATCH", 1)
        monkeypatch.setattr(sequence, "_VIDEO_CHUNK", 2)
    try:
        tree = _with_meanings(parse(text))
    except QueryError:
        return
    reader = _library(segments)
    expected = _expected_facts(tree, segments)
    moments = search(reader, text, limit=None)
    # best first, then by the first segment; alternatives that begin with the same segment come in any order
    assert [(-m.score, m.id) for m in moments] == sorted((-m.score, m.id) for m in moments)
    assert sorted((-m.score, m.id, _facts(m)) for m in moments) == expected
    assert search(reader, text, limit=2) == moments[:2]
    grouped = search_videos(reader, text, limit=None)
    assert {_facts(m) for video in grouped for m in video} == {facts for _, _, facts in expected}
    assert [max(m.score for m in video) for video in grouped] == sorted(
        (max(m.score for m in video) for video in grouped), reverse=True
    )
    reader.close()


@given(text=st.text(st.characters(), max_size=40) | st.lists(st.sampled_from(
    [*TERMS, "OR", "AND", "THEN", "-", '"', "(", ")", "'; DROP TABLE segments; --", "score>", "is:", "NEAR", "\0"]
), max_size=9).map(" ".join))  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_any_text_gives_moments_or_an_error_and_changes_nothing(text: str) -> None:
    if not _readers:
        _readers.append(
            _library([GeneratedSegment(0, i % 4, 0, i * 1000, i * 1000 + 900, 0.5, None) for i in range(20)])
        )
    dump = list(_readers[0].iterdump())
    try:
        assert len(search(_readers[0], text)) <= 20
    except QueryError as error:
        assert "\n" not in str(error)
    assert list(_readers[0].iterdump()) == dump


_readers: list[sqlite3.Connection] = []


def _library(segments: list[GeneratedSegment]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrations.apply(connection, "vtag")
    run = connection.executemany
    run("INSERT INTO labels (name) VALUES (?)", [(name,) for name in LABELS])
    run(
        "INSERT INTO models (name, source, backbone_hash, head_hash, spec, weight, bias, added_at) "
        "VALUES (?1, ?1, 'b', ?1, '{}', x'', x'', '')",
        [(name,) for name in MODELS],
    )
    connection.execute("INSERT INTO volumes VALUES (1, 'v', ?, '/')", (b"/",))
    for number, video in enumerate(VIDEOS, 1):
        connection.execute(
            "INSERT INTO contents (id, key, size_bytes, recorded_at, added_at) VALUES (?, ?, 1, ?, '')",
            (number, str(number), video.recorded),
        )
        connection.execute(
            "INSERT INTO files (volume_id, path, display, size_bytes, mtime_ns, inode, content_id, seen_at) "
            "VALUES (1, ?, '', 1, 0, 0, ?, '')",
            (video.path[1:].encode(), number),
        )
    run(
        "INSERT INTO segments (content_id, label_id, model_id, start_ms, end_ms, score, verdict) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(s.content + 1, s.label + 1, None if s.model is None else s.model + 1, *s[3:]) for s in segments],
    )
    return connection


Facts = tuple[str, str, int, int, float]


def _facts(m: Moment) -> Facts:
    return m.path.decode(), m.label, m.start_ms, m.end_ms, m.score


# --- the brute force: each video on its own, each part by its definition in docs/search.md

Chain = tuple[int, ...]  # indices of segments


def _expected_facts(tree: query.Node, segments: list[GeneratedSegment]) -> list[tuple[float, int, Facts]]:
    """Negative score, id of the first segment, and facts of each moment, sorted."""
    chains: set[Chain] = set()
    for content in range(len(VIDEOS)):
        video = [i for i, seg in enumerate(segments) if seg.content == content]
        chains |= set(_moments(tree, video, segments, [], content) or [])
    ordered = sorted(chains, key=lambda c: (-min(segments[i].score for i in c), c[0]))
    distinct: list[Chain] = []
    for chain in ordered:
        if not any(_is_duplicate(chain, other, segments) for other in distinct):
            distinct.append(chain)
    moments = [(_facts_of(chain, segments), chain[0] + 1) for chain in distinct]
    return sorted((-facts[4], first_id, facts) for facts, first_id in moments)


def _is_duplicate(a: Chain, b: Chain, segments: list[GeneratedSegment]) -> bool:
    values: Callable[[Chain, str], list[Any]] = lambda c, name: [getattr(segments[i], name) for i in c]  # noqa: E731
    return (
        values(a, "content")[0] == values(b, "content")[0]
        and values(a, "label") == values(b, "label")
        and values(a, "model") != values(b, "model")
        and segments[a[0]].start < max(values(b, "end"))
        and segments[b[0]].start < max(values(a, "end"))
    )


def _facts_of(chain: Chain, segments: list[GeneratedSegment]) -> Facts:
    steps = [segments[i] for i in chain]
    return (
        VIDEOS[steps[0].content].path,
        " THEN ".join(LABELS[s.label] for s in steps),
        steps[0].start,
        max(s.end for s in steps),
        min(s.score for s in steps),
    )


def _moments(
    node: query.Node,
    video: list[int],
    segments: list[GeneratedSegment],
    filters: list[query.Node],
    content: int,
) -> list[Chain] | None:
    """The moments of a video that `node` finds, None if it matches nothing there."""
    if query.is_filter(node):
        node = query.And((node,))
    match node:
        case query.TextTerm() | query.LabelTerm():
            return [
                (i,)
                for i in video
                if _matches(node, LABELS[segments[i].label]) and _passes(segments[i], filters)
            ] or None
        case query.Or(parts):
            moments = [_moments(part, video, segments, filters, content) for part in parts]
            return list(itertools.chain.from_iterable(f or [] for f in moments)) or None
        case query.And(parts):
            inner_filters = filters + [p for p in parts if query.is_filter(p)]
            searches = [p for p in parts if not query.is_filter(p) and not isinstance(p, query.Not)]
            negated = [p.part for p in parts if isinstance(p, query.Not) and not query.is_filter(p)]
            if any(_moments(p, video, segments, [], content) for p in negated):
                return None
            if not searches:
                return [(i,) for i in video if _passes(segments[i], inner_filters)] or None
            moments = [_moments(part, video, segments, inner_filters, content) for part in searches]
            return None if None in moments else list(itertools.chain.from_iterable(f or [] for f in moments))
        case query.Then(steps, gaps):
            moments = [_moments(step, video, segments, filters, content) for step in steps]
            return None if None in moments else _chains([f or [] for f in moments], gaps, segments) or None
    raise AssertionError(node)


def _chains(steps: list[list[Chain]], gaps: tuple[int, ...], segments: list[GeneratedSegment]) -> list[Chain]:
    def begin(c: Chain) -> int:
        return segments[c[0]].start

    def end(c: Chain) -> int:
        return max(segments[i].end for i in c)

    def order(c: Chain) -> tuple[int, float, int]:
        return begin(c), -min(segments[i].score for i in c), c[0]

    valid = [
        chain
        for chain in itertools.product(*steps)
        if all(
            begin(a) < begin(b) <= end(a) + gap for a, b, gap in zip(chain[:-1], chain[1:], gaps, strict=True)
        )
    ]
    first: dict[Chain, tuple[Chain, ...]] = {}
    for chain in sorted(valid, key=lambda chain: [order(c) for c in chain]):
        first.setdefault(chain[0], chain)
    last = {chain[-1]: chain for chain in sorted(first.values(), key=lambda chain: order(chain[0]))}
    return [tuple(itertools.chain.from_iterable(chain)) for chain in last.values()]


def _matches(node: query.TextTerm | query.LabelTerm, label: str) -> bool:
    if isinstance(node, query.LabelTerm):
        return label.startswith(node.pattern[:-1]) if node.pattern.endswith("*") else label == node.pattern
    return all(text in label for text in node.texts)


def _with_meanings(node: query.Node) -> query.Node:
    """`node` with the labels that its everyday phrases mean; nothing negated is taken for one."""
    if isinstance(node, query.TextTerm) and node.texts:
        words = set(" ".join(node.texts).split())
        if not any(words <= set(label.split()) for label in LABELS):
            meanings = find_meanings(" ".join(node.texts), LABELS)
            return query.Or(tuple(query.LabelTerm(m.label) for m in meanings)) if meanings else node
    if isinstance(node, query.And | query.Or):
        return replace(node, parts=tuple(map(_with_meanings, node.parts)))
    if isinstance(node, query.Then):
        return replace(node, steps=tuple(map(_with_meanings, node.steps)))
    return node


def _passes(seg: GeneratedSegment, filters: list[query.Node]) -> bool:
    rejected_counts = any("VerdictFilter(verdict='rejected')" in repr(f) for f in filters)
    return (seg.verdict != "rejected" or rejected_counts) and all(_holds(f, seg) for f in filters)


def _holds(node: query.Node, seg: GeneratedSegment) -> bool:
    video, length = VIDEOS[seg.content], seg.end - seg.start
    match node:
        case query.Not(part):
            return not _holds(part, seg)
        case query.And(parts):
            return all(_holds(p, seg) for p in parts)
        case query.Or(parts):
            return any(_holds(p, seg) for p in parts)
        case query.ScoreFilter(operator, value):
            return seg.score > value if operator == ">" else seg.score <= value
        case query.LengthFilter(operator, ms):
            return length > ms if operator == ">" else length < ms
        case query.ModelFilter(name):
            return seg.model is not None and MODELS[seg.model] == name
        case query.SourceFilter(name):
            return (seg.model is None) == (name == "user")
        case query.VerdictFilter(name):
            return seg.verdict == name
        case query.UnavailableFilter():
            return not video.exists
        case query.DateFilter(operator, when):
            return (datetime.fromisoformat(video.recorded) >= when) == (operator == ">=")
        case query.PathGlobFilter(pattern):
            lower = video.path.lower()
            return {
                "holiday": "holiday" in lower,
                "/gone/*.mp4": lower.startswith("/gone/") and lower.endswith(".mp4"),
                "office/*": "/office/" in lower,
            }[pattern]
    raise AssertionError(node)
