"""Text from a disk, made safe for the formats that would take a part of it for their own."""

from __future__ import annotations

import os
import unicodedata
from urllib.parse import quote_from_bytes

_FORMULA = ("=", "+", "-", "@")  # a spreadsheet computes a cell that begins so
_BREAKS = {"Cc", "Cs", "Zl", "Zp"}
_NO_CHARACTERS = "\ufffe\uffff"  # which no XML may hold


def one_line(text: str) -> str:
    """`text` with everything that breaks a line, or that no text file may hold, as a space."""
    plain = (" " if unicodedata.category(c) in _BREAKS or c in _NO_CHARACTERS else c for c in text)
    return " ".join("".join(plain).split())


def cell(text: str) -> str:
    """A cell of a table that no spreadsheet takes for a formula."""
    plain = one_line(text)
    return f"'{plain}" if plain.startswith(_FORMULA) else plain


def path_text(path: bytes) -> str:
    """A path as text on one line; bytes that are none are replaced."""
    return one_line(path.decode("utf-8", "replace"))


def path_uri(path: bytes) -> str:
    """A file's address, exact to the byte."""
    absolute = os.path.abspath(path)
    if os.sep != "/":
        absolute = b"/" + absolute.replace(os.sep.encode(), b"/")
    return f"file://{quote_from_bytes(absolute)}"


def clock(milliseconds: int, point: str) -> str:
    """hh:mm:ss and milliseconds behind `point`, as subtitles have it."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"
