"""Which files an export is written to, and writing them: never over one that is there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vtag.engine.errors import VtagError
from vtag.engine.text import display_path

if TYPE_CHECKING:
    from vtag.engine.library.exports.items import Item


def by_video(items: Iterable[Item]) -> dict[bytes, list[Item]]:
    """The moments of each video, by time."""
    videos: dict[bytes, list[Item]] = {}
    for item in items:
        videos.setdefault(item.moment.path, []).append(item)
    for of_one in videos.values():
        of_one.sort(key=lambda item: (item.moment.start_ms, item.moment.end_ms, item.moment.label))
    return videos


def names(videos: Sequence[bytes], folder: bytes, suffix: str) -> dict[bytes, bytes]:
    """For each video a file of its own in `folder`, called as the video; of several with that name with a number."""
    chosen: dict[bytes, bytes] = {}
    taken: set[bytes] = set()
    for video in videos:
        stem = os.path.splitext(os.path.basename(video))[0]
        name, number = stem, 1
        while name.lower() in taken:
            number += 1
            name = stem + f"-{number}".encode()
        taken.add(name.lower())
        chosen[video] = os.path.join(folder, name + suffix.encode())
    return chosen


def write_new(path: bytes, text: str, *, overwrite: bool = False) -> None:
    """Write a text file. Raises VtagError where it is there already, unless told to `overwrite`, or cannot be."""
    kind = os.O_TRUNC if overwrite else os.O_EXCL
    try:
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | kind, 0o666), "wb") as file:
            file.write(text.encode("utf-8", "replace"))
    except FileExistsError:
        raise VtagError(
            f"{display_path(path)} is there already: name another file, or say --overwrite"
        ) from None
    except OSError as error:
        raise VtagError(f"{display_path(path)} cannot be written: {error.strerror or error}") from error
