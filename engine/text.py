"""Text that came from a disk or a file, made safe to show on one line of a terminal."""

from __future__ import annotations

import os
import unicodedata

# controls, format characters (bidirectional overrides among them), surrogates, line and paragraph separators
_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINER = "\u200d"  # a format character that emoji need


def printable(text: str) -> str:
    """`text` with every character that could steer a terminal or break the line written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode() if c != _JOINER and unicodedata.category(c) in _UNSAFE else c
        for c in text
    )


def counted(number: int, one: str) -> str:
    """`1 video`, `2 videos`."""
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


def display_path(path: str | bytes | os.PathLike[str]) -> str:
    """A path as a person reads it: bytes that are no text, and control characters, as escapes."""
    raw = os.fsencode(path)
    return printable(raw.decode("utf-8", errors="backslashreplace"))
