"""Tags of a person's own: examples are words in the library, a try says what a head would find, keeping finds it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from vtag.app.ui.child import told_by
from vtag.app.ui.html_moments import Place, gallery, place_card
from vtag.app.ui.html_parts import note, text
from vtag.app.ui.html_teach import change_form, figures_of, your_tags
from vtag.engine.errors import QueryError, VtagError
from vtag.engine.jobs.job_queue import JobQueue
from vtag.engine.library import page_queries
from vtag.engine.library.analysis.head_preview import PreviewMoment, preview_label
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.annotations.apply import AnnotatedRange, verdict_for_range
from vtag.engine.library.annotations.validation import resolve_label
from vtag.engine.library.database import Library, open_reader
from vtag.engine.library.maintenance.forget import forget_model
from vtag.engine.library.search.moments import search
from vtag.engine.library.store import heads
from vtag.engine.models.registry import is_installed, remove_model
from vtag.engine.paths import make_private_dir, models_dir
from vtag.engine.text import display_path

OWN_TAGS = "my-tags"  # all tags of a person's own words are taught together, so that they are told apart
_TRIAL = "trial"  # the folder beside the library with the head that was tried last
_SHOWN = 24
_TRY_WITHIN_S = 600.0


def examples(library: Path, tag: str) -> str:
    """What the person said of a tag: its examples, and what is none of it; without a tag, all their tags."""
    with closing(open_reader(library)) as reader:
        if not tag.strip():
            return your_tags(page_queries.annotated_labels(reader))
        said = page_queries.label_annotations(reader, tag.strip())
    if not said:
        return note("No example yet: find moments that show it and say Yes, or add the tag in Watch.")
    yes = sum(each.verdict != "rejected" for each in said)
    name = f"{yes} of {tag.strip()}, {len(said) - yes} of something else"
    cards = [place_card(Place(*each[:4], ""), each.verdict) for each in said]
    return f"<h2>{text(name)}</h2>{gallery(cards, name='Examples')}{change_form(tag.strip())}"


def choices(library: Path, tag: str, places: list[Place], name: str) -> str:
    """Places to say Yes or No to."""
    if not places:
        return ""
    with closing(open_reader(library)) as reader:
        said = page_queries.label_annotations(reader, tag.strip()) if tag.strip() else []
    cards = [place_card(place, _verdict(place, said)) for place in places]
    return f"<h2>{text(name)}</h2>{gallery(cards, name=name)}"


def _verdict(place: Place, said: list[page_queries.AnnotationRow]) -> str:
    """What was said of a place already, by the rule that judges moments."""
    spoken = [
        AnnotatedRange(number, each.start_ms, each.end_ms, each.verdict)
        for number, each in enumerate(said)
        if each.content == place.content
    ]
    return verdict_for_range(place.start_ms, place.end_ms, spoken) or ""


def candidates(library: Path, query: str) -> tuple[list[Place], str]:
    """Moments of the library to choose examples from, whole videos where nothing is asked; and why there are none."""
    try:
        with closing(open_reader(library)) as reader:
            if not query.strip():
                return [
                    Place(c, d, 0, ms, "all of it") for c, d, ms in page_queries.latest_videos(reader, _SHOWN)
                ], ""
            found = search(reader, query, limit=_SHOWN)
            at = [page_queries.moment_range(reader, moment.id) for moment in found]
    except QueryError as error:
        return [], note(str(error), is_error=True)
    places = [
        Place(place[0], display_path(moment.path), moment.start_ms, moment.end_ms, moment.label)
        for moment, place in zip(found, at, strict=True)
        if place
    ]
    return places, "" if places else note("No moment fits this search.")


def say(library: Path, tag: str, content: int, start_ms: int, end_ms: int, *, is_it: bool) -> str:
    """Keep that a stretch shows the tag, or does not; a sentence where it cannot be."""
    tag = tag.strip()
    if not tag:
        return note("Name the tag first.", is_error=True)
    try:
        with Library.open(library) as opened:
            annotation_log.record_verdict(
                opened, content, tag, "added" if is_it else "rejected", start_ms, end_ms
            )
    except VtagError as error:
        return note(str(error), is_error=True)
    return ""


def try_out(library: Path, tag: str) -> tuple[list[Place], str]:
    """Teach a head from all that was said, in a process of its own, and what it would find of the tag."""
    tag = tag.strip()
    if not tag:
        return [], note("Name the tag first.", is_error=True)
    folder = library.parent / "cache" / _TRIAL
    try:
        told = _taught(library, folder)
        with Library.open(library) as opened:
            label = resolve_label(opened, tag)
            found = preview_label(opened, folder, label, _SHOWN)
    except (VtagError, ValueError) as error:
        missing = f"{tag} has no example that was seen by the library's model: say Yes to some moments first"
        return [], note(str(error) if isinstance(error, VtagError) else missing, is_error=True)
    places = [Place(f.content_id, f.display, f.start_ms, f.end_ms, _score(f)) for f in found]
    sure = sum(f.is_sure for f in found)
    moments = "moment" if sure == 1 else "moments"
    what = f"It would find {sure} {moments} of {tag}" if sure else f"It would not find any {tag} yet"
    return places, note(f"{what}; below are the best. Say Yes or No, try again, then keep it.") + figures_of(
        told
    )


def keep(library: Path, queue: JobQueue) -> str:
    """Write all tags of the person's own as one model, and have its moments derived in everything that was seen."""
    try:
        told = _taught(library, models_dir() / OWN_TAGS)
        queue.submit(
            "retag", "everything that was seen", ["retag", "--db", str(library), "--model", OWN_TAGS]
        )
    except VtagError as error:
        return note(str(error), is_error=True)
    names = ", ".join(told.get("labels", ()))
    found = "their moments appear in Search, and every scan finds them from now on"
    return note(f"Kept as the model {OWN_TAGS}, with all your tags ({names}): {found}.")


def rename_tag(library: Path, queue: JobQueue, tag: str, name: str) -> tuple[str, bool]:
    """Call a tag by another name in all that was said, and in the model that was kept; whether that was done."""
    return _changed(
        library, queue, lambda opened: annotation_log.rename_label(opened, tag, name), f"{tag} is {name} now."
    )


def drop_tag(library: Path, queue: JobQueue, tag: str) -> tuple[str, bool]:
    """Take a tag away with all its examples, also out of the model that was kept; whether that was done."""
    said = f"{tag} is gone with its examples; Undo in Watch, or `vtag tag undo`, brings them back."
    return _changed(library, queue, lambda opened: annotation_log.remove_label(opened, tag), said)


def _changed(
    library: Path, queue: JobQueue, act: Callable[[Library], annotation_log.AnnotationChange], said: str
) -> tuple[str, bool]:
    try:
        with Library.open(library) as opened:
            act(opened)
            left = page_queries.annotated_labels(opened.connection)
            model = heads.find_model(opened, OWN_TAGS)
            if model is not None and not left:  # nothing to teach it from any more
                forget_model(opened, model)
        if is_installed(OWN_TAGS) and not left:
            remove_model(OWN_TAGS)
    except VtagError as error:
        return note(str(error), is_error=True), False
    kept = keep(library, queue) if is_installed(OWN_TAGS) else ""
    return note(said) + kept, True


def _taught(library: Path, folder: Path) -> dict[str, Any]:
    """What `vtag finetune --from-library` says of the model that it wrote to `folder`. Raises VtagError."""
    command = ["finetune", "--from-library", "--json", "--db", str(library), "-o", str(folder)]
    make_private_dir(folder.parent)
    too_long = "teaching took more than ten minutes: `vtag finetune --from-library` has the time"
    return told_by(command, within_s=_TRY_WITHIN_S, too_long=too_long)


def _score(found: PreviewMoment) -> str:
    return f"{found.score:.2f}" if found.is_sure else f"{found.score:.2f}, too low"
