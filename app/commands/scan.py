"""`vtag scan`: runs a scan, draws its events, prints its summary."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from vtag.app.completions import complete_model
from vtag.app.console import ask_yes_no, can_ask, complain, is_terminal, put_json, say
from vtag.app.options import Backend, Db, Device, Json, Precision, Threshold, parse_threshold
from vtag.app.results import moment_lines
from vtag.app.scan_view import ScanView, profile_line
from vtag.engine.text import display_path, printable

if TYPE_CHECKING:
    from vtag.engine.checkpoints.load import Checkpoint
    from vtag.engine.library.database import LibraryWriter
    from vtag.engine.scan.events import ScanEvent, ScanFinished, ScanPlanned, WatchStatus
    from vtag.engine.scan.options import ScanOptions
    from vtag.engine.scan.pipeline import OpenPipeline
    from vtag.engine.scan.shard import Shard

_MAX_LISTED = 10  # labels at the end of a scan

Effort = Literal["fast", "normal", "thorough"]


def scan(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Folders and files to scan.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME|PATH",
            help="Model to use; the library remembers it.",
            autocompletion=complete_model,
        ),
    ] = None,
    backend: Backend = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    stride: Annotated[
        float | None,
        typer.Option(
            min=0.1, metavar="SECONDS", help="Time between window starts; default: one window length."
        ),
    ] = None,
    view: Annotated[
        Literal["center", "full", "three"] | None,
        typer.Option(help="Frame region: centre (default), the full frame, or three crops, averaged."),
    ] = None,
    threshold: Threshold = None,
    force: Annotated[bool, typer.Option("--force", help="Scan known videos again.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry files that failed before.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    include: Annotated[
        list[str] | None,
        typer.Option("--include", metavar="GLOB", help="Files to include, such as '*.mp4' or 'trips/**'."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            metavar="GLOB",
            help="Files and folders to skip; a .vtagignore file holds such globs.",
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep scanning new and changed files.")] = False,
    poll: Annotated[
        bool, typer.Option("--poll", help="Watch by checking every minute, for network shares.")
    ] = False,
    effort: Annotated[
        Effort,
        typer.Option(
            help="Scan density. fast: every second window; thorough: overlapping windows, full frame."
        ),
    ] = "normal",
    passes: Annotated[
        int | None,
        typer.Option(min=1, max=3, help="Number of passes, coarse ones first; default: all."),
    ] = None,
    skip_static: Annotated[bool, typer.Option("--skip-static", help="Skip windows without motion.")] = False,
    nice: Annotated[
        bool | None,
        typer.Option("--nice/--no-nice", help="Run at low priority; default on a CPU at a terminal."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N|auto",
            help="Scan part I of N into a library of its own; auto: as the Slurm or Kubernetes job says.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="auto|ray://HOST:10001", help="Scan on the nodes of a Ray cluster (docs/scale.md)."
        ),
    ] = None,
    path_map: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="HERE=THERE", help="Folder of this machine, and its path on the nodes."
        ),
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Print the time of each part.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print the files that were left out.")
    ] = False,
    json: Json = False,
    db: Db = None,
) -> None:
    """Find what happens in the videos at each PATH.

    A second scan opens only new and changed files. Ctrl-C keeps what is finished.
    """
    from vtag.engine.library.database import LibraryWriter
    from vtag.engine.library.page_queries import latest_moment_id
    from vtag.engine.paths import library_path
    from vtag.engine.scan.discover import require_root
    from vtag.engine.scan.model_selection import choose_model, register_model
    from vtag.engine.scan.options import ScanOptions
    from vtag.engine.scan.scan import scan as run
    from vtag.engine.scan.shard import shard_library
    from vtag.engine.system.signals import catch_interrupts

    part = _parse_shard(shard)
    if part and (watch or poll):
        raise typer.BadParameter("a part of a scan does not watch: leave out --watch", param_hint="--shard")
    open_pipeline = _choose_pipeline(cluster, path_map or [], paths)
    if cluster and (watch or poll):
        raise typer.BadParameter("a cluster does not watch: leave out --watch", param_hint="--cluster")
    folders = [os.fsencode(p) for p in paths]
    if not (watch or poll):  # which wait for a folder
        for folder in folders:
            require_root(folder)  # before anything is asked or written
    library_file = library_path(db)
    if part:
        library_file = shard_library(library_file, part)
        say(f"part {part} goes into {display_path(library_file)}; `vtag library merge` joins the parts")
    options = ScanOptions(
        backend=backend,
        device=device,
        precision=precision,
        stride_s=stride,
        view=view,
        threshold=parse_threshold(threshold),
        force=force,
        retry_failed=retry_failed,
        dry_run=dry_run,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        effort=effort,
        passes=passes,
        skip_static=skip_static,
        nice=is_terminal() if nice is None else nice,
        shard=part,
    )
    with LibraryWriter.open(library_file) as library, catch_interrupts():
        last_moment = latest_moment_id(library.connection)
        try:
            note = _starter_note(library, model, device, ask=not dry_run)
            checkpoint, source = choose_model(library, model, device)
            if not dry_run:
                register_model(library, checkpoint, source)
            if watch or poll:
                _follow(library, folders, checkpoint, options, note, poll=poll, verbose=verbose)
            planned, finished = _draw(
                run(library, folders, checkpoint, options, open_pipeline), note, verbose=verbose
            )
        except KeyboardInterrupt:
            complain("interrupted; what was finished is kept, and the same command goes on from there")
            raise typer.Exit(130) from None
        if finished.scanned and not json:
            _report_best(library, last_moment)
    if profile and finished.profile:
        say(profile_line(finished.profile))
    if json:
        put_json(_as_json(finished) | ({"plan": _plan_json(planned)} if planned and dry_run else {}))
    if finished.failed:
        raise typer.Exit(3)


def _choose_pipeline(cluster: str | None, path_map: list[str], paths: list[Path]) -> OpenPipeline:
    """What computes: this machine, or a cluster. Raises ClusterError if Ray is not installed."""
    from vtag.engine.scan.pipeline import open_local_pipeline

    if cluster is None:
        if path_map:
            raise typer.BadParameter("only the nodes of a --cluster have other paths", param_hint="--map")
        return open_local_pipeline
    from vtag.engine.cluster.connection import require_ray
    from vtag.engine.cluster.options import ClusterOptions, parse_path_map
    from vtag.engine.cluster.pipeline import cluster_pipeline

    require_ray()
    try:
        mapped = parse_path_map(path_map, [os.fsencode(path) for path in paths])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--map") from error
    try:
        return cluster_pipeline(ClusterOptions(cluster, mapped))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--cluster") from error


def _parse_shard(text: str | None) -> Shard | None:
    from vtag.engine.scan.shard import parse_shard

    if text is None:
        return None
    try:
        return parse_shard(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--shard") from error


def _report_best(library: LibraryWriter, last_moment: int) -> None:
    """Print the best moment of each label that the scan found, and how to play the first."""
    from vtag.engine.library.search.moments import search
    from vtag.engine.library.search.player_times import MomentClocks

    best = search(library.connection, "", less_sure="fill", limit=_MAX_LISTED, newer_than=last_moment)
    for line in moment_lines(MomentClocks(library.connection).to_player(best)):
        say(line)
    if best:
        say(f"play the first: vtag search {shlex.quote(best[0].label)} --open")


def _starter_note(library: LibraryWriter, model: str | None, device: str, *, ask: bool) -> str:
    """Offer a new library the best model for it. Returns a line about the starter if it is used instead."""
    from vtag.app.commands.models import fetch_shown
    from vtag.engine.scan.model_selection import recommended_download

    entry = recommended_download(library, model, device)
    if entry is None:
        return ""
    if ask and can_ask():
        say(f"{entry.name} is not here: {printable(entry.title)}, {printable(entry.terms)}")
        if ask_yes_no("download it? Without it the small starter model looks"):
            fetch_shown(entry.name)
            return ""
    return (
        f"the starter is small, knows 70 actions and is weak; `vtag models pull {entry.name}` downloads a full model "
        f"({printable(entry.terms)})"
    )


def _follow(
    library: LibraryWriter,
    folders: list[bytes],
    checkpoint: Checkpoint,
    options: ScanOptions,
    note: str,
    *,
    poll: bool,
    verbose: bool,
) -> NoReturn:
    """Draw scan after scan until Ctrl-C."""
    from vtag.engine.scan.events import ScanFinished, WatchStatus
    from vtag.engine.scan.watch import watch

    view = None
    try:
        for event in watch(library, folders, checkpoint, options, poll=poll):
            if isinstance(event, WatchStatus):
                _report_watching(event)
            elif isinstance(event, ScanFinished):
                (view or ScanView()).finish(event, verbose=verbose)
                view = None
            else:
                if view is None:
                    view, note = ScanView(note), ""
                view.show(event)
    finally:
        if view:
            view.close()
    raise AssertionError("a watch ends by an interruption")


def _report_watching(event: WatchStatus) -> None:
    if event.present:
        polling = ", looking every minute" if event.polling else ""
        say(f"watching {', '.join(map(display_path, event.present))}{polling}; Ctrl-C ends it")
    for path in event.absent:
        say(f"waiting for {display_path(path)}, which is not there")


def _draw(
    events: Iterator[ScanEvent], note: str, *, verbose: bool
) -> tuple[ScanPlanned | None, ScanFinished]:
    from vtag.engine.scan.events import ScanFinished, ScanPlanned

    planned = None
    with ScanView(note) as view:
        for event in events:
            if isinstance(event, ScanFinished):
                view.finish(event, verbose=verbose)
                return planned, event
            if isinstance(event, ScanPlanned):
                planned = event
            view.show(event)
    raise AssertionError("a scan ends with its sum")


def _as_json(done: ScanFinished) -> dict[str, Any]:
    return {
        "scanned": done.scanned,
        "skipped": done.skipped,
        "known_failed": done.known_failed,
        "failed": [
            {"path": os.fsdecode(f.path).encode("utf-8", "replace").decode(), "error": printable(f.error)}
            for f in done.failed
        ],
        "windows": done.windows,
        "moments": done.moments,
        "less_sure": done.less_sure,
        "unfinished": done.unfinished,
        "by_another_scan": done.elsewhere,
        "video_seconds": round(done.video_ms / 1000, 3),
        "wall_seconds": round(done.wall_s, 3),
    }


def _plan_json(plan: ScanPlanned) -> dict[str, Any]:
    return {
        "videos": plan.videos,
        "video_seconds": round(plan.video_ms / 1000, 1),
        "estimate_seconds": None if plan.estimate_s is None else round(plan.estimate_s, 1),
        "skipped": plan.skipped,
        "known_failed": plan.known_failed,
        "left_out": plan.excluded,
    }
