"""Choosing folders, estimating, starting, pausing and cancelling scans. Plain functions without Gradio."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from vtag.app.ui.html_jobs import folder_chooser, history_section, jobs_panel
from vtag.app.ui.html_moments import gallery, moment_card
from vtag.app.ui.html_parts import format_duration, note, section
from vtag.app.ui.subprocess_command import run_for_json
from vtag.engine.errors import VtagError
from vtag.engine.jobs import job_queue
from vtag.engine.jobs.job_queue import JobQueue, scan_arguments
from vtag.engine.library import page_queries
from vtag.engine.library.database import open_reader
from vtag.engine.library.store import runs
from vtag.engine.text import display_path

_MAX_RUNS = 10
_MAX_FAILURES = 200
_LATEST_MOMENTS = 6  # shown below the progress
_MAX_FOLDERS = 300
_ESTIMATE_TIMEOUT_S = 120.0


class ScanForm(NamedTuple):
    """What the Scan tab asks for."""

    folders: str  # one on each line
    model: str = ""  # empty for the library's model
    stride_s: float | None = None
    view: str = "center"
    retry_failed: bool = False
    force: bool = False


def start_scan(library: Path, queue: JobQueue, form: ScanForm) -> str:
    """Start a scan, or add it to the queue."""
    try:
        arguments = _scan_command(library, form)
        is_started = queue.submit("scan", ", ".join(_folders(form)), arguments)
    except VtagError as error:
        return note(str(error), is_error=True)
    if is_started:
        return note("The scan starts. You can search a video as soon as it is done.")
    return note("Something runs already: the scan waits for its turn.")


def estimate_cost(library: Path, form: ScanForm) -> str:
    """The number of videos a scan would read, and how long it takes here. A child process counts them."""
    timeout_message = "these are so many files that counting them takes minutes: the scan shows its progress"
    try:
        arguments = _scan_command(library, form, "--dry-run", "--json")
        output = run_for_json(arguments, timeout_s=_ESTIMATE_TIMEOUT_S, timeout_message=timeout_message)
    except VtagError as error:
        return note(str(error), is_error=True)
    return note(_cost_sentence(output["plan"]))


def _cost_sentence(plan: dict[str, Any]) -> str:
    skipped = plan["skipped"]
    if not plan["videos"]:
        if skipped:
            return f"Nothing new: {skipped:,} videos are in the library and unchanged."
        return "There is no video in these folders."
    sentence = f"{plan['videos']:,} {'video' if plan['videos'] == 1 else 'videos'}"
    if plan["video_seconds"]:
        sentence += f", about {format_duration(plan['video_seconds'])} of video"
    if plan["estimate_seconds"]:
        sentence += f": about {format_duration(plan['estimate_seconds'])} on this machine"
    unchanged = f" {skipped:,} more are in the library and unchanged." if skipped else ""
    return f"{sentence}.{unchanged} You can cancel at any time and go on later."


def show_progress(library: Path, queue: JobQueue) -> str:
    """The active runs, the queue, and the latest moments while something runs."""
    with closing(open_reader(library)) as reader:
        active_runs = job_queue.active_runs(reader)
        moments = page_queries.latest_moments(reader, _LATEST_MOMENTS) if active_runs else []
    panel = jobs_panel(active_runs, queue.starting_job(), queue.waiting_jobs(), queue.failure)
    if moments:
        panel += section("Found so far", gallery(map(moment_card, moments), name="Found so far"), level=3)
    return panel


def show_history(library: Path) -> str:
    """Past runs, and the files that could not be read."""
    with closing(open_reader(library)) as reader:
        recent_runs = runs.recent_runs(reader, _MAX_RUNS)
        failures = page_queries.failures(reader, _MAX_FAILURES)
    return history_section(recent_runs, failures)


def cancel_run(queue: JobQueue) -> str:
    """Cancel the active run."""
    if not queue.interrupt():
        return note("Nothing runs.")
    return note("Ending: finished videos are kept. Start the same scan again to go on.")


def pause_run(queue: JobQueue) -> str:
    """Pause the active run. It keeps its memory and its place on the GPU."""
    if not queue.pause():
        return note("Nothing runs.")
    return note("Paused: it keeps its memory. Press Go on to continue.")


def resume_run(queue: JobQueue) -> str:
    """Resume the paused run."""
    return note("It goes on." if queue.resume() else "Nothing is paused.")


def show_folders(path: str = "") -> str:
    """The folders in `path` to choose from; in the home folder if `path` is no readable absolute path."""
    current = Path(path) if path and os.path.isabs(path) else Path.home()
    try:
        names = sorted(
            (
                entry.name
                for entry in os.scandir(current)
                if entry.is_dir() and not entry.name.startswith(".")
            ),
            key=str.casefold,
        )
    except OSError:
        current, names = Path.home(), []
    parent = str(current.parent) if current.parent != current else None
    subfolders = [
        (display_path(name), str(current / name)) for name in names[:_MAX_FOLDERS] if name.isprintable()
    ]
    return folder_chooser(str(current), parent, subfolders, _shortcuts())


def add_folder(lines: str, path: str) -> str:
    """The folders in `lines`, one on each line, with `path` added."""
    folders = [line.strip() for line in lines.splitlines() if line.strip()]
    return "\n".join(dict.fromkeys([*folders, path]))


def _shortcuts() -> list[tuple[str, str]]:
    """Name and path of the folders in which people usually keep videos, if they exist."""
    home = Path.home()
    candidates = [home, home / "Videos", home / "Movies", home / "Pictures"]
    candidates += [Path("/media"), Path("/mnt"), Path("/Volumes")]
    return [
        ("Home" if folder == home else folder.name, str(folder)) for folder in candidates if folder.is_dir()
    ]


def _folders(form: ScanForm) -> list[str]:
    return [str(Path(line.strip()).expanduser()) for line in form.folders.splitlines() if line.strip()]


def _scan_command(library: Path, form: ScanForm, *options: str) -> list[str]:
    """The arguments of the scan. Raises VtagError if a folder cannot be scanned."""
    arguments = [*options]
    if form.model:
        arguments += ["--model", form.model]
    if form.stride_s:
        arguments += ["--stride", str(form.stride_s)]
    if form.view != "center":
        arguments += ["--view", form.view]
    arguments += ["--retry-failed"] * form.retry_failed + ["--force"] * form.force
    return scan_arguments(library, _folders(form), *arguments)
