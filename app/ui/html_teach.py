"""The Teach tab as HTML: tags with their examples, and the metrics and curves of trained models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtag.app.ui.html_charts import confusion_matrix, line_chart
from vtag.app.ui.html_parts import button, escape, heading, note, table


def tag_chips(counts: Sequence[tuple[str, int]]) -> str:
    """The tags that a person used, each with its number of examples. A press goes on with the tag."""
    if not counts:
        return note("Name a tag of your own, find a few moments that show it, and say Yes to them.")
    items = ""
    for tag, number in counts:
        caption = f"{tag} ({number:,})"
        items += f"<li>{button('teach', caption, description=f'Go on with {tag}', data={'tag': tag})}</li>"
    return f'{heading("Your tags")}<ul class="vtag-chips" aria-label="Your tags">{items}</ul>'


def tag_form(tag: str) -> str:
    """The form that renames or removes a tag with all its examples."""
    remove = button("drop", "Remove the tag", description=f"Remove the tag: {tag}", data={"tag": tag})
    return (
        f'<form class="vtag-form" data-do="retitle" data-tag="{escape(tag)}"><label>New name '
        '<input name="name" required maxlength="200" autocomplete="off"></label>'
        f'<button class="vtag-button">Rename the tag</button>{remove}</form>'
    )


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """The metrics of a model on held-out examples: one row for each tag, false moments an hour, and remarks."""
    rows = [
        (
            escape(label),
            escape(values.get("clips", "")),
            escape(values.get("sources", "")),
            _percent(values.get("recall")),
            _percent(values.get("precision")),
            escape(f"{values.get('threshold', 0):.2f}"),
        )
        for label, values in metrics.get("labels", {}).items()
    ]
    columns = ("Tag", "Examples", "Videos", "Recall", "Precision", "Line")
    false_alarms = ""
    false_per_hour = metrics.get("false_per_hour", metrics.get("false_moments_per_hour"))
    if false_per_hour is not None:
        hours = metrics.get("negative_hours", 0)
        false_alarms = note(
            f"{false_per_hour:.1f} false moments an hour, over {hours:.1f} hours of your library"
        )
    remarks = "".join(note(str(remark)) for remark in metrics.get("remarks", ()))
    return f"{table('Metrics', columns, rows)}{false_alarms}{remarks}"


def model_report(name: str, metrics: Mapping[str, Any], history: Mapping[str, Sequence[float]]) -> str:
    """The metrics, the confusion matrix and the training curves of a model, to open."""
    matrix = metrics.get("confusion")
    labels = list(metrics.get("labels", {}))
    has_matrix = isinstance(matrix, list) and len(matrix) == len(labels)
    confusion = confusion_matrix(labels, matrix) if has_matrix and matrix is not None else ""
    return (
        f"<details><summary>{escape(name)}</summary>{metrics_table(metrics)}{confusion}"
        f"{training_curves(history)}</details>"
    )


def training_curves(history: Mapping[str, Sequence[float]]) -> str:
    """Loss and accuracy over epochs, each for the training and the validation examples."""
    charts = ""
    for metric in ("loss", "accuracy"):
        columns = {"training": history.get(metric), "validation": history.get(f"val_{metric}")}
        lines = {name: values for name, values in columns.items() if values}
        if lines:
            charts += line_chart(metric.capitalize(), lines, 1.0 if metric == "accuracy" else None)
    return f'<div class="vtag-curves">{charts}</div>' if charts else ""


def unfinished_section(names: Sequence[str]) -> str:
    """Trainings that stopped before their end, each with a button that discards it."""
    rows = ""
    for name in names:
        description = f"Discard the unfinished training of {name}"
        rows += (
            f"<li><strong>{escape(name)}</strong> was left before its end: the same folder and settings go on "
            f"with it. {button('drop', 'Discard', description=description, data={'name': name})}</li>"
        )
    return f'{heading("Unfinished", 3)}<ul class="vtag-queue">{rows}</ul>' if rows else ""


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
