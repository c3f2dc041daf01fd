"""The query language: text to tokens to a frozen tree. Pure; docs/search.md says what each part means."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from vtag.engine.errors import QueryError
from vtag.engine.library.search.labels import clean, has_letters
from vtag.engine.text import printable

DEFAULT_GAP_MS = 60_000  # `running THEN jumping`: from the end of the one to the start of the other
_MOST_TOKENS = 400
_MOST_STEPS = 16  # of a THEN: each looks into all the videos that the others left
_DEEPEST = 40  # parentheses in parentheses


@dataclass(frozen=True)
class TextTerm:
    """Words and phrases that all fit one label."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class LabelTerm:
    """`label:`, the label of that name, which may have wildcards."""

    name: str


@dataclass(frozen=True)
class ScoreFilter:
    """`score>0.6`: `operator` is one of > >= < <= =."""

    operator: str
    value: float


@dataclass(frozen=True)
class LengthFilter:
    """`longer:` (`operator` >) and `shorter:` (<): how long a moment lasts."""

    operator: str
    length_ms: int


@dataclass(frozen=True)
class ModelFilter:
    """`model:`, what the model of that name (or path) saw."""

    name: str


@dataclass(frozen=True)
class SourceFilter:
    """`source:`, who says so: user or model."""

    name: str


@dataclass(frozen=True)
class VerdictFilter:
    """`is:confirmed`, `is:rejected`: what a person said of a moment."""

    name: str


@dataclass(frozen=True)
class PathFilter:
    """`path:`, videos whose path fits a glob."""

    pattern: str


@dataclass(frozen=True)
class DateFilter:
    """`after:` (`operator` >=) and `before:` (<): when a video was recorded, in local time."""

    operator: str
    when: datetime


@dataclass(frozen=True)
class UnavailableFilter:
    """`is:unavailable`, videos of which no file is there now."""


@dataclass(frozen=True)
class Not:
    """What must not be."""

    part: Node


@dataclass(frozen=True)
class And:
    """What must all be in one video; filters among the parts narrow the others."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    """Alternatives."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Then:
    """Moments in order: `gaps_ms[i]` is the most between the end of `steps[i]` and the start of `steps[i + 1]`."""

    steps: tuple[Node, ...]
    gaps_ms: tuple[int, ...]


MomentFilter = ScoreFilter | LengthFilter | ModelFilter | SourceFilter | VerdictFilter
VideoFilter = PathFilter | DateFilter | UnavailableFilter
Node = TextTerm | LabelTerm | MomentFilter | VideoFilter | Not | And | Or | Then


def is_filter(node: Node) -> bool:
    """Whether `node` only narrows: no word, label or order of moments is in it."""
    if isinstance(node, Not):
        return is_filter(node.part)
    if isinstance(node, And | Or):
        return all(map(is_filter, node.parts))
    return not isinstance(node, TextTerm | LabelTerm | Then)


def parse(query: str) -> Node:
    """The tree of a query. Raises QueryError, which names the column, where it cannot be understood."""
    text = clean(query)
    tokens = _tokens(text)
    if not tokens:
        raise QueryError("the query names nothing to look for: say a word, as in `vtag search archery`")
    parser = _Parser(tokens, len(text) + 1)
    node = parser.alternatives()
    if left := parser.peek():
        raise _wrong(left, "closes a parenthesis that was not opened")
    return node


def terms_of(node: Node) -> list[TextTerm | LabelTerm]:
    """All that a query asks labels for, what is negated left out."""
    if isinstance(node, TextTerm | LabelTerm):
        return [node]
    parts = node.parts if isinstance(node, And | Or) else node.steps if isinstance(node, Then) else ()
    return [found for part in parts for found in terms_of(part)]


@dataclass(frozen=True)
class _Token:
    kind: str  # text, filter, and, or, then, open, close
    text: str
    column: int  # from 1
    negated: bool = False
    node: Node | None = None  # of a filter
    gap_ms: int = 0  # of a THEN


_TOKEN = re.compile(
    r"""
    (?P<then>THEN(?:\s*<\s*(?P<gap>[^\s()"]*))?(?=[\s()"]|$))
    | (?P<operator>(?:AND|OR)(?=[\s()"]|$))
    | (?P<minus>[-−]*)(?:
        (?P<bracket>[()])
        | "(?P<phrase>[^"]*)"?
        | (?P<score>(?i:score)\s*(?P<compare>>=|<=|=>|=<|>|<|=)\s*(?P<number>[^\s()"]*))
        | (?P<field>[A-Za-z]+):(?:"(?P<quoted>[^"]*)"?|(?P<value>[^\s()"]*))
        | (?P<word>[^\s()"]+)
      )
    | [-−]+
    """,
    re.VERBOSE,
)


def _tokens(text: str) -> list[_Token]:
    """The tokens of a query that mean something: lone punctuation is passed over."""
    found: list[_Token] = []
    for match in _TOKEN.finditer(text):
        if token := _token(match):
            found.append(token)
        if len(found) > _MOST_TOKENS:
            raise QueryError(f"the query has more than {_MOST_TOKENS} words: ask for less at once")
    return found


def _token(match: re.Match[str]) -> _Token | None:
    whole, column, negated = match[0], match.start() + 1, bool(match["minus"])
    token = _Token("text", whole, column, negated)
    if match["then"]:
        gap = DEFAULT_GAP_MS if match["gap"] is None else _duration(match["gap"], token)
        return replace(token, kind="then", gap_ms=gap)
    if match["operator"]:
        return replace(token, kind=whole.lower())
    if match["bracket"]:
        return replace(token, kind="open" if match["bracket"] == "(" else "close")
    if match["score"]:
        return replace(token, kind="filter", node=_score(match["compare"], match["number"], token))
    if match["field"]:
        value = match["quoted"] if match["quoted"] is not None else match["value"]
        return replace(token, kind="filter", node=_field(match["field"].lower(), value.strip(), token))
    words = (match["phrase"] or match["word"] or "").strip()
    return replace(token, text=words) if has_letters(words) else None


class _Parser:
    """Recursive descent: OR binds loosest, then AND, then THEN, then words side by side."""

    def __init__(self, tokens: list[_Token], end: int) -> None:
        self._tokens = tokens
        self._at = 0
        self._end = _Token("end", "", end)
        self._depth = 0

    def peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self, kind: str) -> _Token | None:
        token = self.peek()
        if token is None or token.kind != kind:
            return None
        self._at += 1
        return token

    def alternatives(self) -> Node:
        parts = [self._alternative()]
        while self._take("or"):
            parts.append(self._alternative())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _alternative(self) -> Node:
        """Units joined by AND and THEN; the filters beside any of them narrow them all."""
        first = self.peek()
        searches: list[Node] = []
        rest: list[Node] = []  # filters, and what must not be
        while True:
            found, beside = self._sequence()
            searches += found
            rest += beside
            if not self._take("and"):
                break
        if not searches and not any(map(is_filter, rest)):
            raise _wrong(first or self._end, "needs a word to find, too, as in `riding -horse`")
        parts = (*searches, *rest)
        return parts[0] if len(parts) == 1 else And(parts)

    def _sequence(self) -> tuple[list[Node], list[Node]]:
        """Units joined by THEN: what they look for, as one node where there are several, and what stands beside."""
        searches, rest = self._unit()
        steps, gaps = [searches], []
        while then := self._take("then"):
            searches, beside = self._unit()
            steps.append(searches)
            gaps.append(then.gap_ms)
            rest += beside
            if not steps[-2] or not searches:
                raise _wrong(then, "stands between two things to find, as in `running THEN jumping`")
            if len(steps) > _MOST_STEPS:
                raise _wrong(
                    then, f"is one too many: at most {_MOST_STEPS} things can be looked for in order"
                )
        if len(steps) == 1:
            return searches, rest
        nodes = tuple(step[0] if len(step) == 1 else And(tuple(step)) for step in steps)
        return [Then(nodes, tuple(gaps))], rest

    def _unit(self) -> tuple[list[Node], list[Node]]:
        """Words side by side, which are one term, and parentheses, filters and -not beside them."""
        texts: list[str] = []
        found: list[Node] = []
        rest: list[Node] = []
        start = self._at
        while (token := self.peek()) and token.kind in ("text", "filter", "open"):
            self._at += 1
            if token.kind == "text" and not token.negated:
                texts.append(token.text)
                continue
            node = self._group(token) if token.kind == "open" else token.node or TextTerm((token.text,))
            if token.negated:
                node = node.part if isinstance(node, Not) else Not(node)
            (rest if token.negated or is_filter(node) else found).append(node)
        if self._at == start:
            self._missing()
        return [TextTerm(tuple(texts)), *found] if texts else found, rest

    def _group(self, opened: _Token) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _wrong(opened, "is nested too deeply")
        node = self.alternatives()
        if not self._take("close"):
            raise _wrong(opened, "is never closed: add )")
        self._depth -= 1
        return node

    def _missing(self) -> None:
        """Raise QueryError: nothing stands where something has to."""
        here = self.peek()
        before = self._tokens[self._at - 1] if self._at else None
        if before is None or (here is not None and here.kind in ("and", "or", "then")):
            raise _wrong(here or self._end, "has nothing before it")
        raise _wrong(before, "has nothing behind it")


def _wrong(token: _Token, what: str) -> QueryError:
    return QueryError(f"the query at column {token.column}: {printable(token.text[:60])!r} {what}")


def _score(compare: str, number: str, token: _Token) -> ScoreFilter:
    if not re.fullmatch(r"[0-9]*\.?[0-9]+", number) or not 0 <= float(number) <= 1:
        raise _wrong(token, "is no bound for scores, which lie between 0 and 1: `score>0.6`")
    return ScoreFilter({"=>": ">=", "=<": "<="}.get(compare, compare), float(number))


_DURATION = re.compile(
    r"(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)h)?(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)m)?(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)s?)?",
    re.IGNORECASE,
)


def _duration(value: str, token: _Token) -> int:
    """Milliseconds of `90s`, `5m`, `1h30m`; a bare number is seconds."""
    match = _DURATION.fullmatch(value)
    if not value or not match:
        raise _wrong(token, "has no length of time, as in 90s, 5m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return round(1000 * (3600 * hours + 60 * minutes + seconds))


def _date(value: str, token: _Token) -> datetime:
    """The beginning of a year, month, day or instant, as local time."""
    padded = value
    if re.fullmatch(r"[0-9]{4}", value):
        padded = f"{value}-01-01"
    elif re.fullmatch(r"[0-9]{4}-[0-9]{2}", value):
        padded = f"{value}-01"
    try:
        when = datetime.fromisoformat(padded)
        # compared with local times; of years that no clock can be asked about, as it stands
        return when.astimezone().replace(tzinfo=None) if when.tzinfo else when
    except (ValueError, OverflowError, OSError):
        raise _wrong(token, "is no date, as in 2024, 2024-05 or 2024-05-17") from None


def _choice(*names: str) -> Callable[[str, _Token], str]:
    def chosen(value: str, token: _Token) -> str:
        if value.lower() not in names:
            raise _wrong(token, f"is not known: it is one of {', '.join(names)}")
        return value.lower()

    return chosen


_SOURCE = _choice("user", "model")
_STATE = _choice("confirmed", "rejected", "unavailable")


def _state(value: str, token: _Token) -> Node:
    name = _STATE(value, token)
    return UnavailableFilter() if name == "unavailable" else VerdictFilter(name)


_FIELDS: dict[str, Callable[[str, _Token], Node]] = {
    "label": lambda value, token: LabelTerm(value),
    "path": lambda value, token: PathFilter(value),
    "after": lambda value, token: DateFilter(">=", _date(value, token)),
    "before": lambda value, token: DateFilter("<", _date(value, token)),
    "longer": lambda value, token: LengthFilter(">", _duration(value, token)),
    "shorter": lambda value, token: LengthFilter("<", _duration(value, token)),
    "model": lambda value, token: ModelFilter(value),
    "source": lambda value, token: SourceFilter(_SOURCE(value, token)),
    "is": _state,
}


def _field(name: str, value: str, token: _Token) -> Node:
    if name not in _FIELDS:
        known = ", ".join(f"{known}:" for known in _FIELDS)
        raise _wrong(token, f"has an unknown field (known: {known} score>); put it in quotes to look for it")
    if not value:
        raise _wrong(token, "has nothing behind the colon")
    return _FIELDS[name](value, token)
