"""Jobs as HTML: the ones that run, the queue, past runs, files that failed, and the folder chooser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from vtag.app.ui.html_parts import (
    button,
    escape,
    format_duration,
    heading,
    note,
    path,
    progress_bar,
    run_title,
    table,
)
from vtag.app.ui.html_teach import training_curves
from vtag.engine.jobs.job_queue import CAN_PAUSE
from vtag.engine.library.store.runs import estimate_run
from vtag.engine.library.timestamps import local_minute

if TYPE_CHECKING:
    from vtag.engine.jobs.job_queue import QueuedJob
    from vtag.engine.library.store.runs import Run

_STATES = {
    "running": "● running",
    "paused": "‖ paused",
    "done": "✓ done",
    "failed": "✗ failed",
    "interrupted": "◼ interrupted: start the same again to go on",
}


def jobs_panel(
    runs: Iterable[Run],
    starting_job: QueuedJob | None,
    waiting_jobs: Sequence[QueuedJob],
    failure: str,
    idle: str = "Nothing runs.",
) -> str:
    """The runs with their progress, the waiting jobs, and why the last job failed; `idle` if there is none of it."""
    active = [_run_panel(run) for run in runs]
    if starting_job and not active:
        active = [
            f'<div class="vtag-job">{_title(starting_job.kind, starting_job.subject)}'
            f"<p>Starting: the model is loaded.</p>{progress_bar(None, 'starting')}{_cancel_button()}</div>"
        ]
    queue = "".join(
        f"<li>{_title(job.kind, job.subject)} {_withdraw_button(job)}</li>" for job in waiting_jobs
    )
    waiting = f'{heading("Waiting", 3)}<ol class="vtag-queue">{queue}</ol>' if queue else ""
    idle_note = "" if active or waiting or failure else note(idle)
    alert = f'<div aria-live="polite">{note(failure, is_error=True)}</div>'
    return f"{alert}{''.join(active)}{waiting}{idle_note}"


def _title(kind: str, subject: str) -> str:
    return f"<strong>{escape(run_title(kind))}</strong> {path(subject)}"


def _run_panel(run: Run) -> str:
    facts = (["Paused"] if run.state == "paused" else []) + _progress_facts(run)
    return (
        f'<div class="vtag-job">{_title(run.kind, run.command[:300])}'
        f"<p>{escape(' · '.join(facts) or 'Beginning.')}</p>"
        f"{progress_bar(_progress_share(run), 'done')}{_run_buttons(run)}"
        f"{training_curves(_numeric_columns(run.progress.get('history')))}</div>"
    )


def _progress_share(run: Run) -> float | None:
    """The finished part of a run, from 0 to 1; None if it is unknown."""
    progress = run.progress
    if progress.get("of_ms") and "video_ms" in progress:
        return float(min(1.0, progress["video_ms"] / progress["of_ms"]))
    if "share" in progress:
        return float(progress["share"])
    if progress.get("to_look"):
        return float(progress.get("looked", 0) / progress["to_look"])
    return None


def _progress_facts(run: Run) -> list[str]:
    progress, estimate = run.progress, estimate_run(run)
    is_paused, facts = run.state == "paused", []
    if "videos" in progress:
        facts.append(f"{progress['videos']:,} of {progress.get('of', 0):,} videos")
    if progress.get("video_ms"):
        facts.append(f"{format_duration(progress['video_ms'] / 1000)} of video")
    if "epoch" in progress:
        facts.append(f"epoch {progress['epoch']} of {progress.get('of', '?')}")
        facts.append(f"loss {progress.get('loss', 0):.3f}, {100 * progress.get('accuracy', 0):.0f} % right")
    if progress.get("to_look"):
        stage = "measuring" if "epoch" in progress else "reading"
        facts.append(
            f"{stage}: {progress.get('looked', 0):,} of {progress['to_look']:,} {progress.get('what', '')}"
        )
    if estimate.speed and not is_paused:
        facts.append(f"{estimate.speed:.1f}× real time")
    if estimate.left_s is not None and not is_paused and not progress.get("to_look"):
        facts.append(f"about {format_duration(estimate.left_s)} left")
    return facts


def _run_buttons(run: Run) -> str:
    """Pause or go on, and cancel. A run on another machine has no buttons."""
    if not run.is_here:
        return f"<p>It runs on {escape(run.host)}.</p>"
    pause = ""
    if CAN_PAUSE:
        pause = (
            button("resume", "Go on", description="Go on with what is paused", css_class="vtag-primary")
            if run.state == "paused"
            else button("pause", "Pause", description="Pause what runs")
        )
    return f"{pause} {_cancel_button()}"


def _cancel_button() -> str:
    return button("end", "Cancel", description="Cancel what runs")


def _withdraw_button(job: QueuedJob) -> str:
    description = f"Remove {job.kind} of {job.subject} from the queue"
    return button("withdraw", "Remove", description=description, data={"number": job.number})


def _numeric_columns(history: object) -> dict[str, list[float]]:
    """The numbers of each column of a training's history; a column without numbers is left out."""
    if not isinstance(history, Mapping):
        return {}
    columns = {
        str(name): [v for v in values if isinstance(v, int | float)] for name, values in history.items()
    }
    return {name: values for name, values in columns.items() if values}


def history_section(runs: Iterable[Run], failures: Sequence[tuple[str, str]]) -> str:
    """Past runs, newest first, and the files that could not be read, each with the reason."""
    return (
        f"{heading('Previous runs')}{_runs_table(runs)}"
        f"{heading('Files that cannot be read')}{_failures_table(failures)}"
    )


def _runs_table(runs: Iterable[Run]) -> str:
    rows = [
        (
            escape(local_minute(run.started_at)),
            escape(run_title(run.kind)),
            path(run.command[:200]),
            escape(_STATES.get(run.state, run.state)),
            escape(f"{run.progress['videos']:,} of {run.progress.get('of', 0):,}")
            if "videos" in run.progress
            else "",
        )
        for run in runs
    ]
    columns = ("Started", "Job", "Input", "State", "Videos")
    return table("Scans and trainings", columns, rows) if rows else note("Nothing was scanned yet.")


def _failures_table(failures: Sequence[tuple[str, str]]) -> str:
    if not failures:
        return note("Every file could be read.")
    rows = [(path(display), escape(reason)) for display, reason in failures]
    return table("Files that cannot be read", ("File", "Reason"), rows)


def folder_chooser(
    current: str,
    parent: str | None,
    subfolders: Iterable[tuple[str, str]],
    shortcuts: Iterable[tuple[str, str]],
) -> str:
    """Buttons to walk through the folders of this machine, and one that takes the current folder.

    Args:
        parent: None at the root.
        subfolders: name and path of each.
        shortcuts: likewise, folders in which videos are common.
    """
    shortcut_items = "".join(_folder_item(name, f"Go to {folder}", folder) for name, folder in shortcuts)
    parent_item = _folder_item("↑ up", "One folder up", parent) if parent is not None else ""
    subfolder_items = "".join(_folder_item(name, f"Go into {name}", folder) for name, folder in subfolders)
    take = button(
        "take",
        "Take this folder",
        description=f"Take {current}",
        css_class="vtag-primary",
        data={"folder": current},
    )
    return (
        f'<details class="vtag-chooser" open><summary>Choose a folder</summary>'
        f'<ul class="vtag-chips" aria-label="Places">{shortcut_items}</ul>'
        f'<p class="vtag-current-folder">{path(current)} {take}</p>'
        f'<ul class="vtag-chips vtag-folders" aria-label="Folders in {escape(current)}">'
        f"{parent_item}{subfolder_items}</ul></details>"
    )


def _folder_item(caption: str, description: str, folder: str) -> str:
    """A button that goes to a folder. Its data is named `folder`, since Gradio refuses data named `path`."""
    return f"<li>{button('go', caption, description=description, data={'folder': folder})}</li>"
