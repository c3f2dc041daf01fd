"""What the commands that take a query share: its words, its options, and the open library."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from vtag.engine.errors import LibraryError

_MINUS = "\u2212"  # what a word's hyphen is while Typer looks for options; the language takes it for one, too

Query = Annotated[
    list[str],
    typer.Argument(metavar="QUERY", help='Search terms: words, "phrase", AND, OR, THEN, -not, field:value.'),
]
MinScore = Annotated[float, typer.Option(min=0, max=1, help="Minimum score.")]
OfModel = Annotated[str | None, typer.Option("--model", help="Model filter: only moments from this model.")]
Sort = Annotated[
    Literal["score", "date", "length"], typer.Option(help="Sort order: best, newest or longest first.")
]


class QueryCommand(TyperCommand):
    """A command whose query may have words that begin with a hyphen: only its own options are options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Typer's own, after the hyphens of words were put out of its sight."""
        takes_value = {
            name
            for p in self.params
            if p.param_type_name == "option" and not getattr(p, "is_flag", False)
            for name in p.opts
        }
        known = {name for p in self.get_params(ctx) for name in p.opts}
        end = args.index("--") if "--" in args else len(args)
        words = []
        for at, word in enumerate(args):
            is_word = word.startswith("-") and not word.startswith("--") and word not in known
            value = at > 0 and args[at - 1] in takes_value
            words.append(_MINUS + word[1:] if at < end and is_word and not value else word)
        return super().parse_args(ctx, words)


def query_text(words: list[str]) -> str:
    """The query as it was typed."""
    return " ".join(words).replace(_MINUS, "-")


@contextlib.contextmanager
def reading(db: Path | None) -> Iterator[sqlite3.Connection]:
    """The library, open for reading. Raises LibraryError where it cannot be read."""
    from vtag.engine.library.database import open_reader
    from vtag.engine.paths import library_path

    reader = open_reader(library_path(db))
    try:
        yield reader
    except sqlite3.Error as error:
        raise LibraryError(f"the library cannot be read: {error}") from error
    finally:
        reader.close()
