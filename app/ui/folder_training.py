"""Trainings from folders of labelled clips: start, what is unfinished, and discarding it."""

from __future__ import annotations

from pathlib import Path

from vtag.engine.errors import VtagError
from vtag.engine.jobs.job_queue import JobQueue
from vtag.engine.models.catalog import model_stem
from vtag.engine.paths import models_dir
from vtag.engine.text import printable
from vtag.trainer.loop.state_paths import discard_state, is_unfinished, unfinished_trainings

HEAD_ONLY = "head"
DEFAULT_EPOCHS = 30  # the default of `vtag finetune`
TRAINING_KINDS = ("finetune", "train")


def model_name(folder: Path, part: str) -> str:
    """The name of the model that a folder of clips teaches."""
    kind = "tags" if part == HEAD_ONLY else "network"
    return f"{model_stem(folder, max_length=50) or 'own'}-{kind}"


def start_training(library: Path, queue: JobQueue, folder: str, part: str, epochs: int) -> str:
    """Start or queue a training on a folder of labelled clips; an unfinished one goes on. Returns a message.

    A head is followed by a job that finds its moments in the library. A trained network is a model of its own, to
    scan with. Raises VtagError.

    Args:
        part: what is trained: HEAD_ONLY, or a value of `vtag finetune --train`.
    """
    path = Path(folder.strip()).expanduser()
    if not folder.strip() or not path.is_absolute() or not path.exists():
        raise VtagError(f"there is no {printable(folder)[:200]!r} on this machine: give the whole path")
    name = model_name(path, part)
    is_resumed = part != HEAD_ONLY and is_unfinished(models_dir() / name)
    _submit(library, queue, path, name, _train_options(part, epochs, is_resumed))
    if part == HEAD_ONLY:
        return f"It is taught as the model {name}, and then found in all that was scanned."
    action = "The training goes on" if is_resumed else "It is trained"
    return (
        f"{action} as the model {name}. It is a network of its own: to tag videos with it, choose it under Model in "
        "Scan afterwards."
    )


def list_unfinished(queue: JobQueue, *, is_training: bool) -> list[str]:
    """The trainings that stopped before their end; none while one runs, which may be one of them."""
    job = queue.current_job()
    if is_training or (job is not None and job.kind in TRAINING_KINDS):
        return []
    return list(unfinished_trainings(models_dir()))


def discard_unfinished(name: str) -> None:
    """Delete the state of an unfinished training."""
    if name in unfinished_trainings(models_dir()):
        discard_state(models_dir() / name)


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
