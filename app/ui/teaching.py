"""Tags of a person's own: examples, a head trained on them and its line, saving it. Plain functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vtag.app.tag_lines import preview_sentence
from vtag.app.ui.change_texts import describe_change
from vtag.app.ui.reports import read_metrics
from vtag.app.ui.subprocess_command import run_for_json
from vtag.engine.errors import VtagError
from vtag.engine.jobs.job_queue import JobQueue
from vtag.engine.library import page_queries
from vtag.engine.library.analysis.tag_preview import TagMoment, TagPreview, preview_tag, score_tag
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.annotations.apply import AnnotatedRange, verdict_for_range
from vtag.engine.library.annotations.validation import resolve_label
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.maintenance.forget import forget_model
from vtag.engine.library.page_queries import AnnotationRow
from vtag.engine.library.search.labels import set_label_threshold
from vtag.engine.library.store import heads, runs
from vtag.engine.models.registry import is_installed, remove_model
from vtag.engine.paths import make_private_dir, models_dir

MODEL_NAME = "my-tags"  # one model for all tags of a person, so that it learns to distinguish them
TRIAL_FOLDER = "trial"  # in the library's cache: the head of the latest trial
_MAX_RANGES = 24
_SAME_LINE = 5e-4  # the slider's step is 0.001
_TRAINING_TIMEOUT_S = 600.0


class Trial(NamedTuple):
    """What the head of the latest trial finds of a tag: moments from its line on, and below it, best first.

    `preset` is the line that the head came with.
    """

    line: float
    preset: float
    sentence: str
    above: list[TagMoment]
    below: list[TagMoment]
    metrics: dict[str, Any]


def verdict_on(content: int, start_ms: int, end_ms: int, annotations: list[AnnotationRow]) -> str:
    """The verdict on a time range, by the rule that applies to moments; "" if there is none."""
    candidates = [
        AnnotatedRange(number, row.start_ms, row.end_ms, row.verdict)
        for number, row in enumerate(annotations)
        if row.content == content
    ]
    return verdict_for_range(start_ms, end_ms, candidates) or ""


def record_example(
    writer: LibraryWriter, tag: str, content: int, start_ms: int, end_ms: int, *, is_example: bool
) -> str:
    """Save that a time range shows the tag, or does not; returns the change as a sentence. Raises VtagError."""
    verdict = "added" if is_example else "rejected"
    change = annotation_log.record_verdict(writer, content, _required(tag), verdict, start_ms, end_ms)
    return describe_change(writer.connection, change)


def try_tag(library: Path, tag: str) -> Trial:
    """Train a head on all annotations in a child process; returns what it finds. Raises VtagError."""
    tag, folder = _required(tag), trial_folder(library)
    try:
        metrics = _train_head(library, folder)
    finally:
        with LibraryWriter.open(library) as writer:
            runs.remove_finished(writer, "finetune", str(folder))
    try:
        return _preview(library, tag, metrics, None)
    except ValueError:  # the head has no such label
        reason = f"{tag} has no example that the library's model has seen: say Yes to some moments first"
        raise VtagError(reason) from None


def move_line(library: Path, tag: str, line: float) -> Trial:
    """What the head of the latest trial finds with another line; nothing is trained. Raises VtagError."""
    tag = _required(tag)
    try:
        return _preview(library, tag, read_metrics(trial_folder(library)), line)
    except ValueError:
        raise VtagError(f"the latest trial was of another tag: try {tag} again") from None


def keep_tags(library: Path, queue: JobQueue, tag: str = "", trial: tuple[float, float] | None = None) -> str:
    """Save all tags as one model, and queue the job that finds their moments; returns a message.

    `trial` is the line and the preset of a trial of `tag`: the library keeps a line that was moved. Raises VtagError.
    """
    metrics = _train_head(library, models_dir() / MODEL_NAME)
    if trial is not None and tag.strip():
        line, preset = trial
        is_moved = abs(line - preset) > _SAME_LINE
        with LibraryWriter.open(library) as writer:
            set_label_threshold(writer, resolve_label(writer, tag.strip()), line if is_moved else None)
    queue.submit("retag", "all scanned videos", ["retag", "--db", str(library), "--model", MODEL_NAME])
    names = ", ".join(metrics.get("labels", ()))
    effect = "their moments appear in Search, and every scan finds them from now on"
    return f"Kept as the model {MODEL_NAME}, with all your tags ({names}): {effect}."


def rename_tag(library: Path, queue: JobQueue, tag: str, name: str) -> str:
    """Rename a tag in all annotations and in the saved model; returns a message. Raises VtagError."""
    _change_tag(library, lambda writer: annotation_log.rename_label(writer, tag, name))
    saved = keep_tags(library, queue) if is_installed(MODEL_NAME) else ""
    return f"{tag} is {name} now. {saved}".strip()


def remove_tag(library: Path, queue: JobQueue, tag: str) -> str:
    """Remove a tag with its examples, also from the saved model; returns a message. Raises VtagError."""
    _change_tag(library, lambda writer: annotation_log.remove_label(writer, tag))
    saved = keep_tags(library, queue) if is_installed(MODEL_NAME) else ""
    return f"{tag} is gone with its examples; Undo brings them back. {saved}".strip()


def trial_folder(library: Path) -> Path:
    """The folder of the latest trial's head."""
    return library.parent / "cache" / TRIAL_FOLDER


def _change_tag(library: Path, change: Callable[[LibraryWriter], object]) -> None:
    """Apply `change`, and remove the saved model if no tag is left."""
    with LibraryWriter.open(library) as writer:
        change(writer)
        has_tags = bool(page_queries.annotated_labels(writer.connection))
        model = heads.find_model(writer, MODEL_NAME)
        if model is not None and not has_tags:
            forget_model(writer, model)
    if is_installed(MODEL_NAME) and not has_tags:
        remove_model(MODEL_NAME)


def _preview(library: Path, tag: str, metrics: Mapping[str, Any], line: float | None) -> Trial:
    """What the trial's head finds. Raises VtagError, and ValueError if the head lacks the tag."""
    with LibraryWriter.open(library) as writer:
        label = resolve_label(writer, tag)
        scores = score_tag(writer, trial_folder(library), label)
        judged = page_queries.label_annotations(writer.connection, label)
    row = metrics.get("labels", {}).get(label, {})
    held_out_scores = row.get("yes", ()), row.get("no", ())
    preview: TagPreview = preview_tag(
        scores, scores.line if line is None else line, judged, _MAX_RANGES, held_out_scores=held_out_scores
    )
    sentence = preview_sentence(tag, preview.line)
    return Trial(preview.line.line, scores.preset, sentence, preview.above, preview.below, dict(metrics))


def _train_head(library: Path, folder: Path) -> dict[str, Any]:
    """Train a head on all annotations and write it to `folder`; returns its metrics. Raises VtagError."""
    command = ["finetune", "--from-library", "--json", "--db", str(library), "-o", str(folder)]
    make_private_dir(folder.parent)
    timeout_message = "teaching took more than ten minutes: on the command line it has no time limit"
    return run_for_json(command, timeout_s=_TRAINING_TIMEOUT_S, timeout_message=timeout_message)


def _required(tag: str) -> str:
    if not tag.strip():
        raise VtagError("name the tag first")
    return tag.strip()
