"""Tools: cut, export, sidecars, relocate, clean and forget. Each says first what it would do; `apply` does it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from vtag.app.clip_stems import clip_stems
from vtag.app.sidecars import labels_by_file
from vtag.app.ui.api.context import PageContext
from vtag.app.ui.api.errors import FieldError
from vtag.app.ui.api.search_form import SearchForm
from vtag.app.ui.long_calls import LongCall
from vtag.app.video_clocks import read_clock
from vtag.engine.errors import VideoError, VtagError
from vtag.engine.library.exports import FORMATS, exported_moments, files, format_writer, xmp
from vtag.engine.library.maintenance import clean as cleaning
from vtag.engine.library.maintenance import forget as forgetting
from vtag.engine.library.search.moments import Moment
from vtag.engine.library.search.player_times import MomentClocks
from vtag.engine.library.store import heads
from vtag.engine.library.views.results import find_by_ids, find_ids
from vtag.engine.text import display_path, pluralize
from vtag.engine.video.write import cut as cutting
from vtag.engine.video.write.clip_names import check_template
from vtag.engine.video.write.render_pool import Priority
from vtag.engine.video_clock import VideoClock

_MAX_MOMENTS = 5_000
_SHOWN = 12  # examples in a preview
_GROUP = "files"  # what writes files or rows: one at a time
_TEMPLATE = "{name} {start} {label}"


class Chosen(BaseModel):
    """Moments by their ids, or without ids all that a search finds."""

    moments: list[int] = Field(default_factory=list, max_length=_MAX_MOMENTS)
    search: SearchForm = SearchForm()
    apply: bool = False


class Cutting(Chosen):
    """Moments as video files in a folder."""

    folder: str = Field("", max_length=4096)
    template: str = Field(_TEMPLATE, max_length=200)
    reencode: bool = False


class Exporting(Chosen):
    """Moments in the format of another program."""

    format: Literal["csv", "json", "srt", "vtt", "edl", "otio", "chapters"] = "csv"


class Relocation(BaseModel):
    """A folder's former and present path."""

    old: str = Field(max_length=4096)
    new: str = Field(max_length=4096)
    apply: bool = False


class Forgetting(BaseModel):
    """A path or a model to forget."""

    path: str = Field("", max_length=4096)
    model: str = Field("", max_length=1024)
    with_annotations: bool = False
    apply: bool = False


class Cleaning(BaseModel):
    """Whether to clean."""

    apply: bool = False


def build_router(context: PageContext) -> APIRouter:
    """The route `api/export`, whose answer the browser saves."""
    router = APIRouter(prefix="/api")

    @router.post("/export")
    def export(body: Exporting) -> dict[str, Any]:
        """Moments as the text of one file, or for formats of one video of several files."""
        with context.reader() as reader:
            moments = _moments(context, body)
            items = exported_moments.with_video_details(reader, moments, _clock_reader(context))
        if not items:
            raise VtagError("nothing was found to export")
        suffix = FORMATS[body.format].suffix
        if not FORMATS[body.format].is_of_one_video:
            return {"files": [{"name": f"moments{suffix}", "text": format_writer(body.format)(items)}]}
        return {
            "files": [
                {
                    "name": display_path(os.path.basename(os.path.splitext(video)[0])) + suffix,
                    "text": format_writer(body.format)(of_one),
                }
                for video, of_one in files.group_by_video(items).items()
            ]
        }

    return router


def long_calls(context: PageContext) -> list[LongCall]:
    """What reads or writes many files or rows."""
    return [
        LongCall("cut", Cutting, partial(_cut, context), _GROUP),
        LongCall("sidecars", Chosen, partial(_write_sidecars, context), _GROUP),
        LongCall("relocate", Relocation, partial(_relocate, context), _GROUP),
        LongCall("clean", Cleaning, partial(_clean, context), _GROUP),
        LongCall("forget", Forgetting, partial(_forget, context), _GROUP),
    ]


def _cut(context: PageContext, body: Cutting) -> Iterator[dict[str, Any]]:
    folder = _absolute("folder", body.folder)
    check_template(body.template)
    with context.reader() as reader:
        moments = _moments(context, body)
        player_moments = MomentClocks(reader, _clock_reader(context)).to_player(moments)
    if not moments:
        raise VtagError("nothing was found to cut")
    stems = clip_stems(moments, player_moments, body.template, os.fsencode(folder))
    names = [display_path(os.path.basename(stem)) for _, stem in stems]
    if not body.apply:
        yield {
            "sentence": f"{pluralize(len(stems), 'clip')} would be written to {folder}:",
            "items": names[:_SHOWN],
            "more": max(0, len(names) - _SHOWN),
        }
        return
    _make_folder(folder)
    written = existing = 0
    problems: list[str] = []
    for number, (moment, stem) in enumerate(stems):
        yield {"done": number, "of": len(stems), "what": names[number]}
        suffixes = cutting.candidate_suffixes(moment.path, reencode=body.reencode)
        if any(os.path.lexists(stem + suffix.encode()) for suffix in suffixes):
            existing += 1
            continue
        try:
            cut = partial(
                cutting.cut, moment.path, moment.start_ms, moment.end_ms, stem, reencode=body.reencode
            )
            context.pool.run(cut, Priority.STRIP)
            written += 1
        except VideoError as error:
            problems.append(str(error))
    there = f", {existing} were there already" if existing else ""
    yield {
        "sentence": f"{pluralize(written, 'clip')} written to {folder}{there}.",
        "items": problems[:_SHOWN],
        "more": max(0, len(problems) - _SHOWN),
        "is_done": True,
    }


def _write_sidecars(context: PageContext, body: Chosen) -> Iterator[dict[str, Any]]:
    with context.reader() as reader:
        items = exported_moments.with_video_details(reader, _moments(context, body), _clock_reader(context))
    labels = labels_by_file(items, with_copies=True)
    if not labels:
        raise VtagError("nothing was found to write")
    paths = [display_path(video + b".xmp") for video in labels]
    if not body.apply:
        yield {
            "sentence": f"Keywords would be written beside {pluralize(len(paths), 'video')}, which stay as they are:",
            "items": paths[:_SHOWN],
            "more": max(0, len(paths) - _SHOWN),
        }
        return
    changed, problems = 0, []
    for number, (video, of_one) in enumerate(labels.items()):
        yield {"done": number, "of": len(labels), "what": paths[number]}
        try:
            changed += xmp.merge_into(video + b".xmp", of_one)
        except VtagError as error:
            problems.append(str(error))
    same = len(labels) - changed - len(problems)
    yield {
        "sentence": f"{pluralize(changed, 'sidecar')} written, {same} had all keywords already.",
        "items": problems[:_SHOWN],
        "more": max(0, len(problems) - _SHOWN),
        "is_done": True,
    }


def _relocate(context: PageContext, body: Relocation) -> Iterator[dict[str, Any]]:
    old, new = (os.fsencode(_absolute(field, getattr(body, field))) for field in ("old", "new"))
    with context.writer() as writer:
        if body.apply:
            number, present = cleaning.relocate(writer, old, new)
            sentence = (
                f"{pluralize(number, 'file')} moved to {display_path(new)}; {present} of them exist there."
            )
        else:
            plan = cleaning.plan_relocate(writer, old, new)
            sentence = (
                f"{pluralize(len(plan.moves), 'file')} would be looked for in {display_path(new)} from now on; "
                f"{plan.present} of them exist there."
            )
    yield {"sentence": sentence, "is_done": body.apply}


def _clean(context: PageContext, body: Cleaning) -> Iterator[dict[str, Any]]:
    with context.writer() as writer:
        plan = cleaning.plan_clean(writer)
        if body.apply:
            cleaning.clean(writer, plan)
    absent = [
        f"{root} is gone as a whole, with {pluralize(number, 'file')}: they stay"
        for root, number in plan.absent_roots
    ]
    is_needed = bool(plan.files or plan.contents or plan.stale_observations)
    if not is_needed:
        yield {"sentence": "There is nothing to clean.", "items": absent, "more": 0, "is_done": True}
        return
    what = (
        f"{pluralize(len(plan.files), 'deleted file')}, what was found in {pluralize(len(plan.contents), 'video')} "
        f"without any file, and {pluralize(plan.stale_observations, 'observation')} that nothing needs"
    )
    kept = f" Your {pluralize(plan.annotations, 'annotation')} of them stay." if plan.annotations else ""
    shown = [*absent, *(path for _, path in plan.files[:_SHOWN])]
    yield {
        "sentence": f"{'Removed' if body.apply else 'This would remove'}: {what}.{kept}",
        "items": shown,
        "more": max(0, len(plan.files) - _SHOWN),
        "is_done": body.apply,
    }


def _forget(context: PageContext, body: Forgetting) -> Iterator[dict[str, Any]]:
    with context.writer() as writer:
        if body.model.strip():
            model_id = heads.require_model(writer, body.model.strip())
            name = heads.load_head(writer, model_id).name
            if not body.apply:
                yield {
                    "sentence": f"{name} and all moments that it found would be forgotten; your annotations stay."
                }
                return
            number = forgetting.forget_model(writer, model_id)
            yield {
                "sentence": f"{name} and its {pluralize(number, 'moment')} are forgotten.",
                "is_done": True,
            }
            return
        plan = forgetting.plan_forget(writer, os.fsencode(_absolute("path", body.path)))
        what = f"{pluralize(len(plan.files), 'file')} and what was found in {pluralize(len(plan.contents), 'video')}"
        if not body.apply:
            kept = (
                f" {pluralize(plan.annotations, 'annotation')} of yours would be lost."
                if plan.annotations
                else ""
            )
            yield {
                "sentence": f"{what} would be forgotten. The videos themselves stay.{kept}",
                "annotations": plan.annotations,
            }
            return
        forgetting.forget(writer, plan, with_annotations=body.with_annotations)
    yield {"sentence": f"{what} are forgotten.", "is_done": True}


def _moments(context: PageContext, body: Chosen) -> list[Moment]:
    """The chosen moments. Raises QueryError, FieldError."""
    with context.reader() as reader:
        if body.moments:
            return find_by_ids(reader, body.moments)
        form = body.search
        return find_by_ids(
            reader,
            find_ids(
                reader,
                form.as_query(),
                label=form.label_of_moments,
                limit=_MAX_MOMENTS,
                min_margin=form.margin,
            ),
        )


def _clock_reader(context: PageContext) -> Any:
    """Reads the clock of a video in a process of its own."""

    def read(path: bytes) -> VideoClock | None:
        return context.pool.run(partial(read_clock, path), Priority.PLAN)

    return read


def _absolute(field: str, text: str) -> str:
    """A typed path. Raises FieldError if it is not a whole one."""
    path = str(Path(text.strip()).expanduser())
    if not text.strip() or not os.path.isabs(path):
        raise FieldError(field, "give a folder's whole path, such as /home/me/Clips")
    return path


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise FieldError("folder", f"{display_path(folder)} cannot be made: {error.strerror}") from error
