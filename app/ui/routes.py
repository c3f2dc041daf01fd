"""The addresses of media: videos in place, pictures, and moments converted for browsers."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from vtag.engine.errors import LibraryError, VideoError
from vtag.engine.library.database import open_reader
from vtag.engine.library.page_queries import PlayableVideo, find_video, moment_range
from vtag.engine.library.store.clocks import content_clock
from vtag.engine.video.write.picture_cache import PictureCache

_MEDIA_TYPES = {"mov,mp4,m4a,3gp,3g2,mj2": "video/mp4", "matroska,webm": "video/webm"}
_MAX_LEVEL = 12  # of strips: a strip of an hour's 4096th part shows less than a second
_FIRST_DATE_S = int(datetime.min.replace(tzinfo=UTC).timestamp())
_LAST_DATE_S = int(datetime.max.replace(microsecond=0, tzinfo=UTC).timestamp())
_CACHE_FOR_A_DAY = {"cache-control": "private, max-age=86400"}


class _WholeNumber(IntegerConvertor):
    """A number of an address that SQLite can keep: `{NAME:whole}`.

    There is no address with a longer one. Starlette's own `int` ends in an error of the server if it is very long.
    """

    regex = "[0-9]{1,18}"


register_url_convertor("whole", _WholeNumber())


def media_routes(library: Path, cache: PictureCache) -> list[Route]:
    """The routes of files and pictures, by the library's ids. All pictures show the whole frame, upright.

    - `/media/CONTENT`: the file itself, with ranges.
    - `/picture/MOMENT`: a picture of a moment. `/poster/CONTENT`: a picture of a video. Key frames are preferred.
    - `/still/CONTENT/MS`: the frame that players show at a time.
    - `/strip/moment/MOMENT`: STRIP_TILES pictures side by side, evenly from the moment.
    - `/strip/video/CONTENT/LEVEL/PART`: likewise from a part of the video, if it has 2^LEVEL equal ones.
    """

    def media(request: Request) -> Response:
        video = find_file(library, request.path_params["content"])
        if isinstance(video, Response):
            return video
        media_type = _MEDIA_TYPES.get(video.container, "application/octet-stream")
        try:
            info = _with_date_for_header(os.stat(require_path(video)))
        except OSError:
            return _not_found("this video is not connected now")
        return FileResponse(os.fsdecode(require_path(video)), media_type=media_type, stat_result=info)

    def moment_picture(request: Request) -> Response:
        row = _find_range(library, request.path_params["moment"])
        if isinstance(row, Response):
            return row
        content, start_ms, end_ms = row
        time_ms, tolerance_ms = (start_ms + end_ms) // 2, (end_ms - start_ms) // 3
        return _make_file(
            library,
            content,
            time_ms,
            lambda v: cache.get_picture(v.key, require_path(v), time_ms, tolerance_ms),
        )

    def moment_strip(request: Request) -> Response:
        row = _find_range(library, request.path_params["moment"])
        if isinstance(row, Response):
            return row
        content, start_ms, end_ms = row
        return _make_file(
            library, content, start_ms, lambda v: cache.get_strip(v.key, require_path(v), start_ms, end_ms)
        )

    def video_strip(request: Request) -> Response:
        level, part = request.path_params["level"], request.path_params["part"]
        if level > _MAX_LEVEL or part >= 2**level:
            return _not_found("there is no such part")

        def make(video: PlayableVideo) -> Path:
            start_ms, end_ms = (video.duration_ms * (part + side) // 2**level for side in (0, 1))
            return cache.get_strip(video.key, require_path(video), start_ms, max(end_ms, start_ms + 1))

        return _make_file(library, request.path_params["content"], 0, make)

    def poster(request: Request) -> Response:
        def make(video: PlayableVideo) -> Path:
            time_ms = video.duration_ms // 3  # the beginning is often dark
            return cache.get_picture(video.key, require_path(video), time_ms, time_ms)

        return _make_file(library, request.path_params["content"], 0, make)

    def still(request: Request) -> Response:
        content, player_ms = request.path_params["content"], request.path_params["ms"]
        time_ms = _library_ms(library, content, player_ms)
        if isinstance(time_ms, Response):
            return time_ms
        return _make_file(
            library, content, time_ms, lambda v: cache.get_picture(v.key, require_path(v), time_ms)
        )

    return [
        Route("/media/{content:whole}", media, methods=["GET", "HEAD"]),
        Route("/picture/{moment:whole}", moment_picture),
        Route("/poster/{content:whole}", poster),
        Route("/still/{content:whole}/{ms:whole}", still),
        Route("/strip/moment/{moment:whole}", moment_strip),
        Route("/strip/video/{content:whole}/{level:whole}/{part:whole}", video_strip),
    ]


def _find_range(library: Path, moment: int) -> tuple[int, int, int] | Response:
    """Content id, start_ms and end_ms of a moment, or the answer that says why there are none."""
    try:
        with closing(open_reader(library)) as reader:
            row = moment_range(reader, moment)
    except LibraryError as error:
        return _not_found(str(error))
    return row if row is not None else _not_found("this moment is gone")


def _library_ms(library: Path, content: int, player_ms: int) -> int | Response:
    """The library's time for one of the player, or the answer that says why the library cannot be read."""
    try:
        with closing(open_reader(library)) as reader:
            return content_clock(reader, content).library_ms(player_ms)
    except LibraryError as error:
        return _not_found(str(error))


def _with_date_for_header(info: os.stat_result) -> os.stat_result:
    """`info` with a date that a header can express: a file system may keep years before 1 and after 9999."""
    date = min(max(int(info.st_mtime), _FIRST_DATE_S), _LAST_DATE_S)
    if date == int(info.st_mtime):
        return info
    return os.stat_result((*info[: stat.ST_MTIME], date, *info[stat.ST_MTIME + 1 : 10]))


def _make_file(library: Path, content: int, time_ms: int, make: Callable[[PlayableVideo], Path]) -> Response:
    """The file that `make` makes of a video from `time_ms` on.

    A time after the video's end is refused. Otherwise each number would leave one more file in the cache.
    """
    video = find_file(library, content)
    if isinstance(video, Response):
        return video
    if time_ms > video.duration_ms:
        return _not_found("the video is not that long")
    try:
        return FileResponse(make(video), headers=_CACHE_FOR_A_DAY)
    except (VideoError, OSError):
        return _not_found("no picture can be made of this video")


def find_file(library: Path, content: int) -> PlayableVideo | Response:
    """The video, which has a path; or the answer that says why there is none."""
    try:
        with closing(open_reader(library)) as reader:
            video = find_video(reader, content)
    except LibraryError as error:
        return _not_found(str(error))
    if video is None:
        return _not_found("the library knows no such video")
    return video if video.path is not None else _not_found("this video is not connected now")


def require_path(video: PlayableVideo) -> bytes:
    assert video.path is not None
    return video.path


def _not_found(reason: str) -> Response:
    return PlainTextResponse(f"{reason}\n", 404)
