"""Segments as LosslessCut reads them: start, end and label, times in seconds, no heading.

https://github.com/mifi/lossless-cut/blob/master/docs/index.md#csv-files
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.exports.text import cell

if TYPE_CHECKING:
    from vtag.engine.library.exports.items import Item


def write(items: Sequence[Item]) -> str:
    """The moments of one video."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    for moment, _, _ in items:
        rows.writerow((f"{moment.start_ms / 1000:.3f}", f"{moment.end_ms / 1000:.3f}", cell(moment.label)))
    return table.getvalue()
