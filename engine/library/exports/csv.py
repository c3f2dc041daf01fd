"""Segments as LosslessCut reads them: start, end and label; times in seconds, no heading.

https://github.com/mifi/lossless-cut/blob/master/docs/index.md#csv-files
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.exports.text import spreadsheet_cell

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment


def write(items: Sequence[ExportedMoment]) -> str:
    """The moments of one video."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    for moment in (item.moment for item in items):
        start, end = (f"{time_ms / 1000:.3f}" for time_ms in (moment.start_ms, moment.end_ms))
        rows.writerow((start, end, spreadsheet_cell(moment.label)))
    return table.getvalue()
