"""Which paths the user excludes from scans: `.vtagignore` files in gitignore's syntax, and the globs of a scan."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vtag.engine.errors import LibraryError
from vtag.engine.text import decode_text, display_path

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = b".vtagignore"
_MAX_BYTES = 2**20
_INVISIBLE = "\u200b\u2060\ufeff"  # what text from a web page may have around it
_SLASHES = re.compile("//+")


@dataclass(frozen=True)
class IgnoreRules:
    """The rules of a folder and of the folders above it. As in Git, the innermost matching rule wins."""

    folder: bytes
    spec: GitIgnoreSpec
    outer: IgnoreRules | None = None

    def excludes(self, path: bytes, *, is_folder: bool) -> bool:
        """Whether the rules exclude a path at or below `folder`."""
        rules: IgnoreRules | None = self
        while rules is not None:
            excluded = rules.spec.check_file(_relative(path, rules.folder, is_folder=is_folder)).include
            if excluded is not None:
                return bool(excluded)
            rules = rules.outer
        return False


class PathFilter:
    """The globs of a scan: files that match `--include` (default: all) and do not match `--exclude`."""

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        """Globs in gitignore's syntax for paths below the scanned folder. Raises LibraryError for an invalid one."""
        self._include = _parse(include, "--include") if include else None
        self._exclude = _parse(exclude, "--exclude") if exclude else None

    def excludes(self, path: bytes, root: bytes, *, is_folder: bool) -> bool:
        """Whether a path below `root` is excluded. A folder that `--include` does not match may contain matches."""
        if self._include is None and self._exclude is None:
            return False
        relative = _relative(path, root, is_folder=is_folder)
        if self._exclude is not None and self._exclude.match_file(relative):
            return True
        return self._include is not None and not is_folder and not self._include.match_file(relative)


def rules_above(root: bytes) -> IgnoreRules | None:
    """The rules of the folders above `root`, which apply below it."""
    rules = None
    folders = []
    while (parent := os.path.dirname(root)) != root:
        folders.append(parent)
        root = parent
    for folder in reversed(folders):
        if os.path.isfile(os.path.join(folder, IGNORE_FILE)):
            rules = read_rules(folder, rules)
    return rules


def read_rules(folder: bytes, outer: IgnoreRules | None) -> IgnoreRules:
    """The rules in the `.vtagignore` file of `folder`. Raises LibraryError if it cannot be read.

    The file may be in any encoding that an editor writes: a rule that is misread would let a scan into a folder
    that the user excluded.
    """
    path = os.path.join(folder, IGNORE_FILE)
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise LibraryError(f"{display_path(path)} is too large: it can have {_MAX_BYTES} bytes")
        text = decode_text(data, "surrogateescape")
    except OSError as error:
        raise LibraryError(f"{display_path(path)} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise LibraryError(f"{display_path(path)} is not text: save it as UTF-8") from error
    if "\0" in text:
        raise LibraryError(f"{display_path(path)} is not text: save it as UTF-8")
    lines = [
        spelling
        for line in text.split("\n")
        for rule in dict.fromkeys((line, _as_meant(line, folder)))
        for spelling in _spellings(rule)
    ]
    return IgnoreRules(folder, _parse(lines, display_path(path)), outer)


def _as_meant(line: str, folder: bytes) -> str:
    """A rule as gitignore's syntax has it: without blanks and marks around it, quotes, and `./` or a whole path."""
    rule = line.strip().strip(_INVISIBLE)
    if rule.endswith("\\"):  # the blank behind it belongs to the name
        return line
    sign, rule = ("!", rule[1:]) if rule.startswith("!") else ("", rule)
    if len(rule) > 1 and rule[0] == rule[-1] and rule[0] in "\"'":
        rule = rule[1:-1]
    prefix = os.fsdecode(folder).rstrip("/") + "/"
    if rule.startswith(prefix):
        rule = rule[len(prefix) - 1 :]
    rule = rule[1:] if rule.startswith("./") else rule
    return sign + _SLASHES.sub("/", rule)


def _spellings(line: str) -> Sequence[str]:
    """A rule as names on the disk may spell it: if it is not UTF-8, as its bytes and as an old Windows code page."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return line, os.fsencode(line).decode("cp1252", "replace").replace("\N{REPLACEMENT CHARACTER}", "?")
    return (line,)


def _relative(path: bytes, folder: bytes, *, is_folder: bool) -> str:
    """A path as rules are matched with it: composed, since some systems store the accents of a name apart."""
    relative = os.fsdecode(os.path.relpath(path, folder)).replace(os.sep, "/") + "/" * is_folder
    return unicodedata.normalize("NFC", relative)


def _parse(lines: Sequence[str], source: str) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(unicodedata.normalize("NFC", line) for line in lines)
    except ValueError as error:
        raise LibraryError(f"{source} has a pattern that cannot be understood: {error}") from error
