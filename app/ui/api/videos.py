"""One video: its facts, its tags, and the score of any label over it."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query

from vtag.app.ui.api.context import PageContext
from vtag.app.ui.api.errors import FieldError, GoneError
from vtag.app.ui.api.player_clocks import PlayerClocks
from vtag.app.ui.api.row_ids import RowId
from vtag.engine.library import page_queries
from vtag.engine.library.analysis.curves import Curve, score_curve
from vtag.engine.library.certainty import COUNTED_MARGIN
from vtag.engine.library.page_queries import MomentRow, PlayableVideo
from vtag.engine.library.store.clocks import content_clock
from vtag.engine.text import normalize_label
from vtag.engine.video_clock import VideoClock

_CURVE_POINTS = 1200  # more than a screen can show side by side


def moment_as_json(moment: MomentRow, clocks: PlayerClocks, content: int) -> dict[str, Any]:
    """A tag of the list beside the player."""
    return {
        "id": moment.id,
        "label": moment.label,
        **clocks.range_as_json(content, moment.start_ms, moment.end_ms),
        "score": round(moment.score, 4),
        "sure": bool(moment.sure),
        "model": moment.model,
        "is_own": moment.is_own,
        "verdict": moment.verdict,
    }


def video_as_json(video: PlayableVideo, moments: list[MomentRow], clocks: PlayerClocks) -> dict[str, Any]:
    """A video with its tags."""
    return {
        "id": video.id,
        "name": video.display.rsplit("/", 1)[-1],
        "path": video.display,
        "duration_ms": clocks.duration_ms(video.id, video.duration_ms),
        "recorded_at": video.recorded_at,
        "codec": video.codec,
        "width": video.width,
        "height": video.height,
        "is_connected": video.path is not None,
        "moments": [moment_as_json(moment, clocks, video.id) for moment in moments],
    }


def read_video(context: PageContext, content: int, *, less_sure: bool) -> dict[str, Any]:
    """The video with this content id and its tags, with `less_sure` also those that are worth a look.

    Raises GoneError.
    """
    with context.reader() as reader:
        video = page_queries.find_video(reader, content)
        if video is None:
            raise GoneError("this video is gone from the library: search again")
        min_margin = COUNTED_MARGIN if less_sure else None
        moments = page_queries.video_moments(reader, content, min_margin=min_margin)
        return video_as_json(video, moments, PlayerClocks(reader))


def build_router(context: PageContext) -> APIRouter:
    """The routes below `api/videos/`."""
    router = APIRouter(prefix="/api/videos")

    @router.get("/{content}")
    def video(content: RowId, less_sure: bool = False) -> dict[str, Any]:
        """A video with its tags."""
        return read_video(context, content, less_sure=less_sure)

    @router.get("/{content}/curve")
    def curve(content: RowId, label: Annotated[str, Query(max_length=200)]) -> dict[str, Any]:
        """The score of a label over the video."""
        label = normalize_label(label)
        with context.writer() as writer:
            names = {name.casefold(): name for name in page_queries.labels(writer.connection)}
            if label.casefold() not in names:
                raise FieldError("label", f"no label is called {label!r}")
            clock = content_clock(writer.connection, content)
            return _curve_as_json(score_curve(writer, content, names[label.casefold()]), clock)

    return router


def _curve_as_json(curve: Curve, clock: VideoClock) -> dict[str, Any]:
    """Points [time_ms, score], the highest score of each of at most _CURVE_POINTS stretches."""
    middles = curve.windows.mean(axis=1) if len(curve.windows) else np.zeros(0)
    chunks = np.array_split(np.arange(len(middles)), max(1, min(len(middles), _CURVE_POINTS)))
    points = [
        [clock.player_ms(round(float(middles[chunk].mean()))), round(float(curve.scores[chunk].max()), 4)]
        for chunk in chunks
        if len(chunk)
    ]
    return {"label": curve.label, "points": points, "threshold": round(curve.threshold, 4)}
