"""Text from a disk or a file: checked, and made safe to show on one line of a terminal."""

from __future__ import annotations

import os
import unicodedata

# controls, format characters (bidirectional overrides among them), surrogates, line and paragraph separators
_UNSAFE_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINER = "\u200d"  # a format character that emoji need


def printable(text: str) -> str:
    """`text` with an escape for every character that could steer a terminal or break the line."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode()
        if c != _JOINER and unicodedata.category(c) in _UNSAFE_CATEGORIES
        else c
        for c in text
    )


def pluralize(number: int, noun: str) -> str:
    """`1 video`, `2 videos`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def has_letters(text: str) -> bool:
    """Whether `text` has a letter or a digit."""
    return any(character.isalnum() for character in text)


def display_path(path: str | bytes | os.PathLike[str]) -> str:
    """A path to show: escapes stand for control characters and for bytes that are not UTF-8."""
    raw = os.fsencode(path)
    return printable(raw.decode("utf-8", errors="backslashreplace"))
