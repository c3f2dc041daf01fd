"""What a search shows: plain functions over the library, without Gradio."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from vtag.app.ui.html_moments import Place, card, gallery, place_card
from vtag.app.ui.html_parts import chips, note, quoted, welcome
from vtag.engine.errors import QueryError, VtagError
from vtag.engine.jobs.job_queue import active_runs
from vtag.engine.library import page_queries
from vtag.engine.library.analysis import similar
from vtag.engine.library.database import open_reader
from vtag.engine.library.search import labels
from vtag.engine.library.search.moments import search
from vtag.engine.library.search.query import parse
from vtag.engine.text import display_path

PAGE = 24  # moments
_MOST_PAGES = 40
_LABELS = 80  # named below the search box
_MOST_QUERY = 500
EXAMPLES = ("archery", '"riding a bike" OR skateboarding', "dancing -salsa", "running THEN jumping")


class Asked(NamedTuple):
    """A search: the words, and the filters beside them; a field is a name in the page's address."""

    q: str = ""
    score: float = 0.0
    model: str = ""
    source: str = ""  # user, model
    after: str = ""
    before: str = ""

    def as_query(self) -> str:
        """The whole as one query of the search's language (docs/search.md)."""
        parts = []
        if self.score > 0:
            parts.append(f"score>={self.score:g}")
        for field in ("model", "source", "after", "before"):
            if value := str(getattr(self, field)).replace('"', " ").strip():
                parts.append(f'{field}:"{value}"')
        return " ".join([f"({self.q})", *parts]) if parts else self.q

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is looked for."""
        return not self.q.strip()


def from_address(parameters: Mapping[str, str]) -> Asked:
    """The search that an address carries; what makes no sense in it is left out."""
    try:
        score = min(1.0, max(0.0, float(parameters.get("score", 0))))
    except ValueError:
        score = 0.0
    texts = {name: str(parameters.get(name, ""))[:_MOST_QUERY] for name in ("q", "model", "after", "before")}
    source = parameters.get("source", "")
    return Asked(**texts, score=score, source=source if source in ("user", "model") else "")


def found(library: Path, asked: Asked, pages: int = 1) -> str:
    """The moments that fit, `pages` pages of them, or the sentence that says why there are none."""
    with closing(open_reader(library)) as reader:
        if page_queries.is_empty(reader):
            return welcome()
        if asked.is_nothing:
            return _newest(reader)
        try:
            parse(asked.q)  # so that an error points into what the person wrote
            limit = min(pages, _MOST_PAGES) * PAGE
            moments = search(reader, asked.as_query(), limit=limit + 1)
        except QueryError as error:
            return note(str(error), is_error=True)
        if moments:
            return gallery(map(card, moments[:limit]), name="Moments found", more=len(moments) > limit)
        near = labels.nearest_labels(reader, asked.q)
        hint = f" Near to it: {', '.join(near)}." if near else ""
        return note(f"No moment fits this search.{hint}")


def _newest(reader: sqlite3.Connection) -> str:
    """The moments found last; where they fill no page, the videos, to watch all the same, and what finds more."""
    latest, shown = page_queries.latest_moments(reader, PAGE), ""
    if latest:
        shown = f"<h2>Found last</h2>{gallery(map(card, latest), name='Moments found last')}"
    elif active_runs(reader):
        shown = note("No moment was found yet: Scan shows what runs.")
    else:
        shown = note(
            "Nothing that was seen reached the threshold of its label. A fuller model (Library) sees more, a lower "
            "threshold (`vtag retag --threshold 0.2`) says more, and tags of your own can be added in Watch "
            "and taught."
        )
    videos = page_queries.latest_videos(reader, PAGE) if len(latest) < PAGE else []
    cards = [place_card(Place(video, display, 0, ms, ""), is_like=True) for video, display, ms in videos]
    return f"{shown}<h2>Videos</h2>{gallery(cards, name='Videos seen last')}" if cards else shown


def similar_to(library: Path, moment_id: int) -> str:
    """What looks like the middle of a moment, most similar first."""
    with closing(open_reader(library)) as reader:
        place = page_queries.moment_range(reader, moment_id)
    if place is None:
        return note("This moment is gone: search again.", is_error=True)
    content, start_ms, end_ms = place
    return similar_at(library, content, (start_ms + end_ms) // 2)


def similar_at(library: Path, content: int, at_ms: int) -> str:
    """What looks like a video at `at_ms`, most similar first."""
    try:
        like = similar.query_from_content(library, content, at_ms)
        if like is None:
            return note("Nothing was seen of this moment by the library's model: scan its video again.")
        found = similar.find_similar(library, like, limit=PAGE)
    except VtagError as error:
        return note(str(error), is_error=True)
    cards = [
        place_card(
            Place(s.content_id, display_path(s.path), s.start_ms, s.end_ms, f"{s.score:.2f} alike"),
            label=s.label,
            is_like=True,
        )
        for s in found
    ]
    return f"<h2>More like this</h2>{gallery(cards, name='Moments that look alike')}"


def suggestions(library: Path) -> str:
    """Examples, and the groups and labels of which there are moments, to press."""
    with closing(open_reader(library)) as reader:
        if page_queries.is_empty(reader):
            return ""
        names = page_queries.labels_with_moments(reader)
    known = labels.vocabulary()
    groups = sorted({group for name in names for group in known.groups_of(name)})
    # an example that finds nothing here teaches nothing
    examples = [example for example in EXAMPLES if any(name in example for name in names)] or [
        quoted(name) for name in names[:1]
    ]
    rows = [("Examples", [(example, example) for example in examples])]
    rows.append(("Groups", [(group, quoted(group)) for group in groups]))
    rows.append(("Labels", [(name, quoted(name)) for name in names[:_LABELS]]))
    return "".join(
        f'<div class="vtag-suggested"><span>{name}</span>{chips(name, queries)}</div>'
        for name, queries in rows
        if queries
    )


def models(library: Path) -> list[tuple[str, str]]:
    """The models that a search can be narrowed to."""
    with closing(open_reader(library)) as reader:
        return [("any", ""), *((name, name) for name in page_queries.models(reader))]


def scan_models() -> list[tuple[str, str]]:
    """The models that a scan can use."""
    from vtag.engine.models.registry import STARTER, installed_models

    names = dict.fromkeys([STARTER, *(model.name for model in installed_models() if model.kind == "video")])
    return [("the library's own, else the best that is here", ""), *((name, name) for name in names)]
