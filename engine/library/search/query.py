"""The query language: text to tokens to a frozen tree. Pure functions; docs/search.md says what each part means."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from vtag.engine.errors import QueryError
from vtag.engine.library.search.labels import normalize_text
from vtag.engine.text import has_letters, printable

DEFAULT_GAP_MS = 60_000  # of `running THEN jumping`: from the end of the running to the start of the jumping
_MAX_TOKENS = 400
_MAX_STEPS = 16  # of a THEN: each step searches all videos that have the other steps
_MAX_DEPTH = 40  # of nested parentheses


@dataclass(frozen=True)
class TextTerm:
    """Words and phrases, all of which have to match the same label."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class LabelTerm:
    """`label:`, the labels whose whole name matches; `pattern` may have wildcards."""

    pattern: str


@dataclass(frozen=True)
class ScoreFilter:
    """`score>0.6`: `operator` is one of > >= < <= =."""

    operator: str
    score: float


@dataclass(frozen=True)
class LengthFilter:
    """`longer:` (`operator` >) and `shorter:` (<): how long a moment lasts."""

    operator: str
    length_ms: int


@dataclass(frozen=True)
class ModelFilter:
    """`model:`, moments found by the model with this name or path."""

    name: str


@dataclass(frozen=True)
class SourceFilter:
    """`source:`, moments by who added them: user or model."""

    source: str


@dataclass(frozen=True)
class VerdictFilter:
    """`is:confirmed`, `is:rejected`: a person's verdict on a moment."""

    verdict: str


@dataclass(frozen=True)
class PathGlobFilter:
    """`path:`, videos whose path matches a glob."""

    glob: str


@dataclass(frozen=True)
class DateFilter:
    """`after:` (`operator` >=) and `before:` (<): when a video was recorded, in local time."""

    operator: str
    when: datetime


@dataclass(frozen=True)
class UnavailableFilter:
    """`is:unavailable`, videos without a file that exists at the moment."""


@dataclass(frozen=True)
class Not:
    """Negation: videos in which `part` finds nothing, or, if it is a filter, moments that it excludes."""

    part: Node


@dataclass(frozen=True)
class And:
    """Parts that all have to be found in one video; filters among the parts narrow the others."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    """Alternatives."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Then:
    """Moments in order; at most `gaps_ms[i]` lie between the end of `steps[i]` and the start of `steps[i + 1]`."""

    steps: tuple[Node, ...]
    gaps_ms: tuple[int, ...]


Term = TextTerm | LabelTerm
MomentFilter = ScoreFilter | LengthFilter | ModelFilter | SourceFilter | VerdictFilter
VideoFilter = PathGlobFilter | DateFilter | UnavailableFilter
Node = Term | MomentFilter | VideoFilter | Not | And | Or | Then


def is_filter(node: Node) -> bool:
    """Whether `node` only narrows a search: it contains no term and no THEN."""
    if isinstance(node, Not):
        return is_filter(node.part)
    if isinstance(node, And | Or):
        return all(map(is_filter, node.parts))
    return not isinstance(node, TextTerm | LabelTerm | Then)


def parse(query: str) -> Node:
    """The tree of a query. Raises QueryError, which names the column of the mistake."""
    tokens = _tokenize(normalize_text(query))
    if not tokens:
        raise QueryError("the query names nothing to look for: say a word, as in `vtag search archery`")
    parser = _Parser(tokens)
    node = parser.parse_alternatives()
    if extra := parser.peek():
        raise _error_at(extra, "closes a parenthesis that was not opened")
    return node


def terms_of(node: Node) -> list[Term]:
    """All terms of a query, without the negated ones."""
    if isinstance(node, TextTerm | LabelTerm):
        return [node]
    parts = node.parts if isinstance(node, And | Or) else node.steps if isinstance(node, Then) else ()
    return [term for part in parts for term in terms_of(part)]


@dataclass(frozen=True)
class _Token:
    kind: str  # text, filter, and, or, then, open, close
    text: str
    column: int  # from 1
    is_negated: bool = False
    node: Node | None = None  # of a filter
    gap_ms: int = 0  # of a THEN


_TOKEN = re.compile(
    r"""
    (?P<then>THEN(?:\s*<\s*(?P<gap>[^\s()"]*))?(?=[\s()"]|$))
    | (?P<operator>(?:AND|OR)(?=[\s()"]|$))
    | (?P<minus>(?:NOT(?:\s+|(?=[("]))(?!\)|(?:AND|OR|THEN)\b))?[-−]*)(?:
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


def _tokenize(text: str) -> list[_Token]:
    """The tokens of a query; lone punctuation is skipped."""
    tokens: list[_Token] = []
    for match in _TOKEN.finditer(text):
        if token := _read_token(match):
            tokens.append(token)
        if len(tokens) > _MAX_TOKENS:
            raise QueryError(f"the query has more than {_MAX_TOKENS} words: ask for less at once")
    return tokens


def _read_token(match: re.Match[str]) -> _Token | None:
    text, column, is_negated = match[0], match.start() + 1, bool(match["minus"])
    token = _Token("text", text, column, is_negated)
    if match["then"]:
        gap_ms = DEFAULT_GAP_MS if match["gap"] is None else _parse_duration(match["gap"], token)
        return replace(token, kind="then", gap_ms=gap_ms)
    if match["operator"]:
        return replace(token, kind=text.lower())
    if match["bracket"]:
        return replace(token, kind="open" if match["bracket"] == "(" else "close")
    if match["score"]:
        return replace(token, kind="filter", node=_parse_score(match["compare"], match["number"], token))
    if match["field"]:
        value = match["quoted"] if match["quoted"] is not None else match["value"]
        return replace(token, kind="filter", node=_parse_field(match["field"].lower(), value.strip(), token))
    if match["word"] == "NOT":
        raise _error_at(token, "has nothing behind it, as in `riding NOT horse`")
    phrase = (match["phrase"] or match["word"] or "").strip()
    return replace(token, text=phrase) if has_letters(phrase) else None


class _Parser:
    """Recursive descent: OR binds loosest, then AND, then THEN, then adjacent words."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._position = 0
        self._depth = 0

    def peek(self) -> _Token | None:
        return self._tokens[self._position] if self._position < len(self._tokens) else None

    def _accept(self, kind: str) -> _Token | None:
        token = self.peek()
        if token is None or token.kind != kind:
            return None
        self._position += 1
        return token

    def parse_alternatives(self) -> Node:
        parts = [self._parse_alternative()]
        while self._accept("or"):
            parts.append(self._parse_alternative())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _parse_alternative(self) -> Node:
        """Units joined by AND and THEN; a filter in any of them narrows them all."""
        start = self._position
        searches: list[Node] = []
        limits: list[Node] = []  # filters and negations
        while True:
            more_searches, more_limits = self._parse_sequence()
            searches += more_searches
            limits += more_limits
            if not self._accept("and"):
                break
        if not searches and not any(map(is_filter, limits)):
            raise _error_at(self._tokens[start], "needs a word to find, too, as in `riding -horse`")
        parts = (*searches, *limits)
        return parts[0] if len(parts) == 1 else And(parts)

    def _parse_sequence(self) -> tuple[list[Node], list[Node]]:
        """Units joined by THEN: their searches (several units become one Then), and their filters and negations."""
        searches, limits = self._parse_unit()
        steps, gaps_ms = [searches], []
        while then := self._accept("then"):
            searches, more_limits = self._parse_unit()
            steps.append(searches)
            gaps_ms.append(then.gap_ms)
            limits += more_limits
            if not steps[-2] or not searches:
                raise _error_at(then, "stands between two things to find, as in `running THEN jumping`")
            if len(steps) > _MAX_STEPS:
                raise _error_at(
                    then, f"is one too many: at most {_MAX_STEPS} things can be looked for in order"
                )
        if len(steps) == 1:
            return searches, limits
        nodes = tuple(step[0] if len(step) == 1 else And(tuple(step)) for step in steps)
        return [Then(nodes, tuple(gaps_ms))], limits

    def _parse_unit(self) -> tuple[list[Node], list[Node]]:
        """Adjacent words, which form one term, and groups; and the filters and negations among them."""
        texts: list[str] = []
        groups: list[Node] = []
        limits: list[Node] = []
        start = self._position
        while (token := self.peek()) and token.kind in ("text", "filter", "open"):
            self._position += 1
            if token.kind == "text" and not token.is_negated:
                texts.append(token.text)
                continue
            node = self._parse_group(token) if token.kind == "open" else token.node or TextTerm((token.text,))
            if token.is_negated:
                node = node.part if isinstance(node, Not) else Not(node)
            (limits if token.is_negated or is_filter(node) else groups).append(node)
        if self._position == start:
            self._raise_missing()
        return [TextTerm(tuple(texts)), *groups] if texts else groups, limits

    def _parse_group(self, bracket: _Token) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _error_at(bracket, "is nested too deeply")
        node = self.parse_alternatives()
        if not self._accept("close"):
            raise _error_at(bracket, "is never closed: add )")
        self._depth -= 1
        return node

    def _raise_missing(self) -> None:
        """Raise QueryError: something to find is missing at this position."""
        token = self.peek()
        previous = self._tokens[self._position - 1] if self._position else None
        if token is not None and (previous is None or token.kind in ("and", "or", "then")):
            raise _error_at(token, "has nothing before it")
        assert previous is not None  # a query has a token
        raise _error_at(previous, "has nothing behind it")


def _error_at(token: _Token, problem: str) -> QueryError:
    return QueryError(f"the query at column {token.column}: {printable(token.text[:60])!r} {problem}")


def _parse_score(operator: str, number: str, token: _Token) -> ScoreFilter:
    if not re.fullmatch(r"[0-9]*\.?[0-9]+", number) or not 0 <= float(number) <= 1:
        raise _error_at(token, "needs a score between 0 and 1, as in `score>0.6`")
    return ScoreFilter({"=>": ">=", "=<": "<="}.get(operator, operator), float(number))


_DURATION = re.compile(
    r"(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)h)?(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)m)?(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)s?)?",
    re.IGNORECASE,
)


def _parse_duration(value: str, token: _Token) -> int:
    """Milliseconds of `90s`, `5m`, `1h30m`; a bare number is seconds."""
    match = _DURATION.fullmatch(value)
    if not value or not match:
        raise _error_at(token, "needs a length of time, as in 90s, 5m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return round(1000 * (3600 * hours + 60 * minutes + seconds))


def _parse_date(value: str, token: _Token) -> datetime:
    """The beginning of a year, month, day or instant, as local time."""
    padded = value
    if re.fullmatch(r"[0-9]{4}", value):
        padded = f"{value}-01-01"
    elif re.fullmatch(r"[0-9]{4}-[0-9]{2}", value):
        padded = f"{value}-01"
    try:
        when = datetime.fromisoformat(padded)
        # a time with a zone becomes local, since it is compared with local times
        return when.astimezone().replace(tzinfo=None) if when.tzinfo else when
    except (ValueError, OverflowError, OSError):
        raise _error_at(token, "needs a date, as in 2024, 2024-05 or 2024-05-17") from None


def _choice(*names: str) -> Callable[[str, _Token], str]:
    def choose(value: str, token: _Token) -> str:
        if value.lower() not in names:
            raise _error_at(token, f"is not known: it is one of {', '.join(names)}")
        return value.lower()

    return choose


_parse_source = _choice("user", "model")
_parse_state_name = _choice("confirmed", "rejected", "unavailable")


def _parse_state(value: str, token: _Token) -> Node:
    name = _parse_state_name(value, token)
    return UnavailableFilter() if name == "unavailable" else VerdictFilter(name)


_FIELDS: dict[str, Callable[[str, _Token], Node]] = {
    "label": lambda value, token: LabelTerm(value),
    "path": lambda value, token: PathGlobFilter(value),
    "after": lambda value, token: DateFilter(">=", _parse_date(value, token)),
    "before": lambda value, token: DateFilter("<", _parse_date(value, token)),
    "longer": lambda value, token: LengthFilter(">", _parse_duration(value, token)),
    "shorter": lambda value, token: LengthFilter("<", _parse_duration(value, token)),
    "model": lambda value, token: ModelFilter(value),
    "source": lambda value, token: SourceFilter(_parse_source(value, token)),
    "is": _parse_state,
}


def _parse_field(name: str, value: str, token: _Token) -> Node:
    if name not in _FIELDS:
        fields = ", ".join(f"{field}:" for field in _FIELDS)
        raise _error_at(
            token, f"has an unknown field (known: {fields}, score>); put it in quotes to look for it"
        )
    if not value:
        raise _error_at(token, "has nothing behind the colon")
    return _FIELDS[name](value, token)
