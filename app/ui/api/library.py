"""All videos of the library as a list, by folder, name, tag and year."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from vtag.app.ui.api.context import PageContext
from vtag.app.ui.api.player_clocks import PlayerClocks
from vtag.app.ui.page_sentences import page_sentence
from vtag.engine.library.views.video_list import ListedVideo
from vtag.engine.library.views.video_table import VideoFilter

_MAX_SELECTED = 20_000


class ListForm(BaseModel):
    """The filters, the order and the groups of the list."""

    folder: str = Field("", max_length=4096)
    name: str = Field("", max_length=1024)
    tag: str = Field("", max_length=200)
    year: str = Field("", max_length=10)
    state: Literal["", "untagged", "unreadable", "missing"] = ""
    sort: Literal["date", "name", "added", "length"] = "date"
    order: Literal["", "reverse"] = ""
    group: Literal["", "day", "folder"] = ""
    offset: int = Field(0, ge=0, lt=1 << 31)
    limit: int = Field(60, ge=1, le=200)

    @property
    def chosen(self) -> VideoFilter:
        """The filters alone."""
        return VideoFilter(self.folder, self.name, self.tag, self.year, self.state)


def build_router(context: PageContext) -> APIRouter:
    """The routes `api/videos` and below, for the list."""
    router = APIRouter(prefix="/api")
    lists = context.video_lists

    @router.get("/videos")
    def videos(form: Annotated[ListForm, Query()]) -> dict[str, Any]:
        """The videos of a list from `offset` on, and their number."""
        with context.reader() as reader:
            page = lists.page(
                reader,
                form.chosen,
                sort=form.sort,
                is_reversed=bool(form.order),
                offset=form.offset,
                limit=form.limit,
            )
            clocks = PlayerClocks(reader)
            return {"videos": [video_as_json(video, clocks) for video in page.videos], "total": page.total}

    @router.get("/videos/counts")
    def counts(form: Annotated[ListForm, Query()]) -> dict[str, Any]:
        """Folders and years with their numbers, and the groups of the list."""
        with context.reader() as reader:
            return lists.counts(
                reader, form.chosen, sort=form.sort, is_reversed=bool(form.order), group=form.group
            )._asdict()

    @router.get("/videos/ids")
    def ids(form: Annotated[ListForm, Query()]) -> dict[str, Any]:
        """The ids of all videos of the list, to select them."""
        with context.reader() as reader:
            content_ids = lists.ids(reader, form.chosen, sort=form.sort, is_reversed=bool(form.order))
        return {"ids": content_ids[:_MAX_SELECTED], "is_complete": len(content_ids) <= _MAX_SELECTED}

    return router


def video_as_json(video: ListedVideo, clocks: PlayerClocks) -> dict[str, Any]:
    """A video for a card."""
    recorded_at = None
    if video.recorded_s is not None:
        with suppress(ValueError, OverflowError, OSError):
            recorded_at = datetime.fromtimestamp(video.recorded_s, UTC).isoformat()
    return {
        "id": video.id,
        "name": video.display.rsplit("/", 1)[-1],
        "path": video.display,
        "duration_ms": clocks.duration_ms(video.id, video.duration_ms),
        "recorded_at": recorded_at,
        "moments": video.moments,
        "present": video.is_present,
        "error": page_sentence(video.error) if video.error else None,
    }
