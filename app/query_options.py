"""Arguments and options of the commands that take a query."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from vtag.app.completions import complete_library_model, complete_query
from vtag.app.console import say
from vtag.engine.errors import LibraryError
from vtag.engine.text import printable

if TYPE_CHECKING:
    from vtag.engine.library.certainty import Sensitivity
    from vtag.engine.library.search.moments import LessSure

_MINUS = "\u2212"  # stands for a hyphen while Typer parses options; the query language accepts it too

_LIKE_OPERATOR = re.compile(r"\b(?:and|or|then|not)\b")

Query = Annotated[
    list[str],
    typer.Argument(
        metavar="QUERY",
        help='Search terms: words, "phrase", AND, OR, NOT, THEN, field:value.',
        autocompletion=complete_query,
    ),
]
MinScore = Annotated[float, typer.Option(min=0, max=1, help="Minimum score.")]
ModelFilter = Annotated[
    str | None,
    typer.Option(
        "--model", help="Model filter: only moments from this model.", autocompletion=complete_library_model
    ),
]
OptionalQuery = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="QUERY",
        help='Search terms: words, "phrase", AND, OR, NOT, THEN, field:value; default: the best of each label.',
        autocompletion=complete_query,
    ),
]
SureOnly = Annotated[bool, typer.Option("--sure", help="Sure moments only.")]
Maybe = Annotated[bool, typer.Option("--maybe", help="Include all moments that are less sure.")]
SensitivityOption = Annotated[
    Literal["low", "normal", "high"] | None,
    typer.Option(
        "--sensitivity",
        help="Which moments are sure. low: fewer; high: more; default: the library's (`vtag labels set`).",
    ),
]
Sort = Annotated[
    Literal["score", "date", "length"], typer.Option(help="Sort order: best, newest or longest first.")
]


class QueryCommand(TyperCommand):
    """A command whose query may contain words with a leading hyphen, such as -dog."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Typer, with a stand-in for the hyphens of query words."""
        value_options = {
            name
            for p in self.params
            if p.param_type_name == "option" and not getattr(p, "is_flag", False)
            for name in p.opts
        }
        option_names = {name for p in self.get_params(ctx) for name in p.opts}
        end = args.index("--") if "--" in args else len(args)
        parts = []
        for index, part in enumerate(args):
            is_word = part.startswith("-") and not part.startswith("--") and part not in option_names
            value = index > 0 and args[index - 1] in value_options
            parts.append(_MINUS + part[1:] if index < end and is_word and not value else part)
        return super().parse_args(ctx, parts)


def query_text(parts: list[str]) -> str:
    """The query as typed."""
    return " ".join(parts).replace(_MINUS, "-")


@contextlib.contextmanager
def open_library_reader(db: Path | None) -> Iterator[sqlite3.Connection]:
    """The library, open for reading. Raises LibraryError if it cannot be read."""
    from vtag.engine.library.database import open_reader
    from vtag.engine.paths import library_path

    reader = open_reader(library_path(db))
    try:
        yield reader
    except sqlite3.Error as error:
        raise LibraryError(f"the library cannot be read: {error}") from error
    finally:
        reader.close()


def less_sure_moments(*, sure: bool, maybe: bool, default: LessSure) -> LessSure:
    """Which less sure moments --sure and --maybe ask for. Raises BadParameter if both are given."""
    if sure and maybe:
        raise typer.BadParameter("say one of --sure and --maybe")
    return "none" if sure else "all" if maybe else default


def min_margin(sensitivity: Sensitivity | None) -> float | None:
    """The margin from which a moment is sure by --sensitivity; None is the library's."""
    from vtag.engine.library.certainty import min_margin_of

    return None if sensitivity is None else min_margin_of(sensitivity)


def explain_empty_result(reader: sqlite3.Connection, text: str, *, is_sure_only: bool) -> str:
    """A message about a query that found nothing: which of its terms no label fits, or what would find more."""
    from vtag.assets import kinetics400_labels
    from vtag.engine.library.page_queries import latest_moment_id
    from vtag.engine.library.search.labels import nearest_labels
    from vtag.engine.library.search.moments import match_terms
    from vtag.engine.library.search.phrases import find_meanings

    if not latest_moment_id(reader):
        return "nothing was found yet: `vtag scan FOLDER` looks at videos"
    for term, has_match in match_terms(reader, text):
        if not has_match:
            if meanings := find_meanings(term, kinetics400_labels()):
                labels = ", ".join(meaning.label for meaning in meanings[:3])
                return f"{term!r} means {labels}, which no model of this library knows (`vtag models list`)"
            suggestions = ", ".join(map(printable, nearest_labels(reader, term)))
            hint = f"near to it: {suggestions}" if suggestions else "`vtag labels` lists them"
            return f"no label fits {term!r}; {hint}"
    subject = f" for {text!r}" if text.strip() else ""
    if not is_sure_only:
        return f"nothing was found{subject}"
    return f"nothing sure was found{subject}; --maybe includes what is less sure"


def report_everyday_terms(reader: sqlite3.Connection, text: str) -> None:
    """Print a line for each term of a query that is an everyday phrase: the labels, as a query to edit."""
    from vtag.engine.library.search.moments import everyday_terms

    for term, labels in everyday_terms(reader, text):
        alternatives = " OR ".join(f'"{printable(label)}"' for label in labels)
        say(f"{printable(term)}: searched as {alternatives}")
        if _is_like_operators(reader, term):
            say("operators are AND, OR, NOT and THEN, in capitals")


def _is_like_operators(reader: sqlite3.Connection, term: str) -> bool:
    """Whether labels stand around a word that is an operator in capitals: not so in `bow and arrow`."""
    from vtag.engine.library.search.labels import matching_label_ids

    parts = _LIKE_OPERATOR.split(term)
    return len(parts) > 1 and all(matching_label_ids(reader, part.split()) for part in parts if part.strip())
