"""`vtag search`, `show` and `labels`: what is in the library, found and drawn; reads, and loads no model."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vtag.app.console import clock, complain, out_console, put, put_json
from vtag.app.options import Db, Json
from vtag.engine.errors import LibraryError
from vtag.engine.text import display_path, printable

if TYPE_CHECKING:
    from vtag.engine.library.search import Moment


def search(
    query: Annotated[list[str], typer.Argument(metavar="QUERY...", help='Words, "phrase", OR, -not.')],
    min_score: Annotated[float, typer.Option(min=0, max=1, help="The least score to show.")] = 0.0,
    limit: Annotated[int, typer.Option(min=1, help="How many moments to show.")] = 50,
    model: Annotated[str | None, typer.Option(help="Only what this model saw.")] = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """Find moments, best first; nothing found is no error."""
    from vtag.engine.library.search import matching_labels, nearest_labels, parse
    from vtag.engine.library.search import search as find

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
                near = nearest_labels(reader, text)
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
    from vtag.engine.library.search import content_of, moments_of

    with _reader(db) as reader:
        content = content_of(reader, os.path.abspath(os.fsencode(file)))
        if content is None:
            raise LibraryError(f"{display_path(file)} was not scanned: `vtag scan` looks at it")
        moments = moments_of(reader, content.id)
    if json:
        put_json([_as_json(m) for m in sorted(moments, key=lambda m: m.start_ms)])
        return
    if content.error:
        complain(f"{display_path(file)} could not be read: {content.error}")
        return
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


@contextlib.contextmanager
def _reader(db: Path | None) -> Any:
    from vtag.engine.library.database import open_reader
    from vtag.engine.paths import library_path

    reader = open_reader(library_path(db))
    try:
        yield reader
    except sqlite3.Error as error:
        raise LibraryError(f"the library cannot be read: {error}") from error
    finally:
        reader.close()


def _as_json(moment: Moment) -> dict[str, object]:
    return {
        "id": moment.id,
        "path": os.fsdecode(moment.path).encode("utf-8", "replace").decode(),
        "label": moment.label,
        "start_ms": moment.start_ms,
        "end_ms": moment.end_ms,
        "score": round(moment.score, 6),
        "model": moment.model,
        "source": moment.source,
    }


def _put_moments(found: list[Moment]) -> None:
    for m in found:
        gone = "" if m.present else "  (missing)"
        put(
            f"{m.score:.2f}  {clock(m.start_ms)}-{clock(m.end_ms)}  {printable(m.label)}  "
            f"{display_path(m.path)}{gone}"
        )


def _draw_timeline(moments: list[Moment], duration_ms: int) -> None:
    """One row a label: a bar where it was seen, its best score and its first time."""
    if not moments:
        complain("nothing was seen in it above the threshold; `vtag retag --threshold` lowers that")
        return
    rows: dict[str, list[Moment]] = {}
    for m in sorted(moments, key=lambda m: (m.start_ms, m.label)):
        rows.setdefault(m.label, []).append(m)
    names = {label: printable(label)[:28] for label in rows}
    wide = max(map(len, names.values()))
    width = max(10, min(shutil.get_terminal_size().columns, 120) - wide - 24)
    full, empty = ("█", "·") if (sys.stdout.encoding or "").lower().startswith("utf") else ("#", ".")
    console = out_console()
    console.print(f"{'':{wide}}  {clock(0)}{clock(duration_ms):>{width - 7}}")
    for label, seen in rows.items():
        bar = [empty] * width
        for m in seen:
            first = min(width - 1, m.start_ms * width // duration_ms)
            last = max(first + 1, -(-m.end_ms * width // duration_ms))
            bar[first:last] = [full] * (min(last, width) - first)
        best = max(m.score for m in seen)
        console.print(f"{names[label]:{wide}}  {''.join(bar)}  {best:.2f}  {clock(seen[0].start_ms)}")
