"""`vtag search`, `show` and `labels`: what is in the library, found and drawn; reads, and loads no model."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import sqlite3
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vtag.app.console import clock, complain, put, put_json
from vtag.app.options import Db, Json
from vtag.engine.errors import LibraryError
from vtag.engine.text import display_path, printable

if TYPE_CHECKING:
    from vtag.engine.library.search import Moment, SeenContent


# `-word` is a part of the query and no option; Typer is told so where the command is registered
QUERY_SETTINGS = {"ignore_unknown_options": True, "help_option_names": ["--help"]}


def search(
    context: typer.Context,
    query: Annotated[list[str], typer.Argument(metavar="QUERY...", help='Words, "phrase", OR, -not.')],
    min_score: Annotated[float, typer.Option(min=0, max=1, help="The least score to show.")] = 0.0,
    limit: Annotated[int, typer.Option(min=1, help="How many moments to show.")] = 50,
    model: Annotated[str | None, typer.Option(help="Only what this model saw.")] = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """Find moments, best first; nothing found is no error."""
    from vtag.engine.library.labels import nearest
    from vtag.engine.library.query import matching_labels, parse
    from vtag.engine.library.search import search as find

    if "-h" in query:
        put(context.get_help())
        return
    if typed := [word for word in query if word.startswith("--")]:
        raise typer.BadParameter(f"there is no option {typed[0]}")
    text = " ".join(query)
    with _reader(db) as reader:
        found = find(reader, text, min_score=min_score, limit=limit, model=model)
        if json:
            put_json([_as_json(m) for m in found])
        else:
            _put_moments(found)
        if not found:
            if matching_labels(reader, parse(text)):
                complain(f"no moment of {text!r} was seen with these settings")
            else:
                near = nearest(reader, text)
                hint = (
                    f"; near to it: {', '.join(map(printable, near))}"
                    if near
                    else "; `vtag labels` lists them"
                )
                complain(f"no label fits {text!r}{hint}")


def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A video that was scanned.")],
    json: Json = False,
    db: Db = None,
) -> None:
    """Draw one video's timeline."""
    from vtag.engine.library.search import moments_of

    path = os.path.abspath(os.fsencode(file))
    with _reader(db) as reader:
        content = _content(reader, path)
        moments = moments_of(reader, content.id, path)
    if json:
        put_json([_as_json(m) for m in moments])
    elif content.error:
        complain(f"{display_path(file)} could not be read: {content.error}")
    else:
        _draw_timeline(moments, content.duration_ms or 1)


def labels(
    word: Annotated[str | None, typer.Argument(metavar="WORD", help="Only labels with this word.")] = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """List what can be found, and how often it was."""
    from vtag.engine.library.search import label_counts

    with _reader(db) as reader:
        counted = label_counts(reader, word)
    if json:
        put_json([{"label": name, "moments": count} for name, count in counted])
        return
    for name, count in counted:
        put(f"{count:>8}  {printable(name)}")
    if not counted:
        complain(f"no label has {word!r} in it")


def _content(reader: sqlite3.Connection, path: bytes) -> SeenContent:
    """What the file at `path` holds, as the library knows it; of one that was moved since, by its bytes."""
    from vtag.engine.library.files import content_key
    from vtag.engine.library.search import content_of, content_with_key

    content = content_of(reader, path)
    if content is None and os.path.isfile(path):
        with contextlib.suppress(OSError):
            content = content_with_key(reader, content_key(path))
    if content is None:
        raise LibraryError(f"{display_path(path)} was not scanned: `vtag scan` looks at it")
    return content


@contextlib.contextmanager
def _reader(db: Path | None) -> Iterator[sqlite3.Connection]:
    from vtag.engine.library.database import open_reader
    from vtag.engine.paths import library_path

    reader = open_reader(library_path(db))
    try:
        yield reader
    except sqlite3.Error as error:
        raise LibraryError(f"the library cannot be read: {error}") from error
    finally:
        reader.close()


def path_as_json(path: bytes) -> dict[str, str]:
    """A path in JSON, which is text: bytes that are none are replaced, and then all bytes follow in base64."""
    text = path.decode("utf-8", "replace")
    exact = {} if text.encode() == path else {"path_bytes": base64.b64encode(path).decode()}
    return {"path": text, **exact}


def _as_json(moment: Moment) -> dict[str, object]:
    return {
        "id": moment.id,
        **path_as_json(moment.path),
        "label": moment.label,
        "start_ms": moment.start_ms,
        "end_ms": moment.end_ms,
        "score": round(moment.score, 6),
        "model": moment.model,
        "source": moment.source,
    }


def _put_moments(found: list[Moment]) -> None:
    wide = min(_MOST_CELLS, max((_cells(printable(m.label)) for m in found), default=0))
    for m in found:
        gone = "" if m.present else "  (not there now)"
        label = printable(m.label)
        label += " " * (wide - _cells(label))
        put(f"{m.score:.2f}  {clock(m.start_ms)}-{_end(m.end_ms)}  {label}  {display_path(m.path)}{gone}")


def _end(milliseconds: int) -> str:
    """The clock at the end of the second: a moment of half a second does not end where it began."""
    return clock(-(-milliseconds // 1000) * 1000)


def _draw_timeline(moments: list[Moment], duration_ms: int) -> None:
    """One row a label: a bar where it was seen, its best score and its first time."""
    if not moments:
        complain("nothing was seen in it above the threshold; `vtag retag --threshold` lowers that")
        return
    rows: dict[str, list[Moment]] = {}
    for m in moments:
        rows.setdefault(m.label, []).append(m)
    drawable = (sys.stdout.encoding or "").lower().startswith("utf")
    full, empty, cut = ("█", "·", "…") if drawable else ("#", ".", "~")
    names = {label: _fitted(printable(label), _MOST_CELLS, cut) for label in rows}
    wide = max(map(_cells, names.values()))
    width = max(16, min(shutil.get_terminal_size().columns, 120) - wide - 17)
    put(f"{'':{wide}}  {clock(0)}{_end(duration_ms):>{width - len(clock(0))}}")
    for label, seen in rows.items():
        bar = [empty] * width
        for m in seen:
            first = max(0, min(width - 1, m.start_ms * width // duration_ms))
            last = max(first + 1, min(width, -(-m.end_ms * width // duration_ms)))
            bar[first:last] = [full] * (last - first)
        name = names[label] + " " * (wide - _cells(names[label]))
        put(f"{name}  {''.join(bar)}  {max(m.score for m in seen):.2f}  {clock(seen[0].start_ms)}")


_MOST_CELLS = 28  # of a label, in a column


def _cells(text: str) -> int:
    """How many columns of a terminal `text` takes: Chinese, Japanese and Korean letters and most pictures two."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _fitted(text: str, most: int, cut: str) -> str:
    if _cells(text) <= most:
        return text
    while _cells(text) >= most:
        text = text[:-1]
    return text + cut
