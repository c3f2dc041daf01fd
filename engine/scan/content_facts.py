"""What the library keeps of a video besides its features: the columns of its content."""

from __future__ import annotations

from contextlib import suppress

from vtag.engine.errors import VideoError
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import files
from vtag.engine.library.store.clocks import find_clock
from vtag.engine.video.read.probe import VideoInfo, probe

_COLUMNS = ("duration_ms", "width", "height", "frame_rate", "codec", "container", "recorded_at")


def video_columns(info: VideoInfo) -> dict[str, object]:
    """The columns of a content that are known once its file was opened."""
    return {**{name: getattr(info, name) for name in _COLUMNS}, "clock": info.clock.to_json()}


def register_video(library: LibraryWriter, path: bytes) -> int:
    """The content id of the file at `path`, after adding it to the library with its length and clock if it is new.

    A file that is no video is added without them. Raises LibraryError if the file cannot be read.
    """
    content_id = files.register_file(library, path)
    content = files.get_content(library, content_id)
    is_known = content.duration_ms is not None and find_clock(library.connection, content_id) is not None
    if not is_known and content.error is None:
        with suppress(VideoError):
            files.save_content(library, content.key, video_columns(probe(path)))
    return content_id
