"""Teach: tags with their examples, candidates, trials and their line; trainings from folders; reports."""

from __future__ import annotations

from collections.abc import Generator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from vtag.app.ui import folder_training, teaching
from vtag.app.ui.api.context import PageContext
from vtag.app.ui.api.corrections import MAX_TIME_MS
from vtag.app.ui.api.moments import card_as_json
from vtag.app.ui.api.player_clocks import PlayerClocks
from vtag.app.ui.api.row_ids import RowId
from vtag.app.ui.long_calls import LongCall
from vtag.app.ui.reports import list_reports
from vtag.engine.errors import QueryError
from vtag.engine.jobs.job_queue import active_runs
from vtag.engine.library import page_queries
from vtag.engine.library.analysis.tag_preview import TagMoment
from vtag.engine.library.annotations.player_times import range_on_library_clock
from vtag.engine.library.page_queries import AnnotationRow
from vtag.engine.library.views.results import FoundMoment, find_results
from vtag.engine.library.views.video_list import ListedVideo
from vtag.engine.library.views.video_table import VideoFilter

_PAGE = 24
_GROUP = "teaching"  # trials and saving use the same folder: one at a time
_TagName = Field("", max_length=400)


class Tag(BaseModel):
    """A tag by its name."""

    tag: str = _TagName


class TagRenaming(Tag):
    """A tag and its new name."""

    name: str = _TagName


class Verdict(Tag):
    """Whether a time range of a video shows a tag."""

    content: RowId
    start_ms: int = Field(ge=0, le=MAX_TIME_MS)
    end_ms: int = Field(ge=0, le=MAX_TIME_MS)
    is_example: bool


class TagLineForm(Tag):
    """A tag's line; `preset` is the one that its head came with."""

    line: float | None = Field(None, gt=0, lt=1)
    preset: float | None = Field(None, gt=0, lt=1)


class TrainingForm(BaseModel):
    """A training on a folder of labelled clips."""

    folder: str = Field(max_length=4096)
    part: Literal["head", "stages=1", "stages=2", "all"] = "head"
    epochs: int = Field(folder_training.DEFAULT_EPOCHS, ge=1, le=10_000)


class TaughtModelName(BaseModel):
    """A model by its name."""

    name: str = Field(max_length=200)


def build_router(context: PageContext) -> APIRouter:
    """The routes below `api/teach/`."""
    router = APIRouter(prefix="/api/teach")

    @router.get("/tags")
    def tags() -> dict[str, Any]:
        """A person's tags with the number of their examples."""
        with context.reader() as reader:
            return {"tags": page_queries.annotated_labels(reader)}

    @router.get("/examples")
    def examples(tag: Annotated[str, Query(max_length=400)]) -> dict[str, Any]:
        """What a person said of a tag."""
        with context.reader() as reader:
            clocks = PlayerClocks(reader)
            rows = page_queries.label_annotations(reader, tag)
            return {"examples": [_example_as_json(row, clocks) for row in rows]}

    @router.get("/candidates")
    def candidates(
        q: Annotated[str, Query(max_length=2000)] = "",
        tag: Annotated[str, Query(max_length=400)] = "",
        offset: Annotated[int, Query(ge=0, le=20_000)] = 0,
    ) -> dict[str, Any]:
        """Moments of a search and whole videos whose path has its text, to say Yes or No to."""
        return _candidates(context, q, tag, offset)

    @router.post("/verdict")
    def verdict(body: Verdict) -> dict[str, Any]:
        """Say that a time range shows a tag, or does not."""
        with context.writer() as writer:
            start_ms, end_ms = range_on_library_clock(
                writer.connection, body.content, body.start_ms, body.end_ms
            )
            message = teaching.record_example(
                writer, body.tag, body.content, start_ms or 0, end_ms or 0, is_example=body.is_example
            )
        return {"message": message}

    @router.post("/line")
    def line(body: TagLineForm) -> dict[str, Any]:
        """What the latest trial finds with another line."""
        return _trial_as_json(context, teaching.move_line(context.library, body.tag, body.line or 0.5))

    @router.post("/folder")
    def folder(body: TrainingForm) -> dict[str, Any]:
        """Start a training on a folder of labelled clips."""
        message = folder_training.start_training(
            context.library, context.queue, body.folder, body.part, body.epochs
        )
        return {"message": message}

    @router.get("/unfinished")
    def unfinished() -> dict[str, Any]:
        """The trainings that stopped before their end."""
        with context.reader() as reader:
            is_training = any(run.kind in folder_training.TRAINING_KINDS for run in active_runs(reader))
        return {"names": folder_training.list_unfinished(context.queue, is_training=is_training)}

    @router.post("/discard")
    def discard(body: TaughtModelName) -> dict[str, Any]:
        """Delete the state of an unfinished training."""
        folder_training.discard_unfinished(body.name)
        return {"is_done": True}

    @router.get("/reports")
    def reports() -> dict[str, Any]:
        """The metrics and curves of the models that were trained here."""
        return {"reports": list_reports()}

    return router


def long_calls(context: PageContext) -> list[LongCall]:
    """What trains a head, which takes seconds."""
    library, queue = context.library, context.queue

    def try_tag(body: Tag) -> Generator[dict[str, Any], None, None]:
        yield _trial_as_json(context, teaching.try_tag(library, body.tag))

    def keep_tags(body: TagLineForm) -> Generator[dict[str, Any], None, None]:
        trial = (body.line, body.preset) if body.line is not None and body.preset is not None else None
        yield {"message": teaching.keep_tags(library, queue, body.tag, trial)}

    def rename_tag(body: TagRenaming) -> Generator[dict[str, Any], None, None]:
        yield {"message": teaching.rename_tag(library, queue, body.tag, body.name.strip())}

    def remove_tag(body: Tag) -> Generator[dict[str, Any], None, None]:
        yield {"message": teaching.remove_tag(library, queue, body.tag)}

    return [
        LongCall("try_tag", Tag, try_tag, _GROUP),
        LongCall("keep_tags", TagLineForm, keep_tags, _GROUP),
        LongCall("rename_tag", TagRenaming, rename_tag, _GROUP),
        LongCall("remove_tag", Tag, remove_tag, _GROUP),
    ]


def _candidates(context: PageContext, query: str, tag: str, offset: int) -> dict[str, Any]:
    """A page of moments and of videos; a text that is no query finds videos all the same."""
    problem, cards, has_more = "", [], False
    with context.reader() as reader:
        annotations = page_queries.label_annotations(reader, tag) if tag.strip() else []
        try:
            if query.strip():
                results = find_results(reader, query, offset=offset, limit=_PAGE)
                cards, has_more = results.moments, results.has_more
        except QueryError as error:
            problem = str(error)
        name = query.strip().removeprefix("path:").strip('"')
        page = context.video_lists.page(
            reader, VideoFilter(name=name), sort="added", offset=offset, limit=_PAGE
        )
        clocks = PlayerClocks(reader)
        moments = [
            {**card_as_json(card, clocks), "said": _verdict_on_moment(card, annotations)} for card in cards
        ]
        videos = [_video_as_json(video, clocks, annotations) for video in page.videos if video.error is None]
    return {
        "moments": moments,
        "videos": videos,
        "has_more": has_more or page.total > offset + _PAGE,
        "problem": problem,
    }


def _verdict_on_moment(card: FoundMoment, annotations: list[AnnotationRow]) -> str:
    return teaching.verdict_on(card.content, card.moment.start_ms, card.moment.end_ms, annotations)


def _video_as_json(
    video: ListedVideo, clocks: PlayerClocks, annotations: list[AnnotationRow]
) -> dict[str, Any]:
    """A whole video, to say Yes or No to."""
    end_ms = max(1, video.duration_ms)
    return {
        "content": video.id,
        **clocks.range_as_json(video.id, 0, end_ms),
        "name": video.display.rsplit("/", 1)[-1],
        "path": video.display,
        "present": video.is_present,
        "said": teaching.verdict_on(video.id, 0, end_ms, annotations),
    }


def _example_as_json(row: AnnotationRow, clocks: PlayerClocks) -> dict[str, Any]:
    said = "rejected" if row.verdict == "rejected" else "confirmed"
    return {
        "content": row.content,
        **clocks.range_as_json(row.content, row.start_ms, row.end_ms),
        "name": row.display.rsplit("/", 1)[-1],
        "path": row.display,
        "present": True,
        "said": said,
    }


def _trial_as_json(context: PageContext, trial: teaching.Trial) -> dict[str, Any]:
    with context.reader() as reader:
        clocks = PlayerClocks(reader)
        above, below = (
            [_tag_moment_as_json(moment, clocks) for moment in moments]
            for moments in (trial.above, trial.below)
        )
    return {
        "line": trial.line,
        "preset": trial.preset,
        "sentence": trial.sentence,
        "above": above,
        "below": below,
        "metrics": trial.metrics,
    }


def _tag_moment_as_json(moment: TagMoment, clocks: PlayerClocks) -> dict[str, Any]:
    return {
        "content": moment.content_id,
        **clocks.range_as_json(moment.content_id, moment.start_ms, moment.end_ms),
        "score": round(moment.score, 4),
        "name": moment.display.rsplit("/", 1)[-1],
        "path": moment.display,
        "present": True,
        "said": moment.verdict or "",
    }
