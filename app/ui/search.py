"""What the Search tab shows: results, similar moments and suggestions. Plain functions without Gradio."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from vtag.app.ui.html_moments import VideoRange, gallery, moment_card, range_card
from vtag.app.ui.html_parts import note, quote_label, section
from vtag.app.ui.html_search import suggestion_rows, welcome
from vtag.engine.errors import QueryError, VtagError
from vtag.engine.jobs.job_queue import active_runs
from vtag.engine.library import page_queries
from vtag.engine.library.analysis import similar
from vtag.engine.library.database import open_reader
from vtag.engine.library.search import labels
from vtag.engine.library.search.moments import everyday_terms, search
from vtag.engine.library.search.query import parse
from vtag.engine.models.registry import STARTER, installed_models
from vtag.engine.text import display_path

PAGE_SIZE = 24  # moments
_MAX_PAGES = 40
_SUGGESTED_LABELS = 80
_MAX_QUERY_LENGTH = 500  # characters in an address
EXAMPLES = ("archery", '"riding a bike" OR skateboarding', "dancing -salsa", "running THEN jumping")


class SearchForm(NamedTuple):
    """The query and the filters next to it. Each field is a parameter in the page's address, too."""

    q: str = ""
    score: float = 0.0  # minimum score
    model: str = ""
    source: str = ""  # "user", "model", or "" for both
    after: str = ""
    before: str = ""

    def as_query(self) -> str:
        """The query with its filters in the query language (docs/search.md)."""
        filters = []
        if self.score > 0:
            filters.append(f"score>={self.score:g}")
        for field in ("model", "source", "after", "before"):
            if value := str(getattr(self, field)).replace('"', " ").strip():
                filters.append(f'{field}:"{value}"')
        return " ".join([f"({self.q})", *filters]) if filters else self.q

    @property
    def is_blank(self) -> bool:
        """Whether the query is empty, whatever the filters are."""
        return not self.q.strip()


def form_from_address(parameters: Mapping[str, str]) -> SearchForm:
    """The search that the parameters of an address describe; invalid values are ignored."""
    try:
        score = min(1.0, max(0.0, float(parameters.get("score", 0))))
    except ValueError:
        score = 0.0
    texts = {
        name: str(parameters.get(name, ""))[:_MAX_QUERY_LENGTH] for name in ("q", "model", "after", "before")
    }
    source = parameters.get("source", "")
    return SearchForm(**texts, score=score, source=source if source in ("user", "model") else "")


def show_results(library: Path, form: SearchForm, pages: int = 1) -> str:
    """The first `pages` pages of matching moments, or the reason why there are none."""
    with closing(open_reader(library)) as reader:
        if page_queries.is_empty(reader):
            return welcome()
        if form.is_blank:
            return _show_latest(reader)
        try:
            parse(form.q)  # alone first, so that an error points into what the person typed
            limit = min(pages, _MAX_PAGES) * PAGE_SIZE
            moments = search(reader, form.as_query(), limit=limit + 1)
        except QueryError as error:
            return note(str(error), is_error=True)
        meanings = suggestion_rows(
            [
                (f"“{text}” searched as", [(label, quote_label(label)) for label in names])
                for text, names in everyday_terms(reader, form.q)
            ]
        )
        if moments:
            cards = map(moment_card, moments[:limit])
            return meanings + gallery(cards, name="Moments found", has_more=len(moments) > limit)
        if meanings:
            return meanings + note("No moment of these labels was found.")
        similar_labels = labels.nearest_labels(reader, form.q)
        hint = f" Similar labels: {', '.join(similar_labels)}." if similar_labels else ""
        return note(f"No moment fits this search.{hint}")


def _show_latest(reader: sqlite3.Connection) -> str:
    """The latest moments; if they fill no page, the latest videos, too, and what leads to more moments."""
    moments = page_queries.latest_moments(reader, PAGE_SIZE)
    if moments:
        content = section("Last seen", gallery(map(moment_card, moments), name="Moments last seen"))
    elif active_runs(reader):
        content = note("No moment was found yet: Scan shows what runs.")
    else:
        content = note(
            "No score reached the threshold of its label. A larger model (Library) recognizes more. A lower "
            "threshold (`vtag retag --threshold 0.2`) shows more. You can also add tags of your own in Watch and "
            "teach them."
        )
    videos = page_queries.latest_videos(reader, PAGE_SIZE) if len(moments) < PAGE_SIZE else []
    if not videos:
        return content
    cards = [
        range_card(VideoRange(video, display, 0, length_ms, ""), has_similar=True)
        for video, display, length_ms in videos
    ]
    return content + section("Videos", gallery(cards, name="Videos last seen"))


def show_similar_to_moment(library: Path, moment_id: int) -> str:
    """Moments that look like the middle of a moment, most similar first."""
    with closing(open_reader(library)) as reader:
        moment_range = page_queries.moment_range(reader, moment_id)
    if moment_range is None:
        return note("This moment is gone: search again.", is_error=True)
    content, start_ms, end_ms = moment_range
    return show_similar_to_time(library, content, (start_ms + end_ms) // 2)


def show_similar_to_time(library: Path, content: int, time_ms: int) -> str:
    """Moments that look like a video at `time_ms`, most similar first."""
    try:
        query = similar.query_from_content(library, content, time_ms)
        if query is None:
            return note("The library's model has no observation of this time: scan the video again.")
        neighbours = similar.find_similar(library, query, limit=PAGE_SIZE)
    except VtagError as error:
        return note(str(error), is_error=True)
    cards = [
        range_card(
            VideoRange(n.content_id, display_path(n.path), n.start_ms, n.end_ms, f"{n.score:.2f} alike"),
            label=n.label,
            has_similar=True,
        )
        for n in neighbours
    ]
    return section("More like this", gallery(cards, name="Moments that look alike"))


def show_suggestions(library: Path) -> str:
    """Queries to press: examples, and the groups and labels that have moments."""
    with closing(open_reader(library)) as reader:
        if page_queries.is_empty(reader):
            return ""
        names = page_queries.labels_with_moments(reader)
    vocabulary = labels.vocabulary()
    groups = sorted({group for name in names for group in vocabulary.groups_of(name)})
    # an example without results in this library would not help
    examples = [example for example in EXAMPLES if any(name in example for name in names)] or [
        quote_label(name) for name in names[:1]
    ]
    return suggestion_rows(
        [
            ("Examples", [(example, example) for example in examples]),
            ("Groups", [(group, quote_label(group)) for group in groups]),
            ("Labels", [(name, quote_label(name)) for name in names[:_SUGGESTED_LABELS]]),
        ]
    )


def model_choices(library: Path) -> list[tuple[str, str]]:
    """Caption and value of the models by which results can be filtered."""
    with closing(open_reader(library)) as reader:
        return [("any", ""), *((name, name) for name in page_queries.models(reader))]


def scan_model_choices() -> list[tuple[str, str]]:
    """Caption and value of the models with which a scan can run."""
    names = dict.fromkeys([STARTER, *(model.name for model in installed_models() if model.kind == "video")])
    return [("the library's own, else the best that is here", ""), *((name, name) for name in names)]
