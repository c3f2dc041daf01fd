"""What the library holds, on which volumes, how much disk it takes, and the models: plain functions."""

from __future__ import annotations

from contextlib import closing
from functools import lru_cache
from pathlib import Path

from vtag.app.ui.html_charts import over_time
from vtag.app.ui.html_moments import labels_list
from vtag.app.ui.html_parts import duration, figures, note, size, table, text
from vtag.app.ui.html_work import models_table
from vtag.engine.errors import VtagError
from vtag.engine.jobs.model_downloads import ModelDownloads
from vtag.engine.library import page_queries
from vtag.engine.library.analysis.history import history
from vtag.engine.library.database import OBSERVATIONS_FILE, open_reader
from vtag.engine.library.search.moments import label_counts
from vtag.engine.library.store.volumes import Volume, Volumes
from vtag.engine.models.catalog import read_catalog
from vtag.engine.models.registry import installed_models
from vtag.engine.paths import models_dir

_LABELS = 60
_LINES = 7  # labels in the chart over time


def holdings(library: Path, cache: Path) -> str:
    """What is quickly said: counts, volumes and disk."""
    with closing(open_reader(library)) as reader:
        count = page_queries.library_size(reader)
        places = page_queries.volumes(reader)
    shown = figures(
        [
            (f"{count.videos:,}", "videos"),
            (duration(count.video_ms / 1000) if count.video_ms else "0 h", "of video"),
            (f"{count.failed:,}", "unreadable"),
        ]
    )
    return f"{shown}<h2>Volumes</h2>{_volumes(places)}<h2>Disk</h2>{_disk(library, cache)}"


def found(library: Path) -> str:
    """The labels by how often each was found, and over time: counted anew where anything was found since."""
    with closing(open_reader(library)) as reader:
        return _counted(library, page_queries.latest_moment_id(reader))


@lru_cache(maxsize=4)
def _counted(library: Path, last_moment: int) -> str:
    with closing(open_reader(library)) as reader:
        counted = label_counts(reader)
        told = history(reader, label_limit=_LINES)
    by_time = [
        (period, row.label, number)
        for row in told.labels
        for period, number in zip(told.periods, row.counts, strict=True)
    ]
    named = [row for row in counted if row[1]]
    shown = figures([(f"{sum(n for _, n in named):,}", "moments"), (f"{len(named):,}", "labels")])
    return f"<h2>Found</h2>{shown}{over_time(by_time)}<h2>Labels</h2>{labels_list(counted[:_LABELS])}"


def models(pulls: ModelDownloads) -> str:
    """The models that are here and those that can be fetched."""
    try:
        return models_table(installed_models(), read_catalog().values(), pulls.states())
    except VtagError as error:
        return note(str(error), is_error=True)


def pull(pulls: ModelDownloads, name: str) -> str:
    """The models, after the download of one was started."""
    try:
        pulls.start(name)
    except VtagError as error:
        return note(str(error), is_error=True) + models(pulls)
    return models(pulls)


def stop(pulls: ModelDownloads, name: str) -> str:
    """The models, after a download was ended."""
    pulls.stop(name)
    return models(pulls)


def _volumes(places: list[page_queries.VolumeRow]) -> str:
    now = Volumes()
    rows = []
    for place in places:
        there = now.is_mounted(Volume(place.key, place.mount))
        state = "✓ connected" if there else "✗ not connected: its videos are kept, and play when it is back"
        rows.append(
            (
                f'<span class="vtag-path">{text(place.display)}</span>',
                f"{place.files:,}",
                f"{place.missing:,}",
                state,
            )
        )
    return (
        table("Volumes", ("Volume", "Files", "Missing", "State"), rows)
        if rows
        else note("No volume was scanned yet.")
    )


def _disk(library: Path, cache: Path) -> str:
    shown = [
        ("The library: words, moments, files", [library, library.with_name(f"{library.name}-wal")]),
        ("What was seen (can be made again by a scan)", [library.parent / OBSERVATIONS_FILE]),
        ("Pictures and copies for the page (can be deleted)", cache.rglob("*") if cache.is_dir() else []),
        ("Models", models_dir().rglob("*") if models_dir().is_dir() else []),
    ]
    rows = [(text(name), size(sum(f.stat().st_size for f in files if f.is_file()))) for name, files in shown]
    return table("Disk", ("What", "Size"), rows)
