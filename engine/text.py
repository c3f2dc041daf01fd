"""Text from a disk or a file: checked, and made safe to show on one line of a terminal."""

from __future__ import annotations

import codecs
import io
import json
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# controls, format characters (bidirectional overrides among them), surrogates, line and paragraph separators
_UNSAFE_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINER = "\u200d"  # a format character that emoji need
# blanks, and what text from a web page may begin or end with: byte order mark, zero-width space, directions
_INVISIBLE = " \u200b\u200e\u200f\u2060\ufeff"
_BYTE_ORDER_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def text_encoding(head: bytes) -> str:
    """The encoding of a text file by its first bytes: UTF-8, or UTF-16 or UTF-32 as editors on Windows write it."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding
    # UTF-16 without a mark: one byte of the first character, mostly an ASCII character, is zero
    if len(head) >= 2 and (head[0] == 0) != (head[1] == 0):
        return "utf-16-be" if head[0] == 0 else "utf-16-le"
    return "utf-8"


def decode_text(data: bytes, errors: str = "strict") -> str:
    """The text of a file that a person or another program wrote: without its mark, each line ended by a newline.

    Raises UnicodeDecodeError if it is no text in UTF-8, UTF-16 or UTF-32.
    """
    text = data.decode(text_encoding(data[:4]), errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text_file(path: str | os.PathLike[str]) -> str:
    """The text of the file at `path`, as `decode_text` returns it. Raises OSError and UnicodeDecodeError."""
    with open(path, "rb") as file:
        return decode_text(file.read())


def text_lines(file: io.BufferedReader, longest: int) -> Iterator[str]:
    """The lines of an open text file, as `decode_text` returns them; longer ones in parts of `longest` characters.

    Bytes that do not fit become surrogates in UTF-8, and replacement characters in UTF-16 and UTF-32.
    """
    encoding = text_encoding(file.peek(4)[:4])
    errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
    with io.TextIOWrapper(file, encoding, errors) as text:
        while line := text.readline(longest):
            yield line


def printable(text: str) -> str:
    """`text` with an escape for every character that could steer a terminal or break the line."""
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode()
        if c != _JOINER and unicodedata.category(c) in _UNSAFE_CATEGORIES
        else c
        for c in text
    )


def to_json(value: Any, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """`value` as JSON in UTF-8, with JSON's own escapes for characters that could steer a terminal.

    Every reader turns these back. JSON alone escapes only those below U+0020.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=default)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(
        json.dumps(c)[1:-1]
        if c not in ("\n", _JOINER) and unicodedata.category(c) in _UNSAFE_CATEGORIES
        else c
        for c in text
    )


def normalize_label(text: str) -> str:
    """`text` in the one form in which labels are kept and compared: composed (NFC), with single blanks.

    Marks that nobody sees are removed at both ends; a text from a web page may have them.
    """
    return " ".join(unicodedata.normalize("NFC", text).split()).strip(_INVISIBLE)


def pluralize(number: int, noun: str) -> str:
    """`1 video`, `2 videos`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def join_parts(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def has_letters(text: str) -> bool:
    """Whether `text` has a letter or a digit."""
    return any(character.isalnum() for character in text)


def display_path(path: str | bytes | os.PathLike[str]) -> str:
    """A path to show: escapes stand for control characters and for bytes that are not UTF-8."""
    raw = os.fsencode(path)
    return printable(raw.decode("utf-8", errors="backslashreplace"))
