"""Reads the clocks of videos that an older vtag scanned, when a scan meets them again."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search.copies import locate_content
from vtag.engine.library.store.clocks import contents_without_clock, save_clock
from vtag.engine.scan.events import ClocksPlanned
from vtag.engine.system import signals
from vtag.engine.video.decode.messages import ProbeRequest, VideoProbed
from vtag.engine.video.decode.pool import DecodePool

_POLL_S = 1.0  # how soon an interrupt that Python swallowed is noticed
_POOL_BYTES = 1 << 20  # no clip is decoded


def read_missing_clocks(library: LibraryWriter, content_ids: Collection[int]) -> Iterator[ClocksPlanned]:
    """Store the clocks of those of the contents that have none. Yields an event before it begins, if there are any.

    A video that cannot be read is tried again by the next scan.
    """
    paths = {}
    for content_id in contents_without_clock(library.connection, content_ids):
        location = locate_content(library.connection, content_id)
        if location is not None and location[1]:
            paths[content_id] = location[0]
    if not paths:
        return
    yield ClocksPlanned(len(paths))
    with DecodePool(workers=os.cpu_count() or 1, memory_bytes=_POOL_BYTES) as pool:
        for content_id, path in paths.items():
            pool.submit(content_id, ProbeRequest(path))
        while pool.unfinished_count:
            signals.raise_if_interrupted()
            event = pool.next_event(_POLL_S)
            if isinstance(event, VideoProbed):
                save_clock(library, event.job_id, event.info.clock)
