"""A person's verdicts: confirm, reject, rename, add and move tags, one or many at once; undo and redo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from vtag.app import times
from vtag.app.ui.api.context import PageContext
from vtag.app.ui.api.errors import FieldError, GoneError
from vtag.app.ui.api.row_ids import RowId
from vtag.app.ui.change_texts import describe_change
from vtag.engine.errors import LibraryError, VtagError
from vtag.engine.library import page_queries
from vtag.engine.library.annotations import annotation_log, undo_redo
from vtag.engine.library.annotations.annotation_log import AnnotationChange
from vtag.engine.library.annotations.player_times import range_on_library_clock
from vtag.engine.library.database import LibraryWriter

_MAX_MOMENTS = 20_000  # in one request
MAX_TIME_MS = 10**10  # about four months; no video is longer


class Moments(BaseModel):
    """Moments by their ids."""

    moments: list[RowId] = Field(min_length=1, max_length=_MAX_MOMENTS)


class RenameForm(Moments):
    """Moments, and their new label."""

    label: str = Field(max_length=400)


class TimeRangeForm(BaseModel):
    """A range of a video in ms, as the player shows it; without start and end all of it."""

    content: RowId
    start_ms: int | None = Field(None, ge=0, le=MAX_TIME_MS)
    end_ms: int | None = Field(None, ge=0, le=MAX_TIME_MS)


class Tagging(BaseModel):
    """A label for the ranges of moments, by their ids, and for ranges of videos."""

    label: str = Field(max_length=400)
    moments: list[RowId] = Field(default_factory=list, max_length=_MAX_MOMENTS)
    ranges: list[TimeRangeForm] = Field(default_factory=list, max_length=_MAX_MOMENTS)


class TypedTag(BaseModel):
    """A tag as typed into a form: the times as text, empty for the start and the end of the video."""

    content: RowId
    label: str = Field(max_length=400)
    start: str = Field("", max_length=40)
    end: str = Field("", max_length=40)


class Move(BaseModel):
    """A moment and its new range."""

    moment: RowId
    start_ms: int = Field(ge=0, le=MAX_TIME_MS)
    end_ms: int = Field(ge=0, le=MAX_TIME_MS)


class ChangeId(BaseModel):
    """The change that the button named; None for whichever is the latest."""

    change: RowId | None = None


def build_router(context: PageContext) -> APIRouter:
    """The routes below `api/annotations/`. Each answers with the change as a sentence."""
    router = APIRouter(prefix="/api/annotations")

    def change(act: Callable[[LibraryWriter], AnnotationChange], prefix: str = "") -> dict[str, Any]:
        with context.writer() as writer:
            made = act(writer)
            return {"id": made.id, "message": prefix + describe_change(writer.connection, made)}

    @router.post("/confirm")
    def confirm(body: Moments) -> dict[str, Any]:
        """Say Yes to moments."""
        return change(lambda writer: annotation_log.confirm(writer, body.moments))

    @router.post("/reject")
    def reject(body: Moments) -> dict[str, Any]:
        """Say No to moments."""
        return change(lambda writer: annotation_log.reject(writer, body.moments))

    @router.post("/rename")
    def rename(body: RenameForm) -> dict[str, Any]:
        """Give moments another label."""
        with _errors_of_field("label"):
            return change(lambda writer: annotation_log.rename(writer, body.moments, body.label))

    @router.post("/tag")
    def tag(body: Tagging) -> dict[str, Any]:
        """Add a label to the ranges of moments and to ranges of videos."""

        def act(writer: LibraryWriter) -> AnnotationChange:
            db = writer.connection
            ranges = [
                (each.content, *range_on_library_clock(db, each.content, each.start_ms, each.end_ms))
                for each in body.ranges
            ]
            ranges += page_queries.moment_ranges(db, body.moments)
            if not ranges:
                raise GoneError("these moments are gone: search again")
            return annotation_log.add_ranges(writer, ranges, body.label)

        with _errors_of_field("label"):
            return change(act)

    @router.post("/add")
    def add(body: TypedTag) -> dict[str, Any]:
        """Add a tag as typed into the form."""
        start_ms, end_ms = _parse_time("start", body.start), _parse_time("end", body.end)
        if start_ms is not None and end_ms is not None and end_ms <= start_ms:
            raise FieldError("end", "the tag has to end after it begins")

        def act(writer: LibraryWriter) -> AnnotationChange:
            times_ms = range_on_library_clock(writer.connection, body.content, start_ms, end_ms)
            return annotation_log.add(writer, body.content, body.label, *times_ms)

        with _errors_of_field("label"):
            return change(act)

    @router.post("/move")
    def move(body: Move) -> dict[str, Any]:
        """Change a moment's ends."""

        def act(writer: LibraryWriter) -> AnnotationChange:
            moment_range = page_queries.moment_range(writer.connection, body.moment)
            content = moment_range[0] if moment_range else 0
            start_ms, end_ms = range_on_library_clock(writer.connection, content, body.start_ms, body.end_ms)
            return annotation_log.move(writer, body.moment, start_ms or 0, end_ms or 0)

        return change(act)

    @router.post("/undo")
    def undo(body: ChangeId) -> dict[str, Any]:
        """Undo the latest change, which has to be the one that the button named."""
        return change(lambda writer: undo_redo.undo(writer, body.change), "Undone: ")

    @router.post("/redo")
    def redo(body: ChangeId) -> dict[str, Any]:
        """Make the change again that was undone last."""
        return change(lambda writer: undo_redo.redo(writer, body.change), "Done again: ")

    return router


@contextmanager
def _errors_of_field(field: str) -> Iterator[None]:
    """Turn an error about a typed label into one of its field, so that the form shows it there."""
    try:
        yield
    except LibraryError as error:
        raise (FieldError(field, str(error)) if "label" in str(error) else error) from error


def _parse_time(field: str, text: str) -> int | None:
    """A typed time in ms; None for an empty text. Raises FieldError."""
    if not text.strip():
        return None
    try:
        return times.parse_time(text)
    except VtagError as error:
        raise FieldError(field, str(error)) from error
