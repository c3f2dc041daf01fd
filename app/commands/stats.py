"""`vtag stats`: the library's labels over time, drawn in the terminal."""

from __future__ import annotations

import math
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from vtag.app.console import complain, put, put_json
from vtag.app.options import Db, Json, within_integers
from vtag.app.query_options import (
    Maybe,
    SensitivityOption,
    explain_empty_result,
    min_margin,
    open_library_reader,
    query_text,
    report_everyday_terms,
)
from vtag.app.results import MAX_LABEL_CELLS, cell_width, truncate
from vtag.engine.text import pluralize, printable

if TYPE_CHECKING:
    from vtag.engine.library.analysis.history import History


def stats(
    query: Annotated[
        list[str] | None, typer.Argument(metavar="QUERY", help="Query; default: all moments.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, callback=within_integers, help="Maximum number of labels.")] = 15,
    maybe: Maybe = False,
    sensitivity: SensitivityOption = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """Draw how often labels occur over time."""
    from vtag.engine.library.analysis.history import history

    with open_library_reader(db) as reader:
        text = query_text(query) if query else None
        if text:
            report_everyday_terms(reader, text)
        margin = -math.inf if maybe else min_margin(sensitivity)
        result = history(reader, text, label_limit=top, min_margin=margin)
        reason = "" if result.labels else explain_empty_result(reader, text or "", is_sure_only=not maybe)
    if json:
        labels = [{"label": row.label, "moments": row.total, "counts": row.counts} for row in result.labels]
        put_json({"periods": result.periods, "labels": labels, "undated": result.undated})
    elif result.labels:
        _draw(result)
    else:
        complain(
            f"{pluralize(result.undated, 'moment')} in videos without a date" if result.undated else reason
        )


def _draw(result: History) -> None:
    """Draw one row a label: a bar for each period, scaled to the label's maximum, and the total."""
    drawable = (sys.stdout.encoding or "").lower().startswith("utf")
    levels, ellipsis = (" ▁▂▃▄▅▆▇█", "…") if drawable else (" .:-=+*#@", "~")
    columns, min_width = min(shutil.get_terminal_size().columns, 160), len(result.periods[0])
    label_width = max(min_width, min(MAX_LABEL_CELLS, columns - 12 - min_width))
    names = [truncate(printable(row.label), label_width, ellipsis) for row in result.labels]
    name_width = max(map(cell_width, names))
    max_width = max(min_width, columns - name_width - 12)
    periods_per_column = -(-len(result.periods) // max_width)  # more than one if the terminal is narrow
    columns_per_period = max(1, min(4, max_width // len(result.periods)))
    for row, name in zip(result.labels, names, strict=True):
        totals = [
            sum(row.counts[i : i + periods_per_column]) for i in range(0, len(row.counts), periods_per_column)
        ]
        highest = max(totals) or 1
        bars = "".join(levels[-(-8 * count // highest)] * columns_per_period for count in totals)
        put(f"{name}{' ' * (name_width - cell_width(name))}  {bars}  {row.total:>8}")
    width = max(len(bars), len(result.periods[0]))
    first, last = result.periods[0], result.periods[-1]
    room = width - len(first) - len(last)
    put(f"{'':{name_width}}  {first}{' ' * room + last if room > 0 and first != last else ''}")
    if result.undated:
        are = "is" if result.undated == 1 else "are"
        complain(f"{pluralize(result.undated, 'moment')} {are} in videos without a date")
