"""Names and writes the files of an export; an existing file is kept unless the caller says overwrite."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vtag.engine.errors import VtagError
from vtag.engine.system.atomic_write import write_atomically
from vtag.engine.text import display_path

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment


def group_by_video(items: Iterable[ExportedMoment]) -> dict[bytes, list[ExportedMoment]]:
    """The moments of each video path, by time."""
    videos: dict[bytes, list[ExportedMoment]] = {}
    for item in items:
        videos.setdefault(item.moment.path, []).append(item)
    for moments in videos.values():
        moments.sort(key=lambda item: (item.moment.start_ms, item.moment.end_ms, item.moment.label))
    return videos


def export_paths(videos: Sequence[bytes], folder: bytes, suffix: str) -> dict[bytes, bytes]:
    """A file path in `folder` for each video path, named after the video; a repeated name gets a number."""
    paths: dict[bytes, bytes] = {}
    used_names: set[bytes] = set()
    for video in videos:
        stem = os.path.splitext(os.path.basename(video))[0]
        name, number = stem, 1
        while name.lower() in used_names:
            number += 1
            name = stem + f"-{number}".encode()
        used_names.add(name.lower())
        paths[video] = os.path.join(folder, name + suffix.encode())
    return paths


def write_new(path: bytes, text: str, *, overwrite: bool = False) -> None:
    """Write a text file, which appears complete or not at all; an older one is replaced by the complete one.

    Raises VtagError if the file exists and `overwrite` is false, or if it cannot be written.
    """
    content = text.encode("utf-8", "replace")
    try:
        if not overwrite and os.path.lexists(path):
            raise FileExistsError
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe, a terminal
            with open(path, "wb") as file:
                file.write(content)
            return
        # of a link, the file that it leads to is replaced
        write_atomically(Path(os.fsdecode(os.path.realpath(path))), content)
    except FileExistsError:
        raise VtagError(
            f"{display_path(path)} is there already: name another file, or say --overwrite"
        ) from None
    except OSError as error:
        raise VtagError(f"{display_path(path)} cannot be written: {error.strerror or error}") from error
