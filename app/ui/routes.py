"""What the page fetches by number: videos in place, pictures, and moments that any browser can play."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from vtag.engine.errors import LibraryError, VideoError
from vtag.engine.library.database import open_reader
from vtag.engine.library.page_queries import PlayableVideo, find_video, moment_range
from vtag.engine.video.write.picture_cache import PictureCache

# what every browser plays: codecs by container, as PyAV names them
_PLAYABLE = {
    "mov,mp4,m4a,3gp,3g2,mj2": {"h264", "av1", "vp9"},
    "matroska,webm": {"vp8", "vp9", "av1"},
}
_MEDIA_TYPES = {"mov,mp4,m4a,3gp,3g2,mj2": "video/mp4", "matroska,webm": "video/webm"}
_MARGIN_MS = 2000  # shown before and after a moment that has to be made playable
_HIGHEST_ID = 2**63 - 1  # SQLite's integers end there
_FIRST_DATE_S = int(datetime.min.replace(tzinfo=UTC).timestamp())
_LAST_DATE_S = int(datetime.max.replace(microsecond=0, tzinfo=UTC).timestamp())
_KEEP = {"cache-control": "private, max-age=86400"}


def playable(shown: PlayableVideo) -> bool:
    """Whether a browser plays the file as it lies there."""
    webm = shown.path is not None and shown.path.lower().endswith(b".webm")
    return shown.codec in _PLAYABLE.get(shown.container, set()) and (
        webm or not shown.container.startswith("matroska")
    )


def proxy_span(start_ms: int, end_ms: int) -> tuple[int, int]:
    """From when to when a moment is made playable."""
    return max(0, start_ms - _MARGIN_MS), end_ms + _MARGIN_MS


def routes(library: Path, cache: PictureCache) -> list[Route]:
    """`/media/CONTENT`, `/picture/MOMENT`, `/still/CONTENT/MS`, `/moment/CONTENT/START/END`; by the library's ids."""

    def media(request: Request) -> Response:
        shown = _video(library, request.path_params["content"])
        if isinstance(shown, Response):
            return shown
        assert shown.path is not None
        kind = _MEDIA_TYPES.get(shown.container, "application/octet-stream")
        try:
            info = _with_date_for_header(os.stat(shown.path))
        except OSError:
            return _nothing("this video is not there now")
        return FileResponse(os.fsdecode(shown.path), media_type=kind, stat_result=info)

    def moment_picture(request: Request) -> Response:
        wanted = min(request.path_params["moment"], _HIGHEST_ID)
        try:
            with closing(open_reader(library)) as reader:
                found = moment_range(reader, wanted)
        except LibraryError as error:
            return _nothing(str(error))
        if found is None:
            return _nothing("this moment is gone")
        content, start_ms, end_ms = found
        at_ms = (start_ms + end_ms) // 2
        return _made(library, content, at_ms, lambda v: cache.get_picture(v.key, _path(v), at_ms))

    def still(request: Request) -> Response:
        at_ms = request.path_params["ms"]
        content = request.path_params["content"]
        return _made(library, content, at_ms, lambda v: cache.get_picture(v.key, _path(v), at_ms))

    def moment(request: Request) -> Response:
        start_ms, end_ms = request.path_params["start"], request.path_params["end"]
        return _made(
            library,
            request.path_params["content"],
            start_ms,
            lambda v: cache.get_moment(v.key, _path(v), start_ms, max(end_ms, start_ms + 1)),
        )

    return [
        Route("/media/{content:int}", media, methods=["GET", "HEAD"]),
        Route("/picture/{moment:int}", moment_picture),
        Route("/still/{content:int}/{ms:int}", still),
        Route("/moment/{content:int}/{start:int}/{end:int}", moment),
    ]


def _with_date_for_header(info: os.stat_result) -> os.stat_result:
    """`info` with a date that a header can express: a file system may keep years before 1 and after 9999."""
    date = min(max(int(info.st_mtime), _FIRST_DATE_S), _LAST_DATE_S)
    if date == int(info.st_mtime):
        return info
    return os.stat_result((*info[: stat.ST_MTIME], date, *info[stat.ST_MTIME + 1 : 10]))


def _made(library: Path, content: int, at_ms: int, make: Callable[[PlayableVideo], Path]) -> Response:
    """What `make` makes of a video from `at_ms` on; a time that the video does not have gets no file in the cache."""
    shown = _video(library, content)
    if isinstance(shown, Response):
        return shown
    if at_ms > shown.duration_ms:
        return _nothing("the video is not that long")
    try:
        return FileResponse(make(shown), headers=_KEEP)
    except (VideoError, OSError):
        return _nothing("no picture can be made of this video")


def _video(library: Path, content: int) -> PlayableVideo | Response:
    try:
        with closing(open_reader(library)) as reader:
            shown = find_video(reader, min(content, _HIGHEST_ID))
    except LibraryError as error:
        return _nothing(str(error))
    if shown is None:
        return _nothing("the library knows no such video")
    return shown if shown.path is not None else _nothing("this video is not there now")


def _path(shown: PlayableVideo) -> bytes:
    assert shown.path is not None
    return shown.path


def _nothing(why: str) -> Response:
    return PlainTextResponse(f"{why}\n", 404)
