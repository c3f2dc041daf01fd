"""Jobs as JSON: what runs and how far it is, what waits, and why the last job failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vtag.app.ui.activities import Activities
from vtag.app.ui.page_sentences import page_sentence
from vtag.app.ui.teaching import TRIAL_FOLDER
from vtag.engine.jobs.job_queue import CAN_PAUSE, JobQueue, QueuedJob
from vtag.engine.library.store.runs import Run, estimate_run

_TITLES = {
    "scan": "Scan",
    "finetune": "Training",
    "train": "Training",
    "retag": "New tags",
    "teach": "Teaching",
    "cut": "Cut",
}


def job_title(kind: str) -> str:
    """The page's name for a kind of job."""
    return _TITLES.get(kind, kind.capitalize())


def is_trial(run: Run) -> bool:
    """Whether a run only tries a tag, for Teach: it leaves nothing that a person looks for later."""
    return run.kind == "finetune" and Path(run.command).parts[-2:] == ("cache", TRIAL_FOLDER)


def run_as_json(run: Run) -> dict[str, Any]:
    """A run that is active, or one of the past."""
    estimate = estimate_run(run)
    is_active = run.state in ("running", "paused")
    return {
        "id": run.id,
        "kind": run.kind,
        "title": "Trial" if is_trial(run) else job_title(run.kind),
        "subject": run.command[:300],
        "is_trial": is_trial(run),
        "state": run.state,
        "started_at": run.started_at,
        "is_here": run.is_here,
        "host": run.host,
        "can_pause": CAN_PAUSE and run.is_here and is_active,
        "share": progress_share(run),
        "speed": estimate.speed if run.state == "running" else None,
        "left_s": estimate.left_s if run.state == "running" else None,
        "progress": run.progress,
    }


def waiting_as_json(job: QueuedJob) -> dict[str, Any]:
    """A job that waits for its turn or starts."""
    return {"number": job.number, "kind": job.kind, "title": job_title(job.kind), "subject": job.subject}


def jobs_as_json(queue: JobQueue, runs: list[Run], activities: Activities) -> dict[str, Any]:
    """The active ones of `runs`, the job that starts, the waiting ones, why the last one failed, and activities."""
    active = [run for run in runs if run.state in ("running", "paused")]
    starting = queue.starting_job() if not active else None
    return {
        "active": [run_as_json(run) for run in active],
        "starting": waiting_as_json(starting) if starting else None,
        "waiting": [waiting_as_json(job) for job in queue.waiting_jobs()],
        "activities": activities.listed(),
        "failure": page_sentence(queue.failure),
        "failed_job": waiting_as_json(queue.last_job) if queue.failure and queue.last_job else None,
    }


def progress_share(run: Run) -> float | None:
    """The finished part of a run, from 0 to 1; None if it is unknown."""
    progress = run.progress
    if progress.get("of_ms") and "video_ms" in progress:
        return float(min(1.0, progress["video_ms"] / progress["of_ms"]))
    if "share" in progress:
        return float(progress["share"])
    if progress.get("to_look"):
        return float(progress.get("looked", 0) / progress["to_look"])
    return None
