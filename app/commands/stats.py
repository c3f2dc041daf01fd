"""`vtag stats`: the library's labels over time, drawn in the terminal."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from vtag.app.asking import query_text, reading
from vtag.app.console import complain, put, put_json
from vtag.app.options import Db, Json, within_integers
from vtag.app.results import MOST_CELLS, cells, fitted
from vtag.engine.text import printable

if TYPE_CHECKING:
    from vtag.engine.library.analysis.history import History


def stats(
    query: Annotated[
        list[str] | None, typer.Argument(metavar="[QUERY]", help="Query; default: all moments.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, callback=within_integers, help="Maximum number of labels.")] = 15,
    json: Json = False,
    db: Db = None,
) -> None:
    """Draw how often labels occur over time."""
    from vtag.engine.library.analysis.history import history

    with reading(db) as reader:
        found = history(reader, query_text(query) if query else None, label_limit=top)
    if json:
        labels = [{"label": row.label, "moments": row.total, "counts": row.counts} for row in found.labels]
        put_json({"periods": found.periods, "labels": labels, "undated": found.undated})
    elif found.labels:
        _draw(found)
    else:
        complain("nothing was found that has a date")


def _draw(found: History) -> None:
    """One row a label: a column a period, as high as the label's own most; then how often in all."""
    drawable = (sys.stdout.encoding or "").lower().startswith("utf")
    levels, cut = (" ▁▂▃▄▅▆▇█", "…") if drawable else (" .:-=+*#@", "~")
    columns, least = min(shutil.get_terminal_size().columns, 160), len(found.periods[0])
    fits = max(least, min(MOST_CELLS, columns - 12 - least))
    names = [fitted(printable(row.label), fits, cut) for row in found.labels]
    wide = max(map(cells, names))
    most = max(least, columns - wide - 12)
    each = -(-len(found.periods) // most)  # periods a column, where there are too many
    repeat = max(1, min(4, most // len(found.periods)))  # columns a period, where there are few
    for row, name in zip(found.labels, names, strict=True):
        sums = [sum(row.counts[i : i + each]) for i in range(0, len(row.counts), each)]
        highest = max(sums) or 1
        bars = "".join(levels[-(-8 * count // highest)] * repeat for count in sums)
        put(f"{name}{' ' * (wide - cells(name))}  {bars}  {row.total:>8}")
    width = max(len(bars), len(found.periods[0]))
    first, last = found.periods[0], found.periods[-1]
    room = width - len(first) - len(last)
    put(f"{'':{wide}}  {first}{' ' * room + last if room > 0 and first != last else ''}")
    if found.undated:
        complain(f"{found.undated} moments are in videos without a date")
