"""Searches: moments with their counts, similar moments, suggestions and labels."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from vtag.app.ui.api.context import PageContext
from vtag.app.ui.api.errors import GoneError
from vtag.app.ui.api.player_clocks import PlayerClocks
from vtag.app.ui.api.row_ids import RowId
from vtag.app.ui.api.search_form import SearchParameters
from vtag.engine.library import page_queries
from vtag.engine.library.analysis import similar
from vtag.engine.library.certainty import library_min_margin
from vtag.engine.library.search import labels
from vtag.engine.library.search.moments import everyday_terms, label_counts
from vtag.engine.library.store.clocks import content_clock
from vtag.engine.library.views.results import FoundMoment, count_results, find_ids, find_results
from vtag.engine.text import display_path

_MAX_PAGE = 200  # moments in one answer
_MAX_OFFSET = 20_000  # nobody scrolls further; narrowing the search leads there
_MAX_SELECTED = 20_000
_SUGGESTED_LABELS = 200
EXAMPLES = ("archery", '"riding a bike" OR skateboarding', "dancing -salsa", "running THEN jumping")

Offset = Annotated[int, Query(ge=0, le=_MAX_OFFSET)]
Limit = Annotated[int, Query(ge=1, le=_MAX_PAGE)]
Sort = Literal["score", "date", "length"]


def card_as_json(card: FoundMoment, clocks: PlayerClocks) -> dict[str, Any]:
    """What a card shows of a moment."""
    moment, content, verdict, recorded_at = card
    path = display_path(moment.path)
    return {
        "id": moment.id,
        "content": content,
        "label": moment.label,
        **clocks.range_as_json(content, moment.start_ms, moment.end_ms),
        "score": round(moment.score, 4),
        "sure": moment.sure,
        "model": moment.model,
        "source": moment.source,
        "verdict": verdict,
        "recorded_at": recorded_at,
        "present": moment.present,
        "name": path.rsplit("/", 1)[-1],
        "path": path,
    }


def build_router(context: PageContext) -> APIRouter:
    """The routes below `api/`."""
    router = APIRouter(prefix="/api")

    @router.get("/moments")
    def moments(
        form: SearchParameters, sort: Sort = "score", offset: Offset = 0, limit: Limit = 60
    ) -> dict[str, Any]:
        """The moments of a search from `offset` on, and on the first page what its everyday phrases mean."""
        with context.reader() as reader:
            query = form.as_query()
            results = find_results(
                reader,
                query,
                label=form.label_of_moments,
                sort=sort,
                offset=offset,
                limit=limit,
                min_margin=form.margin,
            )
            clocks = PlayerClocks(reader)
            answer: dict[str, Any] = {
                "moments": [card_as_json(card, clocks) for card in results.moments],
                "has_more": results.has_more,
            }
            if form.q.strip() and offset == 0:
                answer["meanings"] = everyday_terms(reader, form.q)
                if not results.moments:
                    answer["near"] = labels.nearest_labels(reader, form.q)
        return answer

    @router.get("/moments/counts")
    def counts(form: SearchParameters) -> dict[str, Any]:
        """The number of moments of a search, and how many there are by label, folder, year, model and source."""
        with context.reader() as reader:
            counts = count_results(
                reader, form.as_query(), label=form.label_of_moments, min_margin=form.margin
            )
            return {**counts._asdict(), "margin": library_min_margin(reader)}

    @router.get("/moments/ids")
    def ids(form: SearchParameters, sort: Sort = "score") -> dict[str, Any]:
        """The ids of a search's first moments, to select them all."""
        with context.reader() as reader:
            moment_ids = find_ids(
                reader,
                form.as_query(),
                label=form.label_of_moments,
                sort=sort,
                limit=_MAX_SELECTED + 1,
                min_margin=form.margin,
            )
        return {"ids": moment_ids[:_MAX_SELECTED], "is_complete": len(moment_ids) <= _MAX_SELECTED}

    @router.get("/similar")
    def similar_moments(
        content: RowId = 0, time_ms: RowId = 0, moment: RowId = 0, offset: Offset = 0, limit: Limit = 60
    ) -> dict[str, Any]:
        """Moments that look like the middle of `moment`, or like `content` at `time_ms`."""
        with context.reader() as reader:
            if moment:
                moment_range = page_queries.moment_range(reader, moment)
                if moment_range is None:
                    raise GoneError("this moment is gone: search again")
                content, time_ms = moment_range[0], (moment_range[1] + moment_range[2]) // 2
            video = page_queries.find_video(reader, content)
            clock = content_clock(reader, content)
        if video is None:
            raise GoneError("this video is gone from the library")
        library_ms = time_ms if moment else clock.library_ms(time_ms)
        query = similar.query_from_content(context.library, content, library_ms)
        if query is None:
            raise GoneError("nothing is known of how this moment looks: scan the video again")
        similar_moments = _spread_over_videos(context, query, offset + limit + 1)
        player_ms = clock.player_ms(library_ms)
        with context.reader() as reader:
            clocks = PlayerClocks(reader)
            page = [_similar_as_json(each, clocks) for each in similar_moments[offset : offset + limit]]
        return {
            "moments": page,
            "has_more": len(similar_moments) > offset + limit,
            "like": {"content": content, "time_ms": player_ms, "name": video.display.rsplit("/", 1)[-1]},
        }

    @router.get("/suggestions")
    def suggestions() -> dict[str, Any]:
        """Queries that find something here: examples, groups of labels, and labels."""
        with context.reader() as reader:
            names = page_queries.labels_with_moments(reader)
            examples = [example for example in EXAMPLES if find_results(reader, example, limit=1).moments]
        vocabulary = labels.vocabulary()
        groups = sorted({group for name in names for group in vocabulary.groups_of(name)})
        return {"examples": examples, "groups": groups, "labels": names[:_SUGGESTED_LABELS]}

    @router.get("/labels")
    def all_labels() -> dict[str, Any]:
        """The names of all labels, for fields that take one, with their ids, for their colours."""
        with context.reader() as reader:
            return {"labels": page_queries.label_ids(reader)}

    @router.get("/labels/counts")
    def counted_labels() -> dict[str, Any]:
        """Labels with their number of moments, most first."""
        with context.reader() as reader:
            return {"labels": [row for row in label_counts(reader) if row[1]]}

    return router


def _spread_over_videos(
    context: PageContext, query: similar.SimilarityQuery, count: int
) -> list[similar.SimilarMoment]:
    """The `count` most similar moments: first the best of each video, then the others."""
    best = similar.find_similar(context.library, query, limit=count, per_video=1)
    if len(best) == count:
        return best
    others = similar.find_similar(context.library, query, limit=2 * count)
    return [*best, *(moment for moment in others if moment not in best)][:count]


def _similar_as_json(moment: similar.SimilarMoment, clocks: PlayerClocks) -> dict[str, Any]:
    path = display_path(moment.path)
    return {
        "content": moment.content_id,
        "label": moment.label,
        **clocks.range_as_json(moment.content_id, moment.start_ms, moment.end_ms),
        "alike": round(moment.score, 4),
        "present": moment.present,
        "name": path.rsplit("/", 1)[-1],
        "path": path,
    }
