"""Tools: relocate, clean and forget. Each says first what it would do; `apply` does it."""

from __future__ import annotations

import os
from collections.abc import Generator
from functools import partial
from typing import Any

from pydantic import BaseModel, Field

from vtag.app.ui.api.context import PageContext
from vtag.app.ui.api.moment_files import FILES_GROUP, MAX_CHOSEN
from vtag.app.ui.api.row_ids import RowId
from vtag.app.ui.api.typed_paths import absolute_path
from vtag.app.ui.long_calls import LongCall
from vtag.engine.errors import VtagError
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.maintenance import clean as cleaning
from vtag.engine.library.maintenance import forget as forgetting
from vtag.engine.library.store import heads
from vtag.engine.models import registry
from vtag.engine.text import display_path, pluralize

_SHOWN = 12  # examples in a preview


class Relocation(BaseModel):
    """A folder's former and present path."""

    old: str = Field(max_length=4096)
    new: str = Field(max_length=4096)
    apply: bool = False


class Forgetting(BaseModel):
    """A path, videos by their ids, or the name of a model, to forget."""

    path: str = Field("", max_length=4096)
    videos: list[RowId] = Field(default_factory=list, max_length=MAX_CHOSEN)
    model: str = Field("", max_length=1024)
    with_annotations: bool = False
    apply: bool = False


class Cleaning(BaseModel):
    """Whether to clean."""

    apply: bool = False


class ModelRemoval(BaseModel):
    """An installed model, whose files go."""

    name: str = Field(max_length=1024)
    apply: bool = False


def long_calls(context: PageContext) -> list[LongCall]:
    """What changes many rows of the library."""
    return [
        LongCall("relocate", Relocation, partial(_relocate, context), FILES_GROUP),
        LongCall("clean", Cleaning, partial(_clean, context), FILES_GROUP),
        LongCall("forget", Forgetting, partial(_forget, context), FILES_GROUP),
        LongCall("remove_model", ModelRemoval, _remove_model, FILES_GROUP),
    ]


def _relocate(context: PageContext, body: Relocation) -> Generator[dict[str, Any], None, None]:
    old, new = (os.fsencode(absolute_path(field, getattr(body, field))) for field in ("old", "new"))
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


def _clean(context: PageContext, body: Cleaning) -> Generator[dict[str, Any], None, None]:
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


def _forget(context: PageContext, body: Forgetting) -> Generator[dict[str, Any], None, None]:
    with context.writer() as writer:
        yield _forget_model(writer, body) if body.model.strip() else _forget_videos(writer, body)


def _forget_model(writer: LibraryWriter, body: Forgetting) -> dict[str, Any]:
    model_id = heads.require_model(writer, body.model.strip())
    name = heads.load_head(writer, model_id).name
    if not body.apply:
        return {
            "sentence": f"{name} and all moments that it found would be forgotten; your annotations stay."
        }
    number = forgetting.forget_model(writer, model_id)
    return {"sentence": f"{name} and its {pluralize(number, 'moment')} are forgotten.", "is_done": True}


def _forget_videos(writer: LibraryWriter, body: Forgetting) -> dict[str, Any]:
    if body.videos:
        plan = forgetting.plan_forget_contents(writer, body.videos)
    else:
        plan = forgetting.plan_forget(writer, os.fsencode(absolute_path("path", body.path)))
    what = (
        f"{pluralize(len(plan.files), 'file')} and what was found in {pluralize(len(plan.contents), 'video')}"
    )
    annotations = f"{pluralize(plan.annotations, 'annotation')} of yours would be lost"
    if not body.apply:
        sentences = [f"{what} would be forgotten. The videos themselves stay"]
        sentences += ["the next scan of their folder finds them again" if body.videos else ""]
        sentences += [annotations] if plan.annotations else []
        text = ". ".join(sentence[0].upper() + sentence[1:] for sentence in sentences if sentence)
        return {"sentence": f"{text}.", "annotations": plan.annotations}
    if plan.annotations and not body.with_annotations:
        raise VtagError(f"{annotations}: say that they may go, too")
    forgetting.forget(writer, plan, with_annotations=body.with_annotations)
    return {"sentence": f"{what} are forgotten.", "is_done": True}


def _remove_model(body: ModelRemoval) -> Generator[dict[str, Any], None, None]:
    size = f"{registry.disk_usage(body.name) / 1e6:,.0f} MB"
    if body.apply:
        registry.remove_model(body.name)
    would = "are deleted" if body.apply else "would be deleted from this machine"
    yield {
        "sentence": f"The files of {body.name} ({size}) {would}. What it found stays in the library.",
        "is_done": body.apply,
    }
