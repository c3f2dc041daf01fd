"""Tags from folders of labelled clips: a head or a network, trained in the queue, and what was measured of it."""

from __future__ import annotations

import csv
import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

from vtag.app.ui.html_parts import note
from vtag.app.ui.html_teach import left_trainings, model_report
from vtag.app.ui.html_work import now_running
from vtag.engine.checkpoints.model_folder import SPEC_FILE
from vtag.engine.errors import VtagError
from vtag.engine.jobs import job_queue
from vtag.engine.jobs.job_queue import JobQueue, QueuedJob
from vtag.engine.library.database import open_reader
from vtag.engine.library.store.runs import Run
from vtag.engine.models.registry import installed_models
from vtag.engine.paths import models_dir
from vtag.engine.text import printable
from vtag.trainer.loop.state_paths import discard_state, is_unfinished, unfinished_trainings

HEAD = "head"
EPOCHS = 30  # as `vtag finetune` has them
_TRAININGS = ("finetune", "train")


def from_folder(library: Path, queue: JobQueue, folder: str, part: str = HEAD, epochs: int = EPOCHS) -> str:
    """Teach tags from a folder of labelled clips, in the queue: the head alone, or `part` of the network, too.

    The moments of a head are derived after it; a trained network is a model of its own, to scan with. A training
    that was left goes on.
    """
    path = Path(folder.strip()).expanduser()
    if not folder.strip() or not path.is_absolute() or not path.exists():
        return note(
            f"There is no {printable(folder)[:200]!r} on this machine: give the whole path.", is_error=True
        )
    stem = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._")[:50]
    name = f"{stem}-{'tags' if part == HEAD else 'network'}"
    goes_on = part != HEAD and is_unfinished(models_dir() / name)
    try:
        _ask_to_teach(library, queue, path, name, _options(part, epochs, goes_on))
    except VtagError as error:
        return note(str(error), is_error=True)
    if part == HEAD:
        return note(
            f"It is taught as the model {name}, and then found in all that was seen. How far it is stands here, and "
            "what was measured afterwards."
        )
    does = "The training goes on" if goes_on else "It is trained"
    return note(
        f"{does} as the model {name}; its curves stand here meanwhile. It is a network of its own: to look at videos "
        "with it, choose it under Model in Scan afterwards."
    )


def _options(part: str, epochs: int, goes_on: bool) -> list[str]:
    if part == HEAD:
        return []
    return ["--train", part, "--epochs", str(max(1, epochs)), *["--resume"] * goes_on]


def _ask_to_teach(library: Path, queue: JobQueue, path: Path, name: str, options: list[str]) -> None:
    """Raises VtagError where it runs or waits already, or too much waits."""
    out = str(models_dir() / name)
    known = [*queue.waiting_jobs(), *filter(None, [queue.current_job()])]
    if any(job.kind == "finetune" and out in job.arguments for job in known):
        raise VtagError(f"{name} is taught already: end it first to begin anew")
    teaching = ["finetune", "--db", str(library), "-o", out, *options, "--", str(path)]
    queue.submit("finetune", str(path), teaching)
    if not options:
        finding = ["retag", "--db", str(library), "--model", name]
        queue.submit("retag", f"with {name}", finding, needs_previous=True)


def under_way(library: Path, queue: JobQueue) -> str:
    """The training that runs, with its curves, those that wait, and those that were left before their end."""
    starting = _if_training(queue.starting_job())
    waiting = [job for job in queue.waiting_jobs() if _if_training(job)]
    trouble = queue.failure if _if_training(queue.last_job) else ""
    left = [] if is_busy(library, queue) else list(unfinished_trainings(models_dir()))
    return now_running(_running(library), starting, waiting, trouble, idle="") + left_trainings(left)


def is_busy(library: Path, queue: JobQueue) -> bool:
    """Whether a training runs or begins, whoever asked for it."""
    return _if_training(queue.current_job()) is not None or bool(_running(library))


def discard_left(library: Path, queue: JobQueue, name: str) -> str:
    """What is under way, after the state of an unfinished training was deleted; one that runs keeps it."""
    if name in unfinished_trainings(models_dir()) and not is_busy(library, queue):
        discard_state(models_dir() / name)
    return under_way(library, queue)


def _if_training(job: QueuedJob | None) -> QueuedJob | None:
    return job if job is not None and job.kind in _TRAININGS else None


def _running(library: Path) -> list[Run]:
    with closing(open_reader(library)) as reader:
        return [run for run in job_queue.active_runs(reader) if run.kind in _TRAININGS]


def measured() -> str:
    """What was measured of the models that were taught here: per tag, what was confused, and how a training went."""
    shown = ""
    for model in installed_models():
        metrics = _metrics(model.folder)
        if metrics:
            shown += model_report(model.name, metrics, _history(model.folder))
    return f"<h2>What was measured</h2>{shown}" if shown else ""


def _metrics(folder: Path) -> dict[str, Any]:
    try:
        told = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8")).get("metrics", {})
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) and isinstance(told.get("labels"), dict) else {}


def _history(folder: Path) -> dict[str, list[float]]:
    """Columns of a training's history.csv, by name; empty where there is none."""
    try:
        with open(folder / "history.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]} if rows else {}
    except (OSError, ValueError, TypeError):
        return {}
