"""What runs, what waits, what failed, folders to choose from, and models to fetch, as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vtag.app.ui.html_parts import button, duration, kind_of_run, note, size, table, text
from vtag.app.ui.html_teach import training_curves
from vtag.engine.jobs.job_queue import CAN_PAUSE
from vtag.engine.library.store.runs import estimate_run
from vtag.engine.library.timestamps import local_minute

if TYPE_CHECKING:
    from vtag.engine.jobs.job_queue import QueuedJob
    from vtag.engine.jobs.model_downloads import DownloadState
    from vtag.engine.library.store.runs import Run
    from vtag.engine.models.catalog import CatalogEntry
    from vtag.engine.models.registry import InstalledModel

_STATES = {
    "running": "● running",
    "paused": "‖ paused",
    "done": "✓ done",
    "failed": "✗ failed",
    "interrupted": "◼ interrupted: the same again goes on from there",
}


def now_running(
    runs: Iterable[Run],
    starting: QueuedJob | None,
    waiting: Sequence[QueuedJob],
    trouble: str,
    idle: str = "Nothing runs.",
) -> str:
    """What is under way with how far it is, what waits behind it, why the last one failed; else `idle`."""
    shown = [_progress(run) for run in runs]
    if starting and not shown:
        shown = [
            f'<div class="vtag-job"><strong>{text(kind_of_run(starting.kind))}</strong> '
            f'<span class="vtag-path">{text(starting.subject)}</span><p>Starting: the model is read.</p>'
            f"{_bar(None, 'starting')}{button('end', 'Cancel', about='Cancel what runs')}</div>"
        ]
    queue = "".join(
        f'<li><strong>{text(kind_of_run(job.kind))}</strong> <span class="vtag-path">{text(job.subject)}</span> '
        f"{_take_out(job)}</li>"
        for job in waiting
    )
    waits = f'<h3>Waiting</h3><ol class="vtag-queue">{queue}</ol>' if queue else ""
    rests = "" if shown or waits or trouble else note(idle)
    return f'<div aria-live="polite">{note(trouble, is_error=True)}</div>{"".join(shown)}{waits}{rests}'


def _progress(run: Run) -> str:
    told = run.progress
    parts = (["Paused"] if run.state == "paused" else []) + _how_far(run)
    share = None
    if told.get("of_ms") and "video_ms" in told:
        share = min(1.0, told["video_ms"] / told["of_ms"])
    elif "share" in told or told.get("to_look"):
        share = told["share"] if "share" in told else told.get("looked", 0) / told["to_look"]
    return (
        f'<div class="vtag-job"><strong>{text(kind_of_run(run.kind))}</strong> '
        f'<span class="vtag-path">{text(run.command[:300])}</span><p>{text(" · ".join(parts) or "Beginning.")}</p>'
        f"{_bar(share, 'done')}{_buttons(run)}"
        f"{training_curves(_numbers(told.get('history')))}</div>"
    )


def _how_far(run: Run) -> list[str]:
    told, ahead = run.progress, estimate_run(run)
    is_paused, parts = run.state == "paused", []
    if "videos" in told:
        parts.append(f"{told['videos']:,} of {told.get('of', 0):,} videos")
    if told.get("video_ms"):
        parts.append(f"{duration(told['video_ms'] / 1000)} of video")
    if "epoch" in told:
        parts.append(f"epoch {told['epoch']} of {told.get('of', '?')}")
        parts.append(f"loss {told.get('loss', 0):.3f}, {100 * told.get('accuracy', 0):.0f} % right")
    if told.get("to_look"):
        does = "measuring" if "epoch" in told else "looking"
        parts.append(f"{does}: {told.get('looked', 0):,} of {told['to_look']:,} {told.get('what', '')}")
    if ahead.speed and not is_paused:
        parts.append(f"{ahead.speed:.1f}× real time")
    if ahead.left_s is not None and not is_paused and not told.get("to_look"):
        parts.append(f"about {duration(ahead.left_s)} left")
    return parts


def _buttons(run: Run) -> str:
    """What can be done with a run; another machine's can only be looked at."""
    if not run.is_here:
        return f"<p>It runs on {text(run.host)}.</p>"
    holds = ""
    if CAN_PAUSE:
        holds = (
            button("resume", "Go on", about="Go on with what is paused", kind="vtag-primary")
            if run.state == "paused"
            else button("pause", "Pause", about="Pause what runs")
        )
    return f"{holds} {button('end', 'Cancel', about='Cancel what runs')}"


def _numbers(columns: object) -> dict[str, list[float]]:
    """Of the columns that a training told, those that are numbers."""
    if not isinstance(columns, dict):
        return {}
    told = {str(name): [v for v in values if isinstance(v, int | float)] for name, values in columns.items()}
    return {name: values for name, values in told.items() if values}


def _bar(share: float | None, name: str) -> str:
    value = "" if share is None else f' value="{share:.4f}"'
    return f'<progress max="1"{value} aria-label="{text(name)}"></progress>'


def _take_out(job: QueuedJob) -> str:
    about = f"Take {job.kind} of {job.subject} out of the queue"
    return button("withdraw", "Take out", about=about, told={"number": job.number})


def runs_table(runs: Iterable[Run]) -> str:
    """What ran, newest first."""
    rows = [
        (
            text(local_minute(run.started_at)),
            text(kind_of_run(run.kind)),
            f'<span class="vtag-path">{text(run.command[:200])}</span>',
            text(_STATES.get(run.state, run.state)),
            text(f"{run.progress['videos']:,} of {run.progress.get('of', 0):,}")
            if "videos" in run.progress
            else "",
        )
        for run in runs
    ]
    heads = ("Started", "What", "Of", "State", "Videos")
    return table("Scans and trainings", heads, rows) if rows else note("Nothing was scanned yet.")


def failures_table(failed: Sequence[tuple[str, str]]) -> str:
    """Files that could not be read, and why."""
    if not failed:
        return note("Every file could be read.")
    rows = [(f'<span class="vtag-path">{text(path)}</span>', text(why)) for path, why in failed]
    return table("Files that cannot be read", ("File", "Why"), rows)


def chooser(
    here: str, parent: str | None, folders: Iterable[tuple[str, str]], places: Iterable[tuple[str, str]]
) -> str:
    """Folders of this machine to go into, and a button that takes the one that is shown.

    The buttons carry a `folder`: what is called a path is a file to Gradio, which refuses it.
    """
    starts = "".join(
        f"<li>{button('go', name, about=f'Go to {path}', told={'folder': path})}</li>"
        for name, path in places
    )
    up = (
        f"<li>{button('go', '↑ up', about='One folder up', told={'folder': parent})}</li>"
        if parent is not None
        else ""
    )
    inside = "".join(
        f"<li>{button('go', name, about=f'Go into {name}', told={'folder': path})}</li>"
        for name, path in folders
    )
    return (
        f'<details class="vtag-chooser" open><summary>Choose a folder</summary>'
        f'<ul class="vtag-chips" aria-label="Places">{starts}</ul>'
        f'<p class="vtag-here"><span class="vtag-path">{text(here)}</span> '
        f"{button('take', 'Take this folder', about=f'Take {here}', kind='vtag-primary', told={'folder': here})}</p>"
        f'<ul class="vtag-chips vtag-folders" aria-label="Folders in {text(here)}">{up}{inside}</ul></details>'
    )


def models_table(
    installed: Sequence[InstalledModel], entries: Iterable[CatalogEntry], pulling: Sequence[DownloadState]
) -> str:
    """The models that are here, and those that can be fetched, with size, host, licence and how far a download is."""
    here = {model.name: model for model in installed}
    under_way = {pull.name: pull for pull in pulling}
    rows = []
    entries = list(entries)
    for model in [m for m in installed if m.name not in {e.name for e in entries}]:
        licence = model.spec.licence if model.spec else ""
        what = model.problem or "here"
        rows.append(
            (
                f"<strong>{text(model.name)}</strong>",
                size(model.size_bytes),
                "",
                text(licence),
                "",
                text(what),
            )
        )
    for entry in entries:
        rows.append(
            (
                f"<strong>{text(entry.name)}</strong><br><small>{text(entry.title)}</small>",
                size(entry.size_bytes) if entry.size_bytes else "not published",
                text(entry.host),
                text(entry.licence),
                f"{entry.top1:.1f} % <small>{text(entry.trained_on)}</small>" if entry.top1 else "",
                "here" if entry.name in here else _pull_cell(entry, under_way.get(entry.name)),
            )
        )
    return table("Models", ("Model", "Size", "From", "Licence", "Top-1 as published", "Here"), rows)


def _pull_cell(entry: CatalogEntry, pulling: DownloadState | None) -> str:
    def pull(word: str) -> str:
        return button("pull", word, about=f"{word}: {entry.name}, {entry.terms}", told={"name": entry.name})

    if pulling is None:
        return pull("Download")
    if pulling.failure:
        return note(pulling.failure, is_error=True) + pull("Try again")
    if not pulling.is_running:
        return note(f"{size(pulling.downloaded_bytes)} are here.") + pull("Go on")
    share = min(1.0, pulling.downloaded_bytes / entry.size_bytes) if entry.size_bytes else None
    stop = (
        button("stop", "Stop", about=f"Stop the download of {entry.name}", told={"name": entry.name})
        if pulling.can_stop
        else ""
    )
    of = f" of {size(entry.size_bytes)}" if entry.size_bytes else ""
    return f"{_bar(share, f'download of {entry.name}')}<p>{size(pulling.downloaded_bytes)}{of}</p>{stop}"
