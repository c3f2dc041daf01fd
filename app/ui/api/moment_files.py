"""Files from moments: cut, export and sidecars. Each says first what it would do; `apply` does it."""

from __future__ import annotations

import base64
import io
import os
import sqlite3
import zipfile
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from vtag.app.sidecars import labels_by_file
from vtag.app.ui.api.context import PageContext
from vtag.app.ui.api.errors import FieldError
from vtag.app.ui.api.row_ids import RowId
from vtag.app.ui.api.search_form import SearchForm
from vtag.app.ui.api.typed_paths import absolute_path
from vtag.app.ui.long_calls import LongCall
from vtag.app.video_clocks import read_clock, read_has_sound
from vtag.engine.clip_stems import clip_stems
from vtag.engine.errors import VideoError, VtagError
from vtag.engine.library.exports import FORMATS, WITH_SOUND, exported_moments, files, format_writer, xmp
from vtag.engine.library.search.moments import Moment
from vtag.engine.library.search.player_times import MomentClocks
from vtag.engine.library.views.results import find_by_ids, find_ids, moments_of_videos
from vtag.engine.text import display_path, pluralize
from vtag.engine.video.write import cut as cutting
from vtag.engine.video.write.clip_names import check_template
from vtag.engine.video.write.render_pool import Priority
from vtag.engine.video_clock import VideoClock

MAX_CHOSEN = 20_000  # moments or videos in one request
FILES_GROUP = "files"  # what writes files or rows: one at a time
_SHOWN = 12  # examples in a preview
_TEMPLATE = "{name} {start} {label}"
_CUT_LIMIT_S, _CUT_LIMIT_SHARE = 60.0, 30.0  # a clip may take so long, and so many times its own length
_NOTHING = "there is no sure moment to {}: choose others, or also the less sure ones"
_GONE = "what was chosen is not there any more: choose again"
_TOO_MANY = f"these are more than {MAX_CHOSEN:,} moments: choose fewer videos, or a search that finds less"


class Chosen(BaseModel):
    """Moments by their ids, else those of the videos with these ids, else all that a search finds."""

    moments: list[RowId] = Field(default_factory=list, max_length=MAX_CHOSEN)
    videos: list[RowId] = Field(default_factory=list, max_length=MAX_CHOSEN)
    search: SearchForm = SearchForm()
    maybe: bool = False  # of videos and of a search, also the moments that are less sure
    apply: bool = False


class Cutting(Chosen):
    """Moments as video files in a folder."""

    folder: str = Field("", max_length=4096)
    template: str = Field(_TEMPLATE, max_length=200)
    reencode: bool = False


class Exporting(Chosen):
    """Moments in the format of another program."""

    format: Literal[
        "csv",
        "json",
        "srt",
        "vtt",
        "edl",
        "otio",
        "chapters",
        "mpv",
        "m3u8",
        "matroska",
        "kdenlive",
        "fcpxml",
    ] = "csv"


def build_router(context: PageContext) -> APIRouter:
    """The route `api/export`, whose answer the browser saves."""
    router = APIRouter(prefix="/api")

    @router.post("/export/plan")
    def plan(body: Exporting) -> dict[str, Any]:
        """What an export would save, as a sentence."""
        with context.reader() as reader:
            moments = _moments(reader, body)
        if not moments:
            raise VtagError(_NOTHING.format("export"))
        videos = len({moment.path for moment in moments})
        is_many = FORMATS[body.format].is_of_one_video and videos > 1
        form = "one file for each video, all in a zip file" if is_many else "one file"
        what = f"{pluralize(len(moments), 'moment')} in {pluralize(videos, 'video')}"
        return {"sentence": f"The browser saves {what}: {form}."}

    @router.post("/export")
    def export(body: Exporting) -> dict[str, Any]:
        """The file to save: its name, and its text or, for several files, a zip file in base 64."""
        with context.reader() as reader:
            moments = _moments(reader, body)
            has_sound = _sound_reader(context) if body.format in WITH_SOUND else lambda _: True
            items = exported_moments.with_video_details(reader, moments, _clock_reader(context), has_sound)
        if not items:
            raise VtagError(_NOTHING.format("export"))
        suffix, write = FORMATS[body.format].suffix, format_writer(body.format)
        if not FORMATS[body.format].is_of_one_video:
            return {"name": f"moments{suffix}", "text": write(items)}
        videos = files.group_by_video(items)
        paths = files.export_paths(list(videos), b"", suffix)
        texts = {display_path(paths[video]): write(of_one) for video, of_one in videos.items()}
        if len(texts) == 1:
            name, text = next(iter(texts.items()))
            return {"name": name, "text": text}
        return {"name": f"moments-{body.format}.zip", "base64": _zip(texts)}

    return router


def long_calls(context: PageContext) -> list[LongCall]:
    """What reads or writes many files."""
    return [
        LongCall("cut", Cutting, partial(_cut, context), FILES_GROUP, "Cut"),
        LongCall("sidecars", Chosen, partial(_write_sidecars, context), FILES_GROUP, "Keywords"),
    ]


def _cut(context: PageContext, body: Cutting) -> Generator[dict[str, Any], None, None]:
    folder = absolute_path("folder", body.folder)
    check_template(body.template)
    with context.reader() as reader:
        moments = _moments(reader, body)
        player_moments = MomentClocks(reader, _clock_reader(context)).to_player(moments)
    if not moments:
        raise VtagError(_NOTHING.format("cut"))
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
            limit_s = _CUT_LIMIT_S + _CUT_LIMIT_SHARE * (moment.end_ms - moment.start_ms) / 1000
            context.pool.run(cut, Priority.STRIP, limit_s=limit_s)
            written += 1
        except VideoError as error:
            problems.append(str(error))
    there = f", {existing} {'was' if existing == 1 else 'were'} there already" if existing else ""
    yield {
        "sentence": f"{pluralize(written, 'clip')} written to {folder}{there}.",
        "items": problems[:_SHOWN],
        "more": max(0, len(problems) - _SHOWN),
        "is_done": True,
    }


def _write_sidecars(context: PageContext, body: Chosen) -> Generator[dict[str, Any], None, None]:
    with context.reader() as reader:
        items = exported_moments.with_video_details(reader, _moments(reader, body), _clock_reader(context))
    labels = labels_by_file(items, with_copies=True)
    if not labels:
        raise VtagError(_NOTHING.format("write"))
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


def _zip(texts: dict[str, str]) -> str:
    """A zip file of texts by their names, in base 64."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in texts.items():
            file.writestr(name, text.encode("utf-8", "replace"))
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _moments(reader: sqlite3.Connection, body: Chosen) -> list[Moment]:
    """The chosen moments. Raises QueryError, FieldError; VtagError if they are gone or too many."""
    form = body.search
    if body.moments:
        if not (moments := find_by_ids(reader, body.moments)):
            raise VtagError(_GONE)
        return moments
    if body.videos:
        moments = moments_of_videos(reader, body.videos, less_sure=body.maybe, limit=MAX_CHOSEN + 1)
    else:
        moment_ids = find_ids(
            reader,
            form.as_query(),
            label=form.label_of_moments,
            limit=MAX_CHOSEN + 1,
            less_sure="all" if body.maybe else "none",
            min_margin=form.margin,
        )
        moments = find_by_ids(reader, moment_ids)
    if len(moments) > MAX_CHOSEN:
        raise VtagError(_TOO_MANY)
    return moments


def _clock_reader(context: PageContext) -> Any:
    """Reads the clock of a video in a process of its own."""

    def read(path: bytes) -> VideoClock | None:
        return context.pool.run(partial(read_clock, path), Priority.PLAN)

    return read


def _sound_reader(context: PageContext) -> Callable[[bytes], bool]:
    """Looks whether a video has sound, in a process of its own."""

    def read(path: bytes) -> bool:
        return context.pool.run(partial(read_has_sound, path), Priority.PLAN)

    return read


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise FieldError("folder", f"{display_path(folder)} cannot be made: {error.strerror}") from error
