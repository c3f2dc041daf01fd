"""Trainings from folders of labelled clips: start, progress, and the metrics of what was trained."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from pathlib import Path
from typing import Any

from vtag.app.ui.html_jobs import jobs_panel
from vtag.app.ui.html_parts import note, section
from vtag.app.ui.html_teach import model_report, unfinished_section
from vtag.engine.checkpoints.model_folder import SPEC_FILE
from vtag.engine.errors import VtagError
from vtag.engine.jobs import job_queue
from vtag.engine.jobs.job_queue import JobQueue, QueuedJob
from vtag.engine.library.database import open_reader
from vtag.engine.library.store.runs import Run
from vtag.engine.models.catalog import model_stem
from vtag.engine.models.registry import installed_models
from vtag.engine.paths import models_dir
from vtag.engine.text import printable
from vtag.trainer.loop.state_paths import discard_state, is_unfinished, unfinished_trainings

HEAD_ONLY = "head"
DEFAULT_EPOCHS = 30  # the default of `vtag finetune`
_TRAINING_KINDS = ("finetune", "train")


def model_name(folder: Path, part: str) -> str:
    """The name of the model that a folder of clips teaches."""
    kind = "tags" if part == HEAD_ONLY else "network"
    return f"{model_stem(folder, max_length=50) or 'own'}-{kind}"


def start_training(
    library: Path, queue: JobQueue, folder: str, part: str = HEAD_ONLY, epochs: int = DEFAULT_EPOCHS
) -> str:
    """Start or queue a training on a folder of labelled clips; an unfinished one goes on.

    A head is followed by a job that finds its moments in the library. A trained network is a model of its own, to
    scan with.

    Args:
        part: what is trained: HEAD_ONLY, or a value of `vtag finetune --train`.
    """
    path = Path(folder.strip()).expanduser()
    if not folder.strip() or not path.is_absolute() or not path.exists():
        return note(
            f"There is no {printable(folder)[:200]!r} on this machine: give the whole path.", is_error=True
        )
    name = model_name(path, part)
    is_resumed = part != HEAD_ONLY and is_unfinished(models_dir() / name)
    try:
        _submit(library, queue, path, name, _train_options(part, epochs, is_resumed))
    except VtagError as error:
        return note(str(error), is_error=True)
    if part == HEAD_ONLY:
        return note(
            f"It is taught as the model {name}, and then found in all that was seen. Its progress is shown here, and "
            "its metrics afterwards."
        )
    action = "The training goes on" if is_resumed else "It is trained"
    return note(
        f"{action} as the model {name}; its curves are shown here meanwhile. It is a network of its own: to tag "
        "videos with it, choose it under Model in Scan afterwards."
    )


def _train_options(part: str, epochs: int, is_resumed: bool) -> list[str]:
    if part == HEAD_ONLY:
        return []
    return ["--train", part, "--epochs", str(max(1, epochs)), *["--resume"] * is_resumed]


def _submit(library: Path, queue: JobQueue, path: Path, name: str, options: list[str]) -> None:
    """Queue the training, and the job that applies a head. Raises VtagError if it runs or waits already."""
    output = str(models_dir() / name)
    jobs = [*queue.waiting_jobs(), *filter(None, [queue.current_job()])]
    if any(job.kind == "finetune" and output in job.arguments for job in jobs):
        raise VtagError(f"{name} is taught already: end it first to begin anew")
    training = ["finetune", "--db", str(library), "-o", output, *options, "--", str(path)]
    queue.submit("finetune", str(path), training)
    if not options:
        retag = ["retag", "--db", str(library), "--model", name]
        queue.submit("retag", f"with {name}", retag, needs_previous=True)


def show_progress(library: Path, queue: JobQueue) -> str:
    """The active training with its curves, the waiting ones, and the unfinished ones."""
    starting_job = queue.starting_job()
    waiting_jobs = [job for job in queue.waiting_jobs() if _is_training_job(job)]
    failure = queue.failure if _is_training_job(queue.last_job) else ""
    names = [] if is_training(library, queue) else list(unfinished_trainings(models_dir()))
    panel = jobs_panel(
        _training_runs(library),
        starting_job if _is_training_job(starting_job) else None,
        waiting_jobs,
        failure,
        idle="",
    )
    return panel + unfinished_section(names)


def is_training(library: Path, queue: JobQueue) -> bool:
    """Whether a training runs or starts, in this process or in another."""
    return _is_training_job(queue.current_job()) or bool(_training_runs(library))


def discard_unfinished(library: Path, queue: JobQueue, name: str) -> str:
    """Delete the state of an unfinished training, unless a training runs; returns the progress."""
    if name in unfinished_trainings(models_dir()) and not is_training(library, queue):
        discard_state(models_dir() / name)
    return show_progress(library, queue)


def _is_training_job(job: QueuedJob | None) -> bool:
    return job is not None and job.kind in _TRAINING_KINDS


def _training_runs(library: Path) -> list[Run]:
    with closing(open_reader(library)) as reader:
        return [run for run in job_queue.active_runs(reader) if run.kind in _TRAINING_KINDS]


def show_reports() -> str:
    """The metrics of the installed models that were trained here, with confusion matrices and curves."""
    reports = ""
    for model in installed_models():
        metrics = read_metrics(model.folder)
        if metrics:
            reports += model_report(model.name, metrics, _read_history(model.folder))
    return section("Trained models", reports) if reports else ""


def read_metrics(folder: Path) -> dict[str, Any]:
    """The metrics in a model's folder; empty if there are none for each label."""
    try:
        metrics = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8")).get("metrics", {})
    except (OSError, ValueError):
        return {}
    return metrics if isinstance(metrics, dict) and isinstance(metrics.get("labels"), dict) else {}


def _read_history(folder: Path) -> dict[str, list[float]]:
    """The columns of a training's history.csv by name; empty if there is no readable file."""
    try:
        with open(folder / "history.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]} if rows else {}
    except (OSError, ValueError, TypeError):
        return {}
