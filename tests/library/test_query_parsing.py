"""The query language: texts and their trees, and the columns of mistakes."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from vtag.engine.errors import QueryError
from vtag.engine.library.search import query
from vtag.engine.library.search.query import parse

Text, Score = query.TextTerm, query.ScoreFilter


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("riding a bike", Text(("riding", "a", "bike"))),
        ("“riding a” bike", Text(("riding a", "bike"))),
        ("yoga - !! ***", Text(("yoga",))),
        ('yoga "', Text(("yoga",))),
        ('"or" or "OR"', Text(("or", "or", "OR"))),
        ("a b OR c", query.Or((Text(("a", "b")), Text(("c",))))),
        ("a AND b OR c", query.Or((query.And((Text(("a",)), Text(("b",)))), Text(("c",))))),
        ("a AND (b OR c)", query.And((Text(("a",)), query.Or((Text(("b",)), Text(("c",))))))),
        ('riding -"a horse" bike', query.And((Text(("riding", "bike")), query.Not(Text(("a horse",)))))),
        ("riding NOT horse", query.And((Text(("riding",)), query.Not(Text(("horse",)))))),
        (
            'riding AND NOT("a horse") bike',
            query.And((Text(("riding",)), Text(("bike",)), query.Not(Text(("a horse",))))),
        ),
        ("NOT path:x", query.Not(query.PathGlobFilter("x"))),
        ('"NOT" NOTHING kNOT', Text(("NOT", "NOTHING", "kNOT"))),
        ("a −b", query.And((Text(("a",)), query.Not(Text(("b",)))))),
        ("score>0.6", Score(">", 0.6)),
        ("score >= .5 a", query.And((Text(("a",)), Score(">=", 0.5)))),
        ("a THEN b", query.Then((Text(("a",)), Text(("b",))), (60_000,))),
        (
            "a THEN<10s b THEN < 1m c",
            query.Then((Text(("a",)), Text(("b",)), Text(("c",))), (10_000, 60_000)),
        ),
        # a filter narrows all parts of its alternative, on both sides
        (
            "a score>0.6 THEN b",
            query.And((query.Then((Text(("a",)), Text(("b",))), (60_000,)), Score(">", 0.6))),
        ),
        ("label:yoga", query.LabelTerm("yoga")),
        ('label:"riding a bike"', query.LabelTerm("riding a bike")),
        ("path:*.mp4 a", query.And((Text(("a",)), query.PathGlobFilter("*.mp4")))),
        ("longer:1h30m", query.LengthFilter(">", 5_400_000)),
        ("shorter:1.5s", query.LengthFilter("<", 1500)),
        ("shorter:90", query.LengthFilter("<", 90_000)),
        ("after:2024", query.DateFilter(">=", datetime(2024, 1, 1))),
        ("before:2024-05", query.DateFilter("<", datetime(2024, 5, 1))),
        ("after:2024-05-17T14:30", query.DateFilter(">=", datetime(2024, 5, 17, 14, 30))),
        ("IS:Confirmed", query.VerdictFilter("confirmed")),
        ("is:unavailable source:user", query.And((query.UnavailableFilter(), query.SourceFilter("user")))),
        ("-model:m a", query.And((Text(("a",)), query.Not(query.ModelFilter("m"))))),
        ("-score>0.5", query.Not(Score(">", 0.5))),
        ("score>0.5 -a", query.And((Score(">", 0.5), query.Not(Text(("a",)))))),
        ("score>=0 score<=1", query.And((Score(">=", 0.0), Score("<=", 1.0)))),
        ("longer:1.001s", query.LengthFilter(">", 1001)),
        ("(a) " * 41, query.And((Text(("a",)),) * 41)),  # as many side by side as there are
    ],
)
def test_a_query_is_parsed_to_its_tree(text: str, tree: query.Node) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("yoga AND", 6), ("yoga NOT", 6), ("a NOT AND b", 3), ("(a NOT )", 4), ("NOT yoga", 1),
        ("OR yoga", 1), ("yoga OR OR archery", 9), ("(yoga", 1), ("a (b OR (c)", 3), ("a) b", 2),
        ("-yoga", 1), ("yoga OR -bike", 9), ("a () b", 3), ("THEN b", 1), ("a THEN -b", 3), ("a THEN<soon b", 3),
        ("a score>2", 3), ("a score>", 3), ("a after:soon", 3), ("a after:0000", 3), ("a longer:x", 3),
        ("a longer:", 3), ("a is:blue", 3), ("a source:me", 3), ("a colour:red", 3), ("(" * 60 + "a" + ")" * 60, 41),
        ("a THEN " * 16 + "a", 108), (")", 1), ("a THEN<(b)", 3), ("score>0.5 THEN a", 11),
        ("a THEN (score>0.5 OR path:b)", 3), ("a (score>1.01)", 4), ("(a) " + "(" * 41 + "a" + ")" * 41, 45),
    ],
)  # fmt: skip
def test_an_error_names_the_column(text: str, column: int) -> None:
    with pytest.raises(QueryError, match=f"^the query at column {column}: ") as error:
        parse(text)
    assert "\n" not in str(error.value)


def test_a_group_of_a_term_and_a_filter_is_something_to_find() -> None:
    step = query.Or((Text(("b",)), Score(">", 0.5)))
    assert parse("a THEN (b OR score>0.5)") == query.Then((Text(("a",)), step), (60_000,))


def test_the_terms_of_a_query_are_those_that_are_not_negated() -> None:
    tree = parse("a (b OR label:c -d) score>0.5 THEN e")
    assert query.terms_of(tree) == [Text(("a",)), Text(("b",)), query.LabelTerm("c"), Text(("e",))]


def test_a_query_has_a_longest_length() -> None:
    assert len(parse("a " * query._MAX_TOKENS).texts) == query._MAX_TOKENS  # type: ignore[union-attr]
    with pytest.raises(QueryError, match="more than"):
        parse("a " * (query._MAX_TOKENS + 1))


def test_a_date_with_a_zone_is_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-3")  # three hours ahead of UTC
    time.tzset()
    try:
        tree = parse("after:2024-05-17T12:00+01:00")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert tree == query.DateFilter(">=", datetime(2024, 5, 17, 14, 0))


@pytest.mark.parametrize("text", ["", " ", '""', "-", "!?", "a " * 2000])
def test_an_empty_query_raises_a_one_line_error(text: str) -> None:
    with pytest.raises(QueryError) as error:
        parse(text)
    assert "\n" not in str(error.value)
