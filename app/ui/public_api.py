"""The HTTP API for other programs below /api/v1, as OpenAPI describes it at /api/v1/openapi.json.

It reads only, by the library's ids. The page's own routes below /api may change with each version; these stay. The
guard checks every request, so a program needs a session, as a browser does (docs/http.md).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from vtag.app.ui.api.context import PageContext
from vtag.app.ui.api.errors import GoneError, add_error_handlers
from vtag.app.ui.api.row_ids import RowId
from vtag.engine.library import page_queries
from vtag.engine.library.search.moments import Moment, content_moments, everyday_terms
from vtag.engine.library.search.player_times import MomentClocks, on_player_clock
from vtag.engine.library.store.clocks import content_clock
from vtag.engine.library.views.results import find_results
from vtag.engine.text import display_path
from vtag.engine.video.write.clip_names import format_clip_name, format_time_for_name
from vtag.engine.video.write.cut import cut
from vtag.engine.video.write.render_pool import Priority

API_PATH = "/api/v1"
_MAX_PAGE = 500  # moments in one answer
_MAX_OFFSET = 100_000
_CUT_LIMIT_S, _CUT_LIMIT_SHARE = 60.0, 30.0  # a clip may take so long, and so many times its own length
_MEDIA_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".mkv": "video/x-matroska",
                ".webm": "video/webm"}  # fmt: skip


class ApiMoment(BaseModel):
    """A moment. Times are milliseconds as a player shows them."""

    id: int = Field(description="Changes if the video is scanned anew.")
    video: int = Field(description="Id of the video.")
    path: str
    label: str
    start_ms: int
    end_ms: int
    score: float = Field(description="0 to 1.")
    sure: bool = Field(description="Whether it reaches its label's threshold; otherwise it is a guess.")
    source: str = Field(description="model or user.")
    model: str | None
    present: bool = Field(description="Whether the file is there now.")


class SearchAnswer(BaseModel):
    """A part of the moments that a query finds: sure ones first, best first."""

    moments: list[ApiMoment]
    has_more: bool
    searched_as: dict[str, list[str]] = Field(description="The labels that everyday phrases stand for.")


class ApiVideo(BaseModel):
    """A video with its moments by time."""

    id: int
    path: str
    duration_ms: int = Field(description="Where the last picture ends, by the time of players.")
    recorded_at: str | None
    codec: str
    width: int
    height: int
    present: bool
    moments: list[ApiMoment]


def build_public_api(context: PageContext) -> FastAPI:
    """The API as an application, to be mounted at API_PATH."""
    api = FastAPI(
        title="vtag",
        version="1",
        description="Moments of the videos in a vtag library. Read-only.",
        docs_url=None,
        redoc_url=None,
    )
    add_error_handlers(api)

    @api.get("/search", operation_id="search")
    def search(
        q: Annotated[
            str, Query(max_length=2000, description="As `vtag search`; empty: the best of each label first.")
        ] = "",
        less_sure: Annotated[bool, Query(description="Include guesses.")] = False,
        sort: Literal["score", "date", "length"] = "score",
        offset: Annotated[int, Query(ge=0, le=_MAX_OFFSET)] = 0,
        limit: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = 50,
    ) -> SearchAnswer:
        """Moments that match a query."""
        return _search(context, q, less_sure=less_sure, sort=sort, offset=offset, limit=limit)

    @api.get("/videos/{video_id}", operation_id="video", responses={404: {"description": "No such video."}})
    def video(
        video_id: RowId, less_sure: Annotated[bool, Query(description="Include guesses.")] = False
    ) -> ApiVideo:
        """A video with its moments."""
        return _video(context, video_id, less_sure=less_sure)

    @api.get(
        "/moments/{moment_id}/clip",
        operation_id="clip",
        response_class=FileResponse,
        responses={
            200: {"content": {"video/*": {}}, "description": "A video file."},
            404: {"description": "No such moment, or its video is not there."},
        },
    )
    def clip(
        moment_id: RowId,
        exact: Annotated[
            bool, Query(description="Encode again, instead of copying from a key frame.")
        ] = False,
    ) -> FileResponse:
        """A moment as a video file with its sound."""
        return _clip(context, moment_id, exact=exact)

    return api


def _search(
    context: PageContext, q: str, *, less_sure: bool, sort: str, offset: int, limit: int
) -> SearchAnswer:
    with context.reader() as reader:
        results = find_results(
            reader, q, sort=sort, offset=offset, limit=limit, less_sure="all" if less_sure else "none"
        )
        clocks = MomentClocks(reader)
        moments = [
            _moment(on_player_clock(moment, clocks.clock(content, moment.path)), content)
            for moment, content, *_ in results.moments
        ]
        meanings = dict(everyday_terms(reader, q))
    return SearchAnswer(moments=moments, has_more=results.has_more, searched_as=meanings)


def _video(context: PageContext, video_id: int, *, less_sure: bool) -> ApiVideo:
    with context.reader() as reader:
        video = _find_video(reader, video_id)
        clock = content_clock(reader, video_id)
        moments = content_moments(reader, video_id, less_sure="all" if less_sure else "none")
    return ApiVideo(
        id=video.id,
        path=video.display,
        duration_ms=clock.player_ms(video.duration_ms),
        recorded_at=video.recorded_at,
        codec=video.codec,
        width=video.width,
        height=video.height,
        present=video.path is not None,
        moments=[_moment(on_player_clock(moment, clock), video_id) for moment in moments],
    )


def _moment(moment: Moment, video: int) -> ApiMoment:
    return ApiMoment(
        id=moment.id,
        video=video,
        path=display_path(moment.path),
        label=moment.label,
        start_ms=moment.start_ms,
        end_ms=moment.end_ms,
        score=round(moment.score, 6),
        sure=moment.sure,
        source=moment.source,
        model=moment.model,
        present=moment.present,
    )


def _find_video(reader: sqlite3.Connection, video_id: int) -> page_queries.PlayableVideo:
    video = page_queries.find_video(reader, video_id)
    if video is None:
        raise GoneError("the library knows no such video")
    return video


def _clip(context: PageContext, moment_id: int, *, exact: bool) -> FileResponse:
    """The response that sends the clip of a moment; the file is removed behind it. Raises GoneError, VideoError."""
    with context.reader() as reader:
        row = page_queries.moment_range(reader, moment_id)
        if row is None:
            raise GoneError("this moment is gone: search again")
        content, start_ms, end_ms = row
        video, clock = _find_video(reader, content), content_clock(reader, content)
    if video.path is None:
        raise GoneError("this video is not connected now")
    folder = tempfile.mkdtemp(prefix="vtag-clip-")
    try:
        work = partial(cut, video.path, start_ms, end_ms, os.fsencode(f"{folder}/clip"), reencode=exact)
        limit_s = _CUT_LIMIT_S + _CUT_LIMIT_SHARE * (end_ms - start_ms) / 1000
        file = Path(os.fsdecode(context.pool.run(work, Priority.STRIP, limit_s=limit_s).path))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    values = {"name": Path(video.display).stem, "start": format_time_for_name(clock.player_ms(start_ms))}
    return _ClipResponse(
        file,
        media_type=_MEDIA_TYPES.get(file.suffix, "application/octet-stream"),
        filename=format_clip_name("{name} {start}", values) + file.suffix,
        headers={"cache-control": "no-store"},
    )


class _ClipResponse(FileResponse):
    """Sends a clip, and removes its folder however that ends.

    A background task would not: Starlette skips it if the request's range is none of the file.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:  # at once: a cancelled request could not wait for another thread
            shutil.rmtree(os.path.dirname(self.path), ignore_errors=True)
