"""Text from a disk, made safe for the formats that would take a part of it for their own."""

from __future__ import annotations

import unicodedata

_FORMULA = ("=", "+", "-", "@")  # a spreadsheet computes a cell that begins so


def one_line(text: str) -> str:
    """`text` with everything that breaks a line, or that no text file may hold, as a space."""
    return " ".join(
        "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text).split()
    )


def cell(text: str) -> str:
    """A cell of a table that no spreadsheet takes for a formula."""
    plain = one_line(text)
    return f"'{plain}" if plain.startswith(_FORMULA) else plain
