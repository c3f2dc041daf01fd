"""The query language: how text is read, and what a tree means, against a brute force over small libraries."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtag.engine.errors import QueryError
from vtag.engine.library import migrations
from vtag.engine.library.search import evaluate, query, sequence
from vtag.engine.library.search.moments import Moment, search, search_videos
from vtag.engine.library.search.query import parse

W, S = query.TextTerm, query.ScoreFilter


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("riding a bike", W(("riding", "a", "bike"))),
        ("“riding a” bike", W(("riding a", "bike"))),
        ("yoga - !! ***", W(("yoga",))),
        ('yoga "', W(("yoga",))),
        ('"or" or "OR"', W(("or", "or", "OR"))),
        ("a b OR c", query.Or((W(("a", "b")), W(("c",))))),
        ("a AND b OR c", query.Or((query.And((W(("a",)), W(("b",)))), W(("c",))))),
        ("a AND (b OR c)", query.And((W(("a",)), query.Or((W(("b",)), W(("c",))))))),
        ('riding -"a horse" bike', query.And((W(("riding", "bike")), query.Not(W(("a horse",)))))),
        ("a −b", query.And((W(("a",)), query.Not(W(("b",)))))),
        ("score>0.6", S(">", 0.6)),
        ("score >= .5 a", query.And((W(("a",)), S(">=", 0.5)))),
        ("a THEN b", query.Then((W(("a",)), W(("b",))), (60_000,))),
        ("a THEN<10s b THEN < 1m c", query.Then((W(("a",)), W(("b",)), W(("c",))), (10_000, 60_000))),
        # a filter narrows all that stands with it, on whichever side
        ("a score>0.6 THEN b", query.And((query.Then((W(("a",)), W(("b",))), (60_000,)), S(">", 0.6)))),
        ("label:yoga", query.LabelTerm("yoga")),
        ('label:"riding a bike"', query.LabelTerm("riding a bike")),
        ("path:*.mp4 a", query.And((W(("a",)), query.PathFilter("*.mp4")))),
        ("longer:1h30m", query.LengthFilter(">", 5_400_000)),
        ("shorter:1.5s", query.LengthFilter("<", 1500)),
        ("shorter:90", query.LengthFilter("<", 90_000)),
        ("after:2024", query.DateFilter(">=", datetime(2024, 1, 1))),
        ("before:2024-05", query.DateFilter("<", datetime(2024, 5, 1))),
        ("after:2024-05-17T14:30", query.DateFilter(">=", datetime(2024, 5, 17, 14, 30))),
        ("IS:Confirmed", query.VerdictFilter("confirmed")),
        ("is:unavailable source:user", query.And((query.UnavailableFilter(), query.SourceFilter("user")))),
        ("-model:m a", query.And((W(("a",)), query.Not(query.ModelFilter("m"))))),
    ],
)
def test_a_query_is_read_as_it_was_meant(text: str, tree: query.Node) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("yoga AND", 6), ("OR yoga", 1), ("yoga OR OR archery", 9), ("(yoga", 1), ("a (b OR (c)", 3), ("a) b", 2),
        ("-yoga", 1), ("yoga OR -bike", 9), ("a () b", 3), ("THEN b", 1), ("a THEN -b", 3), ("a THEN<soon b", 3),
        ("a score>2", 3), ("a score>", 3), ("a after:soon", 3), ("a after:0000", 3), ("a longer:x", 3),
        ("a longer:", 3), ("a is:blue", 3), ("a source:me", 3), ("a colour:red", 3), ("(" * 60 + "a" + ")" * 60, 41),
        ("a THEN " * 16 + "a", 108),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_said_with_its_place(text: str, column: int) -> None:
    with pytest.raises(QueryError, match=f"^the query at column {column}: ") as error:
        parse(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", " ", '""', "-", "!?", "a " * 2000])
def test_a_query_that_asks_for_nothing_is_said_in_one_line(text: str) -> None:
    with pytest.raises(QueryError) as error:
        parse(text)
    assert "\n" not in str(error.value)


LABELS = ("archery", "riding a bike", "riding a horse", "yoga")
MODELS = ("m", "n")


class Seg(NamedTuple):
    """A segment of a generated library."""

    content: int
    label: int
    model: int | None
    start: int
    end: int
    score: float
    verdict: str | None


class Video(NamedTuple):
    """A video of a generated library; `there` is whether its file is."""

    path: str
    recorded: str
    there: bool


HERE = os.path.abspath(__file__)
segs = st.builds(
    lambda content, label, model, start, length, score, verdict: Seg(
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
shelves = st.lists(segs, max_size=14)
VIDEOS = (
    Video(HERE, "2020-01-01", True),
    Video("/gone/Holiday/a.mp4", "2021-06-01T12:00:00", False),
    Video("/gone/holiday/b.mov", "2022-06-01", False),
    Video("/gone/office/c.mp4", "2023-12-31", False),
)
ATOMS = [
    "archery", "riding", "bike", '"riding a"', "yoga", "horse", "label:yoga", "label:riding*", "xyzzy",
    "score>0.5", "score<=0.3", "longer:8s", "shorter:5s", "model:m", "source:user", "source:model",
    "is:confirmed", "is:rejected", "is:unavailable", "path:holiday", "path:/gone/*.mp4", "path:office/*",
    "after:2021", "before:2022-06-02",
]  # fmt: skip
queries = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: (
        st.lists(inner, min_size=2, max_size=3).map(" ".join)
        | st.lists(inner, min_size=2, max_size=3).map(" AND ".join)
        | st.lists(inner, min_size=2, max_size=3).map(" OR ".join)
        | st.lists(inner, min_size=2, max_size=3).map(" THEN<20s ".join)
        | inner.map("({})".format)
        | inner.map("-({})".format)
        | st.sampled_from(ATOMS).map("-{}".format)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("many", [False, True])
@given(shelf=shelves, text=queries)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_search_finds_what_its_query_means(
    monkeypatch: pytest.MonkeyPatch, many: bool, shelf: list[Seg], text: str
) -> None:
    if many:  # as in a library that is large beside these numbers
        monkeypatch.setattr(evaluate, "_SMALL_SCOPE", 0)
        monkeypatch.setattr(sequence, "_SMALL_STEP", 0)
        monkeypatch.setattr(sequence, "_FIRST_BATCH", 1)
        monkeypatch.setattr(sequence, "_VIDEO_CHUNK", 2)
    try:
        tree = parse(text)
    except QueryError:
        return
    reader = _library(shelf)
    wanted = _found(tree, shelf)
    found = search(reader, text, limit=None)
    assert [_facts(m) for m in found] == wanted
    assert [_facts(m) for m in search(reader, text, limit=2)] == wanted[:2]
    grouped = search_videos(reader, text, limit=None)
    assert {_facts(m) for video in grouped for m in video} == set(wanted)
    assert [max(m.score for m in video) for video in grouped] == sorted(
        (max(m.score for m in video) for video in grouped), reverse=True
    )
    reader.close()


@given(text=st.text(st.characters(), max_size=40) | st.lists(st.sampled_from(
    [*ATOMS, "OR", "AND", "THEN", "-", '"', "(", ")", "'; DROP TABLE segments; --", "score>", "is:", "NEAR", "\0"]
), max_size=9).map(" ".join))  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_any_text_has_an_answer_or_a_sentence_and_does_nothing_else(text: str) -> None:
    if not _kept:
        _kept.append(_library([Seg(0, i % 4, 0, i * 1000, i * 1000 + 900, 0.5, None) for i in range(20)]))
    before = list(_kept[0].iterdump())
    try:
        assert len(search(_kept[0], text)) <= 20
    except QueryError as error:
        assert "\n" not in str(error)
    assert list(_kept[0].iterdump()) == before


_kept: list[sqlite3.Connection] = []


def _library(shelf: list[Seg]) -> sqlite3.Connection:
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
        [(s.content + 1, s.label + 1, None if s.model is None else s.model + 1, *s[3:]) for s in shelf],
    )
    return connection


Facts = tuple[str, str, int, int, float]


def _facts(m: Moment) -> Facts:
    return m.path.decode(), m.label, m.start_ms, m.end_ms, m.score


# --- the brute force: every video by itself, every part by its definition in docs/search.md

Chain = tuple[int, ...]  # positions in the shelf


def _found(tree: query.Node, shelf: list[Seg]) -> list[Facts]:
    chains: set[Chain] = set()
    for content in range(len(VIDEOS)):
        video = [i for i, seg in enumerate(shelf) if seg.content == content]
        chains |= set(_moments(tree, video, shelf, [], content) or [])
    ordered = sorted(chains, key=lambda c: (-min(shelf[i].score for i in c), c[0]))
    kept: list[Chain] = []
    for chain in ordered:
        if not any(_same_seen_by_another(chain, other, shelf) for other in kept):
            kept.append(chain)
    return [_facts_of(chain, shelf) for chain in kept]


def _same_seen_by_another(a: Chain, b: Chain, shelf: list[Seg]) -> bool:
    of: Callable[[Chain, str], list[Any]] = lambda c, name: [getattr(shelf[i], name) for i in c]  # noqa: E731
    return (
        of(a, "content")[0] == of(b, "content")[0]
        and of(a, "label") == of(b, "label")
        and of(a, "model") != of(b, "model")
        and shelf[a[0]].start < max(of(b, "end"))
        and shelf[b[0]].start < max(of(a, "end"))
    )


def _facts_of(chain: Chain, shelf: list[Seg]) -> Facts:
    steps = [shelf[i] for i in chain]
    return (
        VIDEOS[steps[0].content].path,
        " THEN ".join(LABELS[s.label] for s in steps),
        steps[0].start,
        max(s.end for s in steps),
        min(s.score for s in steps),
    )


def _moments(
    node: query.Node, video: list[int], shelf: list[Seg], filters: list[query.Node], content: int
) -> list[Chain] | None:
    """The moments of a video that `node` finds, None where it does not hold there."""
    if query.is_filter(node):
        node = query.And((node,))
    match node:
        case query.TextTerm() | query.LabelTerm():
            return [
                (i,) for i in video if _fits(node, LABELS[shelf[i].label]) and _passes(shelf[i], filters)
            ] or None
        case query.Or(parts):
            found = [_moments(part, video, shelf, filters, content) for part in parts]
            return list(itertools.chain.from_iterable(f or [] for f in found)) or None
        case query.And(parts):
            beside = filters + [p for p in parts if query.is_filter(p)]
            wanted = [p for p in parts if not query.is_filter(p) and not isinstance(p, query.Not)]
            unwanted = [p.part for p in parts if isinstance(p, query.Not) and not query.is_filter(p)]
            if any(_moments(p, video, shelf, [], content) for p in unwanted):
                return None
            if not wanted:
                return [(i,) for i in video if _passes(shelf[i], beside)] or None
            found = [_moments(part, video, shelf, beside, content) for part in wanted]
            return None if None in found else list(itertools.chain.from_iterable(f or [] for f in found))
        case query.Then(steps, gaps):
            found = [_moments(step, video, shelf, filters, content) for step in steps]
            return None if None in found else _chains([f or [] for f in found], gaps, shelf) or None
    raise AssertionError(node)


def _chains(steps: list[list[Chain]], gaps: tuple[int, ...], shelf: list[Seg]) -> list[Chain]:
    def begin(c: Chain) -> int:
        return shelf[c[0]].start

    def end(c: Chain) -> int:
        return max(shelf[i].end for i in c)

    def order(c: Chain) -> tuple[int, float, int]:
        return begin(c), -min(shelf[i].score for i in c), c[0]

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


def _fits(node: query.TextTerm | query.LabelTerm, label: str) -> bool:
    if isinstance(node, query.LabelTerm):
        return label.startswith(node.pattern[:-1]) if node.pattern.endswith("*") else label == node.pattern
    return all(text in label for text in node.texts)


def _passes(seg: Seg, filters: list[query.Node]) -> bool:
    rejected_counts = any("VerdictFilter(verdict='rejected')" in repr(f) for f in filters)
    return (seg.verdict != "rejected" or rejected_counts) and all(_holds(f, seg) for f in filters)


def _holds(node: query.Node, seg: Seg) -> bool:
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
            return not video.there
        case query.DateFilter(operator, when):
            return (datetime.fromisoformat(video.recorded) >= when) == (operator == ">=")
        case query.PathFilter(pattern):
            lower = video.path.lower()
            return {
                "holiday": "holiday" in lower,
                "/gone/*.mp4": lower.startswith("/gone/") and lower.endswith(".mp4"),
                "office/*": "/office/" in lower,
            }[pattern]
    raise AssertionError(node)
