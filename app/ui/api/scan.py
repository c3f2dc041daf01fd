"""Scans: choosing folders, the cost before, starting, pausing and cancelling."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from vtag.app.ui.api.context import PageContext
from vtag.app.ui.api.jobs_json import is_trial, run_as_json
from vtag.app.ui.api.moments import card_as_json
from vtag.app.ui.api.player_clocks import PlayerClocks
from vtag.app.ui.api.row_ids import RowId
from vtag.app.ui.long_calls import LongCall
from vtag.app.ui.page_sentences import page_sentence
from vtag.app.ui.subprocess_command import run_for_json
from vtag.engine.errors import VtagError
from vtag.engine.jobs.job_queue import scan_arguments
from vtag.engine.library import page_queries
from vtag.engine.library.store.runs import recent_runs
from vtag.engine.library.views.results import moments_after
from vtag.engine.models.registry import STARTER, installed_models
from vtag.engine.text import printable

_RUNS = 20
_FAILURES = 200
_MOMENTS = 12
_MAX_FOLDERS = 500
_USUAL_FOLDERS = ("Videos", "Movies", "Pictures")  # in the home folder
_USUAL_MOUNTS = ("/media", "/mnt", "/Volumes")
_ESTIMATE_TIMEOUT_S = 120.0
_TOO_LONG = "these are so many files that counting them takes minutes: the scan shows its progress"


class ScanForm(BaseModel):
    """What a scan is asked for."""

    folders: list[str] = Field(max_length=100)
    model: str = Field("", max_length=1024)  # empty for the library's model
    stride_s: float | None = Field(None, ge=0.1, le=3600)
    view: Literal["center", "full", "three"] = "center"
    retry_failed: bool = False
    force: bool = False

    @property
    def paths(self) -> list[str]:
        """The folders, with the home folder in place of `~`."""
        return [str(Path(folder.strip()).expanduser()) for folder in self.folders if folder.strip()]

    def arguments(self, library: Path, *options: str) -> list[str]:
        """The arguments of `vtag` for this scan. Raises VtagError if a folder cannot be scanned."""
        arguments = [*options]
        if self.model:
            arguments += ["--model", self.model]
        if self.stride_s:
            arguments += ["--stride", str(self.stride_s)]
        if self.view != "center":
            arguments += ["--view", self.view]
        arguments += ["--retry-failed"] * self.retry_failed + ["--force"] * self.force
        return scan_arguments(library, self.paths, *arguments)


def long_calls(context: PageContext) -> list[LongCall]:
    """The calls about scans that take seconds."""

    def estimate(form: ScanForm) -> Generator[dict[str, Any], None, None]:
        arguments = form.arguments(context.library, "--dry-run", "--json")
        output = run_for_json(arguments, timeout_s=_ESTIMATE_TIMEOUT_S, timeout_message=_TOO_LONG)
        yield {"plan": output["plan"]}

    return [LongCall("estimate_scan", ScanForm, estimate)]


class Cancelled(BaseModel):
    """What the button stood beside: a run, or a job that starts. Without either, whatever runs."""

    run: RowId | None = None
    job: RowId | None = None


class JobNumber(BaseModel):
    """A waiting job."""

    number: RowId


def build_router(context: PageContext) -> APIRouter:
    """The routes about folders, scans and jobs below `api/`."""
    router = APIRouter(prefix="/api")
    queue = context.queue
    submitting = threading.Lock()

    @router.get("/folders")
    def folders(path: str = "") -> dict[str, Any]:
        """The folders in `path` to choose from; those of the home folder if it is no readable absolute path."""
        return list_folders(path)

    @router.get("/scan/models")
    def models() -> dict[str, Any]:
        """The names of the models that a scan can run with."""
        names = [STARTER, *(model.name for model in installed_models() if model.kind == "video")]
        return {"models": list(dict.fromkeys(names))}

    @router.post("/scan")
    def start(form: ScanForm) -> dict[str, Any]:
        """Start a scan, or let it wait for its turn. The same scan is not queued twice."""
        arguments = form.arguments(context.library)
        with submitting:
            jobs = [*queue.waiting_jobs(), *filter(None, [queue.current_job()])]
            if any(list(job.arguments) == arguments for job in jobs):
                raise VtagError("this scan runs or waits already")
            is_started = queue.submit("scan", ", ".join(map(printable, form.paths)), arguments)
        return {"is_started": is_started}

    @router.post("/jobs/cancel")
    def cancel(body: Cancelled | None = None) -> dict[str, Any]:
        """Interrupt what runs, as Ctrl-C does: what is finished is kept. What the page does not know yet stays."""
        body = body or Cancelled()
        current = queue.current_job()
        if body.job and (current is None or current.number != body.job):
            return {"is_done": False}
        with context.reader() as reader:
            active = [run.id for run in recent_runs(reader, _RUNS) if run.state in ("running", "paused")]
        return {"is_done": (not body.run or body.run in active) and queue.interrupt()}

    @router.post("/jobs/pause")
    def pause() -> dict[str, Any]:
        """Pause what runs. It keeps its memory and its place on the GPU."""
        return {"is_done": queue.pause()}

    @router.post("/jobs/resume")
    def resume() -> dict[str, Any]:
        """Let what is paused go on."""
        return {"is_done": queue.resume()}

    @router.post("/jobs/withdraw")
    def withdraw(body: JobNumber) -> dict[str, Any]:
        """Remove a waiting job from the queue, and those that need it."""
        queue.cancel(body.number)
        return {"is_done": True}

    @router.post("/jobs/stop")
    def stop(body: JobNumber) -> dict[str, Any]:
        """Let a long call of the page end before its next file."""
        return {"is_done": context.activities.stop(body.number)}

    @router.get("/jobs/history")
    def history() -> dict[str, Any]:
        """Past runs, and the files that could not be read."""
        with context.reader() as reader:
            return {
                "runs": [run_as_json(run) for run in recent_runs(reader, _RUNS) if not is_trial(run)],
                "failures": [
                    (path, page_sentence(reason)) for path, reason in page_queries.failures(reader, _FAILURES)
                ],
            }

    @router.get("/jobs/moments")
    def moments_of_scan(after: RowId) -> dict[str, Any]:
        """The latest moments that a scan has found: those after the first one of its progress."""
        with context.reader() as reader:
            clocks = PlayerClocks(reader)
            latest = moments_after(reader, after, _MOMENTS)
            return {"moments": [card_as_json(card, clocks) for card in latest]}

    return router


def list_folders(path: str) -> dict[str, Any]:
    """A folder with its parent and its subfolders, and the folders in which people usually keep videos."""
    home = Path.home()
    current = Path(path) if path and os.path.isabs(path) else home
    try:
        names = _subfolders(current)
    except (OSError, ValueError):
        current, names = home, []
    return {
        "path": str(current),
        "parent": str(current.parent) if current.parent != current else None,
        "folders": [{"name": name, "path": str(current / name)} for name in names[:_MAX_FOLDERS]],
        "is_complete": len(names) <= _MAX_FOLDERS,
        "places": [
            {"name": "Home" if folder == home else folder.name, "path": str(folder)}
            for folder in (home, *(home / name for name in _USUAL_FOLDERS), *map(Path, _USUAL_MOUNTS))
            if folder.is_dir()
        ],
    }


def _subfolders(folder: Path) -> list[str]:
    """Names of the folders in `folder` that can be shown and are not hidden. Raises OSError, ValueError."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return sorted((name for name in names if name.isprintable()), key=str.casefold)
