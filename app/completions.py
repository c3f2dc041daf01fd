"""What a shell completes besides options: words of queries, labels, models. Quick, and silent if it fails."""

from __future__ import annotations

import functools
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import typer

_FILTERS = (
    "AND", "OR", "THEN", "score>", "after:", "before:", "longer:", "shorter:", "path:", "label:", "model:",
    "source:user", "source:model", "is:confirmed", "is:rejected", "is:unavailable",
)  # fmt: skip
_Complete = Callable[[Any, str], Iterable[str]]


def _silent(complete: _Complete) -> Callable[[typer.Context, str], list[str]]:
    """A completion without results instead of an error, which would end up in the person's command line."""

    @functools.wraps(complete)
    def call(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            return list(dict.fromkeys(complete(ctx, incomplete)))
        except Exception:
            return []

    return call


@_silent
def complete_query(ctx: Any, incomplete: str) -> Iterable[str]:
    """Words of the labels that have moments, and the words of the query language."""
    sign = "-" if incomplete.startswith("-") else ""
    start = incomplete.removeprefix(sign).casefold()
    with _reader(ctx) as reader:
        from vtag.engine.library.page_queries import labels_with_moments

        words = {word for label in labels_with_moments(reader) for word in label.split()}
    matches = sorted(word for word in words if start and word.casefold().startswith(start))
    return [*(sign + word for word in matches), *(f for f in _FILTERS if start and f.startswith(incomplete))]


@_silent
def complete_label(ctx: Any, incomplete: str) -> Iterable[str]:
    """Whole labels of the library."""
    from vtag.engine.library.page_queries import labels

    return _from_library(ctx, labels, incomplete)


@_silent
def complete_model(ctx: Any, incomplete: str) -> Iterable[str]:
    """Names of installed and of published models; without any, the shell completes paths."""
    from vtag.engine.models.catalog import read_catalog
    from vtag.engine.models.registry import STARTER, installed_models

    names = [STARTER, *(model.name for model in installed_models()), *read_catalog()]
    return map(_for_shell, _starting_with(names, incomplete))


@_silent
def complete_library_model(ctx: Any, incomplete: str) -> Iterable[str]:
    """Names of the models that the library was scanned with."""
    from vtag.engine.library.page_queries import models

    return _from_library(ctx, models, incomplete)


def _from_library(
    ctx: Any, read: Callable[[sqlite3.Connection], list[str]], incomplete: str
) -> Iterable[str]:
    """Names that `read` takes from the library, as the shell gets them."""
    with _reader(ctx) as reader:
        names = read(reader)
    return map(_for_shell, _starting_with(names, incomplete))


@contextmanager
def _reader(ctx: Any) -> Iterator[sqlite3.Connection]:
    """The library of --db, or the user's; never migrated, since a person only pressed Tab."""
    from vtag.engine.library.database import open_unmigrated
    from vtag.engine.paths import library_path

    with closing(open_unmigrated(library_path(ctx.params.get("db")))) as reader:
        yield reader


def _starting_with(names: Iterable[str], start: str) -> list[str]:
    """The names that begin with `start`, in any case."""
    return [name for name in names if name.casefold().startswith(start.casefold())]


def _for_shell(text: str) -> str:
    """A text as one word. Bash takes completions as they are; the others quote them."""
    if not os.environ.get("_VTAG_COMPLETE", "").endswith("_bash"):
        return text
    quote = re.search(r"""(['"])[^'"]*$""", os.environ.get("COMP_WORDS", ""))
    return text if quote else re.sub(r"([^\w%+,./@:=-])", r"\\\1", text)
