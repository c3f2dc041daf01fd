"""What to compare with: the features of a video that was scanned, or of any clip through the library's model."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from vtag.engine.errors import VideoError, VtagError
from vtag.engine.library.analysis.similar import SimilarityQuery, query_from_content
from vtag.engine.library.database import LibraryWriter, open_reader
from vtag.engine.library.search.contents import find_content
from vtag.engine.library.store.clocks import find_clock
from vtag.engine.text import display_path
from vtag.engine.video_clock import VideoClock


def similarity_query(
    library: Path,
    path: bytes,
    at_ms: int | None,
    *,
    device: str = "auto",
    on_embed: Callable[[], None] = lambda: None,
) -> SimilarityQuery:
    """A query for what the video at `path` shows at `at_ms` of its player, or for all of it.

    `on_embed` is called before a video that was not scanned goes through the library's model, on `device`.
    Raises VtagError if there is no such video, or if it ends before `at_ms`.
    """
    with closing(open_reader(library)) as reader:
        content = find_content(reader, path)
        clock = (content and find_clock(reader, content.id)) or _read_clock(path)
    if content and content.duration_ms and at_ms is not None:
        end_ms = clock.player_ms(content.duration_ms)
        if at_ms > end_ms:
            raise VtagError(f"{display_path(path)}: it ends at {end_ms / 1000:.1f} s, name an earlier time")
    library_ms = None if at_ms is None else clock.library_ms(at_ms)
    query = query_from_content(library, content.id, library_ms) if content else None
    if query is not None:
        return query
    if os.path.isdir(path):
        raise VtagError(f"{display_path(path)} is a folder: name one video")
    if not os.path.isfile(path):
        raise VtagError(f"{display_path(path)} is neither in the library nor on the disk: name another file")
    from vtag.engine.scan.embed_clip import embed_clip

    on_embed()
    with LibraryWriter.open(library) as writer:
        return embed_clip(writer, Path(os.fsdecode(path)), library_ms, device=device)


def _read_clock(path: bytes) -> VideoClock:
    """The clock of a file; one that begins with the first picture if there is no video."""
    if not os.path.isfile(path):
        return VideoClock()
    from vtag.engine.video.read.probe import probe

    try:
        return probe(path).clock
    except VideoError:
        return VideoClock()
