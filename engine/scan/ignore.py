"""What a person leaves out of a scan: `.vtagignore` files in gitignore's syntax, and globs of one scan."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vtag.engine.errors import LibraryError
from vtag.engine.text import display_path

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = b".vtagignore"
_MOST_BYTES = 2**20


@dataclass(frozen=True)
class Ignore:
    """Rules of one folder and of those above it; the innermost that says anything of a path counts, as in Git."""

    folder: bytes
    spec: GitIgnoreSpec
    outer: Ignore | None = None

    def leaves_out(self, path: bytes, *, is_folder: bool) -> bool:
        """Whether a path at or below `folder` is left out."""
        rules: Ignore | None = self
        while rules is not None:
            relative = os.fsdecode(os.path.relpath(path, rules.folder))
            said = rules.spec.check_file(relative.replace(os.sep, "/") + "/" * is_folder).include
            if said is not None:
                return bool(said)
            rules = rules.outer
        return False


class Only:
    """The globs of one scan: what `--include` names, where it names anything, and not what `--exclude` does."""

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        """Globs in gitignore's syntax, over paths below the scanned folder. Raises LibraryError."""
        self._include = _spec(include, "--include") if include else None
        self._exclude = _spec(exclude, "--exclude") if exclude else None

    def leaves_out(self, path: bytes, root: bytes, *, is_folder: bool) -> bool:
        """Whether a path below `root` is left out; a folder that is not included may hold what is."""
        if self._include is None and self._exclude is None:
            return False
        relative = os.fsdecode(os.path.relpath(path, root)).replace(os.sep, "/") + "/" * is_folder
        if self._exclude is not None and self._exclude.match_file(relative):
            return True
        return self._include is not None and not is_folder and not self._include.match_file(relative)


def above(root: bytes) -> Ignore | None:
    """The rules of the folders above `root`, which hold for it, too."""
    rules = None
    folders = []
    while (parent := os.path.dirname(root)) != root:
        folders.append(parent)
        root = parent
    for folder in reversed(folders):
        if os.path.isfile(os.path.join(folder, IGNORE_FILE)):
            rules = read(folder, rules)
    return rules


def read(folder: bytes, outer: Ignore | None) -> Ignore:
    """The rules of `folder`, which has a file of them. Raises LibraryError where it cannot be read."""
    path = os.path.join(folder, IGNORE_FILE)
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise LibraryError(f"{display_path(path)} cannot be read: {error.strerror or error}") from error
    return Ignore(folder, _spec(text.splitlines(), display_path(path)), outer)


def _spec(lines: Sequence[str], where: str) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise LibraryError(f"{where} has a pattern that cannot be understood: {error}") from error
