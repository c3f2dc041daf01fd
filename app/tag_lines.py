"""The line of a tag in sentences, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.text import pluralize

if TYPE_CHECKING:
    from vtag.engine.library.analysis.tag_line import LinePreview


def preview_sentence(tag: str, preview: LinePreview) -> str:
    """What a tag would find with its line, about how much of it is wrong, and what comes next below the line."""
    others = preview.found - preview.confirmed
    sentence = f"From {preview.line:.2f} on it is {tag}: {pluralize(preview.found, 'moment')}"
    if preview.confirmed:
        sentence += f", {preview.confirmed} of them confirmed by you"
    if others:
        about = round(preview.wrong)
        which = "the others" if preview.confirmed else "them"
        sentence += (
            f"; about {about} of {which} may be wrong" if about else f"; hardly any of {which} is wrong"
        )
    below = "" if preview.below is None else f" The next below scores {preview.below:.2f}."
    return f"{sentence}.{below}"


def known_sentence(tag: str, line: float, yes: Sequence[float], no: Sequence[float]) -> str:
    """What is known to lie above and below the line of a tag, from scores of heads that did not learn from it."""
    above = sum(score >= line for score in yes)
    wrong = sum(score >= line for score in no)
    sentence = f"{tag}: from {line:.2f} on it is this tag. Above lie {above} of {len(yes)} examples"
    if no:
        sentence += f" and {wrong} of {len(no)} others"
    below = [
        f"{name} {max(scores):.2f}"
        for name, scores in (
            ("examples up to", [score for score in yes if score < line]),
            ("others up to", [score for score in no if score < line]),
        )
        if scores
    ]
    return f"{sentence}; below lie {' and '.join(below)}" if below else sentence
