"""Tags of a person's own: collecting examples, previewing a head trained on them, and saving it as a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from vtag.app.tag_lines import preview_sentence
from vtag.app.ui.html_moments import VideoRange, gallery, range_card
from vtag.app.ui.html_parts import note, section
from vtag.app.ui.html_teach import metrics_table, tag_chips, tag_form
from vtag.app.ui.subprocess_command import run_for_json
from vtag.app.ui.training_control import read_metrics
from vtag.engine.errors import QueryError, VtagError
from vtag.engine.jobs.job_queue import JobQueue
from vtag.engine.library import page_queries
from vtag.engine.library.analysis.tag_preview import TagMoment, TagPreview, preview_tag, score_tag
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.annotations.apply import AnnotatedRange, verdict_for_range
from vtag.engine.library.annotations.validation import resolve_label
from vtag.engine.library.database import Library, open_reader
from vtag.engine.library.maintenance.forget import forget_model
from vtag.engine.library.search.labels import set_label_threshold
from vtag.engine.library.search.moments import search
from vtag.engine.library.store import heads
from vtag.engine.models.registry import is_installed, remove_model
from vtag.engine.paths import make_private_dir, models_dir
from vtag.engine.text import display_path

MODEL_NAME = "my-tags"  # one model for all tags of a person, so that it learns to distinguish them
_PREVIEW_FOLDER = "trial"  # in the library's cache: the head of the latest preview
_MAX_RANGES = 24
_SAME_LINE = 5e-4  # the slider's step is 0.001
_TRAINING_TIMEOUT_S = 600.0


class Trial(NamedTuple):
    """What the head of the latest preview finds of a tag, from its line on and below it."""

    line: float
    preset: float  # the line that the head came with
    above: list[VideoRange]
    below: list[VideoRange]


def show_trial(library: Path, tag: str, trial: Trial | None) -> str:
    """The moments from the line on, then those below it, with the buttons Yes and No."""
    if trial is None:
        return ""
    above = f"From {trial.line:.2f} on it is {tag.strip()}"
    return show_choices(library, tag, trial.above, above) + show_choices(
        library, tag, trial.below, "Below the line, best first"
    )


def show_examples(library: Path, tag: str) -> str:
    """The annotations of a tag, examples and counterexamples; all tags if `tag` is empty."""
    tag = tag.strip()
    with closing(open_reader(library)) as reader:
        if not tag:
            return tag_chips(page_queries.annotated_labels(reader))
        annotations = page_queries.label_annotations(reader, tag)
    if not annotations:
        return note("No example yet: find moments that show it and say Yes, or add the tag in Watch.")
    examples = sum(annotation.verdict != "rejected" for annotation in annotations)
    title = f"{examples} of {tag}, {len(annotations) - examples} of something else"
    cards = [range_card(VideoRange(*row[:4], ""), row.verdict) for row in annotations]
    return section(title, gallery(cards, name="Examples")) + tag_form(tag)


def show_choices(library: Path, tag: str, ranges: list[VideoRange], name: str) -> str:
    """Time ranges with the buttons Yes and No, which show what the person said about the tag before."""
    if not ranges:
        return ""
    with closing(open_reader(library)) as reader:
        annotations = page_queries.label_annotations(reader, tag.strip()) if tag.strip() else []
    cards = [range_card(video_range, _verdict(video_range, annotations)) for video_range in ranges]
    return section(name, gallery(cards, name=name))


def _verdict(video_range: VideoRange, annotations: list[page_queries.AnnotationRow]) -> str:
    """The verdict on a time range, by the rule that applies to moments; "" if there is none."""
    candidates = [
        AnnotatedRange(number, row.start_ms, row.end_ms, row.verdict)
        for number, row in enumerate(annotations)
        if row.content == video_range.content
    ]
    return verdict_for_range(video_range.start_ms, video_range.end_ms, candidates) or ""


def find_candidates(library: Path, query: str) -> tuple[list[VideoRange], str]:
    """The moments of a query, or whole videos without a query; and a message if there are none."""
    try:
        with closing(open_reader(library)) as reader:
            if not query.strip():
                videos = page_queries.latest_videos(reader, _MAX_RANGES)
                return [
                    VideoRange(content, display, 0, length_ms, "all of it")
                    for content, display, length_ms in videos
                ], ""
            moments = search(reader, query, limit=_MAX_RANGES)
            moment_ranges = [page_queries.moment_range(reader, moment.id) for moment in moments]
    except QueryError as error:
        return [], note(str(error), is_error=True)
    ranges = [
        VideoRange(moment_range[0], display_path(moment.path), moment.start_ms, moment.end_ms, moment.label)
        for moment, moment_range in zip(moments, moment_ranges, strict=True)
        if moment_range
    ]
    return ranges, "" if ranges else note("No moment fits this search.")


def record_example(
    library: Path, tag: str, content: int, start_ms: int, end_ms: int, *, is_example: bool
) -> str:
    """Save that a time range shows the tag, or does not show it; returns a message if that fails."""
    tag = tag.strip()
    if not tag:
        return note("Name the tag first.", is_error=True)
    verdict = "added" if is_example else "rejected"
    try:
        with Library.open(library) as writer:
            annotation_log.record_verdict(writer, content, tag, verdict, start_ms, end_ms)
    except VtagError as error:
        return note(str(error), is_error=True)
    return ""


def try_tag(library: Path, tag: str) -> tuple[Trial | None, str]:
    """Train a head on all annotations in a child process; returns what it finds of a tag, and a message."""
    tag = tag.strip()
    if not tag:
        return None, note("Name the tag first.", is_error=True)
    try:
        metrics = _train_head(library, _trial_folder(library))
        trial, preview = _preview(library, tag, metrics, None)
    except VtagError as error:
        return None, note(str(error), is_error=True)
    except ValueError:  # the head has no such label
        reason = f"{tag} has no example that the library's model has seen: say Yes to some moments first"
        return None, note(reason, is_error=True)
    advice = "Say Yes or No below, or move the line; try again, then keep it."
    return trial, note(f"{preview_sentence(tag, preview.line)} {advice}") + metrics_table(metrics)


def move_line(library: Path, tag: str, line: float, trial: Trial | None) -> tuple[Trial | None, str]:
    """What the head of the latest preview finds with another line; nothing is trained."""
    tag = tag.strip()
    if trial is None or not tag:
        return trial, note("Try the tag first: then its line can be moved.")
    try:
        metrics = read_metrics(_trial_folder(library))
        moved, preview = _preview(library, tag, metrics, line)
    except (VtagError, ValueError):
        return trial, note(f"The latest preview was of another tag: try {tag} again.", is_error=True)
    return moved, note(preview_sentence(tag, preview.line))


def _preview(
    library: Path, tag: str, metrics: Mapping[str, Any], line: float | None
) -> tuple[Trial, TagPreview]:
    """The preview of the trial's head. Raises VtagError, and ValueError if the head lacks the tag."""
    with Library.open(library) as writer:
        label = resolve_label(writer, tag)
        scores = score_tag(writer, _trial_folder(library), label)
        judged = page_queries.label_annotations(writer.connection, label)
    row = metrics.get("labels", {}).get(label, {})
    known = (row.get("yes", ()), row.get("no", ()))
    preview = preview_tag(scores, scores.line if line is None else line, judged, _MAX_RANGES, known=known)
    ranges = [
        [VideoRange(m.content_id, m.display, m.start_ms, m.end_ms, _caption(m)) for m in moments]
        for moments in (preview.above, preview.below)
    ]
    return Trial(preview.line.line, scores.preset, *ranges), preview


def _trial_folder(library: Path) -> Path:
    return library.parent / "cache" / _PREVIEW_FOLDER


def save_model(library: Path, queue: JobQueue, tag: str = "", trial: Trial | None = None) -> str:
    """Save all tags of the person as one model, and queue the job that finds their moments in the library.

    If the line of the tag was moved in its trial, the library keeps it.
    """
    try:
        metrics = _train_head(library, models_dir() / MODEL_NAME)
        if trial is not None:
            is_moved = abs(trial.line - trial.preset) > _SAME_LINE
            with Library.open(library) as writer:
                set_label_threshold(
                    writer, resolve_label(writer, tag.strip()), trial.line if is_moved else None
                )
        queue.submit("retag", "all scanned videos", ["retag", "--db", str(library), "--model", MODEL_NAME])
    except VtagError as error:
        return note(str(error), is_error=True)
    names = ", ".join(metrics.get("labels", ()))
    effect = "their moments appear in Search, and every scan finds them from now on"
    return note(f"Kept as the model {MODEL_NAME}, with all your tags ({names}): {effect}.")


def rename_tag(library: Path, queue: JobQueue, tag: str, name: str) -> tuple[str, bool]:
    """Rename a tag in all annotations and in the saved model; returns a message, and whether it was renamed."""
    message = f"{tag} is {name} now."
    return _change_tag(library, queue, lambda writer: annotation_log.rename_label(writer, tag, name), message)


def remove_tag(library: Path, queue: JobQueue, tag: str) -> tuple[str, bool]:
    """Remove a tag with its examples, also from the saved model; returns a message, and whether it was removed."""
    message = f"{tag} is gone with its examples; Undo in Watch, or `vtag tag undo`, brings them back."
    return _change_tag(library, queue, lambda writer: annotation_log.remove_label(writer, tag), message)


def _change_tag(
    library: Path,
    queue: JobQueue,
    change: Callable[[Library], annotation_log.AnnotationChange],
    message: str,
) -> tuple[str, bool]:
    """Apply `change`, then train the saved model again, or remove it if no tag is left."""
    try:
        with Library.open(library) as writer:
            change(writer)
            has_tags = bool(page_queries.annotated_labels(writer.connection))
            model = heads.find_model(writer, MODEL_NAME)
            if model is not None and not has_tags:
                forget_model(writer, model)
        if is_installed(MODEL_NAME) and not has_tags:
            remove_model(MODEL_NAME)
    except VtagError as error:
        return note(str(error), is_error=True), False
    saved = save_model(library, queue) if is_installed(MODEL_NAME) else ""
    return note(message) + saved, True


def _train_head(library: Path, folder: Path) -> dict[str, Any]:
    """Train a head on all annotations and write it to `folder`; returns its metrics. Raises VtagError."""
    command = ["finetune", "--from-library", "--json", "--db", str(library), "-o", str(folder)]
    make_private_dir(folder.parent)
    timeout_message = "teaching took more than ten minutes: `vtag finetune --from-library` has no time limit"
    return run_for_json(command, timeout_s=_TRAINING_TIMEOUT_S, timeout_message=timeout_message)


def _caption(moment: TagMoment) -> str:
    words = {"confirmed": ", confirmed", "rejected": ", rejected"}
    return f"{moment.score:.2f}{words.get(moment.verdict or '', '')}"
