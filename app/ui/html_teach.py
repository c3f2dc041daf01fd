"""Tags that were taught, and what was measured of them, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtag.app.ui.html_charts import confusion, curves
from vtag.app.ui.html_parts import button, note, table, text


def your_tags(counted: Sequence[tuple[str, int]]) -> str:
    """The labels that a person used, to go on with one."""
    if not counted:
        return note("Name a tag of your own, find a few moments that show it, and say Yes to them.")
    made = "".join(
        f"<li>{button('teach', f'{label} ({number:,})', about=f'Go on with {label}', told={'tag': label})}</li>"
        for label, number in counted
    )
    return f'<h2>Your tags</h2><ul class="vtag-chips" aria-label="Your tags">{made}</ul>'


def change_form(tag: str) -> str:
    """What can be done with a tag as a whole."""
    return (
        f'<form class="vtag-form" data-do="retitle" data-tag="{text(tag)}"><label>New name '
        '<input name="name" required maxlength="200" autocomplete="off"></label>'
        '<button class="vtag-button">Rename the tag</button>'
        f"{button('drop', 'Remove the tag', about=f'Remove the tag: {tag}', told={'tag': tag})}</form>"
    )


def figures_of(told: Mapping[str, Any]) -> str:
    """What was measured on examples that the head had not seen: per tag, and over all."""
    labels = told.get("labels", {})
    rows = [
        (
            text(label),
            text(row.get("clips", "")),
            text(row.get("sources", "")),
            _percent(row.get("recall")),
            _percent(row.get("precision")),
            text(f"{row.get('threshold', 0):.2f}"),
        )
        for label, row in labels.items()
    ]
    heads = ("Tag", "Examples", "Videos", "Found", "Right", "Threshold")
    remarks = "".join(note(str(remark)) for remark in told.get("remarks", ()))
    wrong = told.get("false_per_hour", told.get("false_moments_per_hour"))
    rate = ""
    if wrong is not None:
        hours = told.get("negative_hours", 0)
        rate = note(f"{wrong:.1f} false moments an hour, over {hours:.1f} hours of your library")
    return f"{table('What was measured', heads, rows)}{rate}{remarks}"


def model_report(name: str, metrics: Mapping[str, Any], history: Mapping[str, Sequence[float]]) -> str:
    """What was measured of a model: the table per tag, the confusion matrix, and the curves of its training."""
    shown = f"<details><summary>{text(name)}</summary>{figures_of(metrics)}"
    matrix = metrics.get("confusion")
    labels = list(metrics.get("labels", {}))
    if isinstance(matrix, list) and len(matrix) == len(labels):
        shown += confusion(labels, matrix)
    return f"{shown}{training_curves(history)}</details>"


def training_curves(history: Mapping[str, Sequence[float]]) -> str:
    """Loss and accuracy over epochs, on what is learned from and on what is kept for validation."""
    shown = ""
    for word in ("loss", "accuracy"):
        named = {"training": history.get(word), "validation": history.get(f"val_{word}")}
        lines = {name: values for name, values in named.items() if values}
        if lines:
            shown += curves(word.capitalize(), lines, 1.0 if word == "accuracy" else None)
    return f'<div class="vtag-curves">{shown}</div>' if shown else ""


def left_trainings(names: Sequence[str]) -> str:
    """Trainings that were left before their end, to discard; the same again goes on with one."""
    rows = "".join(
        f"<li><strong>{text(name)}</strong> was left before its end: the same folder and settings go on with it. "
        f"{button('drop', 'Discard', about=f'Discard the unfinished training of {name}', told={'name': name})}</li>"
        for name in names
    )
    return f'<h3>Unfinished</h3><ul class="vtag-queue">{rows}</ul>' if rows else ""


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
