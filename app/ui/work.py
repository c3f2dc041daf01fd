"""Scans: folders to choose, what a scan would cost, start, progress, cancel. Plain functions, without Gradio."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from vtag.app.ui.child import told_by
from vtag.app.ui.html_moments import card, gallery
from vtag.app.ui.html_parts import duration, note
from vtag.app.ui.html_work import chooser, failures_table, now_running, runs_table
from vtag.engine.errors import VtagError
from vtag.engine.jobs import job_queue
from vtag.engine.jobs.job_queue import JobQueue, scan_arguments
from vtag.engine.library import page_queries
from vtag.engine.library.database import open_reader
from vtag.engine.library.store import runs
from vtag.engine.text import display_path

_RUNS = 10
_FAILURES = 200
_FOUND = 6  # of the latest moments, beside the progress
_MOST_FOLDERS = 300
_COST_WITHIN_S = 120.0


class Options(NamedTuple):
    """How a scan is asked for."""

    folders: str  # one a line
    model: str = ""  # empty: the library's
    stride_s: float | None = None
    view: str = "center"
    retry_failed: bool = False
    force: bool = False


def begin(library: Path, queue: JobQueue, asked: Options) -> str:
    """Start a scan, or let it wait for its turn."""
    try:
        arguments = _arguments(library, asked)
        now = queue.submit("scan", ", ".join(_folders(asked)), arguments)
    except VtagError as error:
        return note(str(error), is_error=True)
    if now:
        return note("The scan starts. What it finished can be searched at once.")
    return note("Something runs already: the scan waits for its turn.")


def cost(library: Path, asked: Options) -> str:
    """What a scan would do and how long this machine takes for it, found out by a process of its own."""
    too_many = "these are so many files that counting them takes minutes: the scan says how far it is"
    try:
        arguments = _arguments(library, asked, "--dry-run", "--json")
        told = told_by(arguments, within_s=_COST_WITHIN_S, too_long=too_many)
    except VtagError as error:
        return note(str(error), is_error=True)
    return note(_cost_sentence(told["plan"]))


def _cost_sentence(plan: dict[str, Any]) -> str:
    if not plan["videos"]:
        known = plan["skipped"]
        return (
            f"Nothing new: {known:,} videos are known and unchanged."
            if known
            else "There is no video in there."
        )
    parts = [f"{plan['videos']:,} {'video' if plan['videos'] == 1 else 'videos'}"]
    if plan["video_seconds"]:
        parts.append(f"about {duration(plan['video_seconds'])} of video")
    sentence = ", ".join(parts)
    if plan["estimate_seconds"]:
        sentence += f": about {duration(plan['estimate_seconds'])} on this machine"
    known = f" {plan['skipped']:,} more are known and unchanged." if plan["skipped"] else ""
    return f"{sentence}.{known} It can be cancelled at any time, and goes on from there."


def under_way(library: Path, queue: JobQueue) -> str:
    """What runs, what waits, and what was found last."""
    with closing(open_reader(library)) as reader:
        now = job_queue.active_runs(reader)
        latest = page_queries.latest_moments(reader, _FOUND) if now else []
    shown = now_running(now, queue.starting_job(), queue.waiting_jobs(), queue.failure)
    if latest:
        shown += "<h3>Found so far</h3>" + gallery(map(card, latest), name="Found so far")
    return shown


def history(library: Path) -> str:
    """What ran, and the files that could not be read."""
    with closing(open_reader(library)) as reader:
        ran = runs.recent_runs(reader, _RUNS)
        failed = page_queries.failures(reader, _FAILURES)
    return f"<h2>Before</h2>{runs_table(ran)}<h2>Files that cannot be read</h2>{failures_table(failed)}"


def end(queue: JobQueue) -> str:
    """Cancel what runs."""
    ended = queue.interrupt()
    return note(
        "Ending: what is finished is kept, and the same again goes on from there."
        if ended
        else "Nothing runs."
    )


def pause(queue: JobQueue) -> str:
    """Let what runs rest: memory and card stay its own."""
    paused = queue.pause()
    return note("Paused: it keeps its memory and goes on when you say so." if paused else "Nothing runs.")


def go_on(queue: JobQueue) -> str:
    """Let go on what was paused."""
    return note("It goes on." if queue.resume() else "Nothing is paused.")


def folders(path: str = "") -> str:
    """The folders in `path` (the home folder where it is none), to choose from."""
    here = Path(path) if path and os.path.isabs(path) else Path.home()
    try:
        inside = sorted(
            (entry.name for entry in os.scandir(here) if entry.is_dir() and not entry.name.startswith(".")),
            key=str.casefold,
        )
    except OSError:
        here, inside = Path.home(), []
    parent = str(here.parent) if here.parent != here else None
    shown = [(display_path(name), str(here / name)) for name in inside[:_MOST_FOLDERS] if name.isprintable()]
    return chooser(str(here), parent, shown, _places())


def taken(lines: str, path: str) -> str:
    """The folders asked for, with one more."""
    known = [line.strip() for line in lines.splitlines() if line.strip()]
    return "\n".join(dict.fromkeys([*known, path]))


def _places() -> list[tuple[str, str]]:
    """Where people keep videos."""
    home = Path.home()
    likely = [
        home,
        home / "Videos",
        home / "Movies",
        home / "Pictures",
        Path("/media"),
        Path("/mnt"),
        Path("/Volumes"),
    ]
    return [("Home" if place == home else place.name, str(place)) for place in likely if place.is_dir()]


def _folders(asked: Options) -> list[str]:
    return [str(Path(line.strip()).expanduser()) for line in asked.folders.splitlines() if line.strip()]


def _arguments(library: Path, asked: Options, *more: str) -> list[str]:
    options = [*more]
    if asked.model:
        options += ["--model", asked.model]
    if asked.stride_s:
        options += ["--stride", str(asked.stride_s)]
    if asked.view != "center":
        options += ["--view", asked.view]
    options += ["--retry-failed"] * asked.retry_failed + ["--force"] * asked.force
    return scan_arguments(library, _folders(asked), *options)
