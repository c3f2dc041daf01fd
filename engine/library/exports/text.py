"""Text from files and labels, made safe for formats in which parts of it would have a meaning."""

from __future__ import annotations

import os
import unicodedata
from urllib.parse import quote_from_bytes

_FORMULA_STARTS = ("=", "+", "-", "@")  # a spreadsheet computes a cell that starts with one of these
_BREAKS = {"Cc", "Cs", "Zl", "Zp"}  # Unicode categories: control, surrogate, line and paragraph separator
NONCHARACTERS = "\ufffe\uffff"  # XML forbids them


def one_line(text: str) -> str:
    """`text` on one line: line breaks and characters that text files forbid become single spaces."""
    plain = (" " if unicodedata.category(c) in _BREAKS or c in NONCHARACTERS else c for c in text)
    return " ".join("".join(plain).split())


def spreadsheet_cell(text: str) -> str:
    """`text` on one line, quoted if a spreadsheet would compute it as a formula."""
    plain = one_line(text)
    return f"'{plain}" if plain.startswith(_FORMULA_STARTS) else plain


def path_text(path: bytes) -> str:
    """A path as text on one line; invalid bytes are replaced."""
    return one_line(path.decode("utf-8", "replace"))


def path_uri(path: bytes) -> str:
    """The file: URI of a path, exact to the byte."""
    absolute = os.path.abspath(path)
    if os.sep != "/":
        absolute = b"/" + absolute.replace(os.sep.encode(), b"/")
    return f"file://{quote_from_bytes(absolute)}"


def timestamp(time_ms: int, separator: str) -> str:
    """hh:mm:ss, `separator` and milliseconds: the form of subtitles."""
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{separator}{milliseconds:03}"
