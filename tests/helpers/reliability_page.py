"""Writes docs/reliability.md: what was tried, how often, what happened. Rows come from the tests that ran."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_INTRODUCTION = """# Reliability

What was done to vtag to break it, how often, and what happened. The tests in `tests/reliability` write this page:

```sh
pytest -m reliability tests/reliability                      # the short form, a step of CI
pytest -m reliability tests/reliability --long --timeout 0   # the long form, hours
```

With `--reliability-page docs/reliability.md` a run writes its rows into this page; the rows of other tests stay.
After each kill, both databases pass SQLite's `integrity_check`, and nothing that was committed is lost.
"""
_CLOSING = """## Mutants of the code

Once, in November 2026, 1,488 mutants of pure modules (query, segments, ranges, merging and checks of annotations,
timestamps; the clock, timecodes, sampling and views): another comparison, operator or number, a condition turned
round, a call or a result left out. Each met only the one to three fast test files of its module, which killed 1,040.
164 cases of tests were added, and 1,342 are killed now. The 146 others were read: about 90 change nothing that can be
seen (a guard that is never needed, a limit that no value meets), four are in code that had run before it was changed,
and the rest lie at the edge of a tolerance or of a rounded figure in a message.
"""
_PARTS = (
    "Two at once",
    "Killed",
    "Surroundings",
    "Videos",
    "Old libraries",
    "Memory",
    "Untrusted input",
    "Names",
)
_ROW = re.compile(r"^\| (.*?) \| ([\d,]+) \| (.*) \|$")


class Row(NamedTuple):
    """A line of the table."""

    part: str
    tried: str
    times: int
    happened: str


def merge_page(page: Path, new: list[Row]) -> None:
    """Write `new` rows into the page, in place of those of the same name."""
    rows = {(row.part, row.tried): row for row in _read_rows(page)}
    rows |= {(row.part, row.tried): row for row in new}
    parts = [*_PARTS, *sorted({row.part for row in rows.values()} - {*_PARTS})]
    sections = [_section(part, [row for row in rows.values() if row.part == part]) for part in parts]
    page.write_text("\n".join([_INTRODUCTION, *filter(None, sections), _CLOSING]), encoding="utf-8")


def _section(part: str, rows: list[Row]) -> str:
    if not rows:
        return ""
    lines = [f"| {row.tried} | {row.times:,} | {row.happened} |" for row in rows]
    return "\n".join([f"## {part}", "", "| tried | times | what happened |", "|---|--:|---|", *lines, ""])


def _read_rows(page: Path) -> list[Row]:
    rows, part = [], ""
    for line in page.read_text(encoding="utf-8").splitlines() if page.exists() else ():
        if line.startswith("## "):
            part = line[3:]
        elif match := _ROW.match(line):
            rows.append(Row(part, match[1], int(match[2].replace(",", "")), match[3]))
    return rows
