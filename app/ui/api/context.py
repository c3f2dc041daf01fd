"""What every route needs: the library, its jobs, and the media made for the page."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vtag.app.ui.activities import Activities
from vtag.engine.jobs.job_queue import JobQueue
from vtag.engine.jobs.model_downloads import ModelDownloads
from vtag.engine.library.database import LibraryWriter, open_reader
from vtag.engine.library.views.video_list import VideoLists
from vtag.engine.video.write.render_pool import RenderPool


@dataclass(frozen=True)
class PageContext:
    """The library, the queue of its jobs, downloads, the folder of pictures, processes for videos, and lists."""

    library: Path
    queue: JobQueue
    downloads: ModelDownloads
    pictures: Path
    pool: RenderPool
    video_lists: VideoLists = field(default_factory=VideoLists)
    activities: Activities = field(default_factory=Activities)

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own for each request. Raises LibraryError."""
        with closing(open_reader(self.library)) as reader:
            yield reader

    def writer(self) -> LibraryWriter:
        """The library, open for writing; a context manager. Raises LibraryError."""
        return LibraryWriter.open(self.library)
