"""What the Library tab shows: counts, volumes, disk space, labels and models. Plain functions without Gradio."""

from __future__ import annotations

from contextlib import closing
from functools import lru_cache
from pathlib import Path

from vtag.app.ui.html_charts import moments_over_time
from vtag.app.ui.html_library import disk_table, labels_section, library_section, models_table, volumes_table
from vtag.app.ui.html_parts import note
from vtag.engine.errors import VtagError
from vtag.engine.jobs.model_downloads import ModelDownloads
from vtag.engine.library import page_queries
from vtag.engine.library.analysis.history import history
from vtag.engine.library.database import observations_path, open_reader
from vtag.engine.library.search.moments import label_counts
from vtag.engine.library.store.volumes import Volume, Volumes
from vtag.engine.models.catalog import read_catalog
from vtag.engine.models.registry import installed_models
from vtag.engine.paths import models_dir

_LABELS = 60
_CHART_LABELS = 7  # labels in the chart over time; the others are summed up


def show_overview(library: Path, cache: Path) -> str:
    """Counts, volumes and disk space: what is quick to compute."""
    with closing(open_reader(library)) as reader:
        counts = page_queries.library_size(reader)
        volumes = page_queries.volumes(reader)
    mounted = Volumes()
    states = [(volume, mounted.is_mounted(Volume(volume.key, volume.mount))) for volume in volumes]
    return library_section(counts, volumes_table(states), disk_table(_disk_usage(library, cache)))


def show_label_statistics(library: Path) -> str:
    """Labels by their number of moments, and over time; computed again only after new moments."""
    with closing(open_reader(library)) as reader:
        return _label_statistics(library, page_queries.latest_moment_id(reader))


@lru_cache(maxsize=4)
def _label_statistics(library: Path, latest_moment: int) -> str:
    """The statistics as of `latest_moment`, which is part of the cache's key."""
    with closing(open_reader(library)) as reader:
        counts = label_counts(reader)
        table = history(reader, label_limit=_CHART_LABELS)
    chart_rows = [
        (period, row.label, number)
        for row in table.labels
        for period, number in zip(table.periods, row.counts, strict=True)
    ]
    used = [number for _, number in counts if number]
    return labels_section(sum(used), len(used), moments_over_time(chart_rows), counts[:_LABELS])


def show_models(downloads: ModelDownloads) -> str:
    """The installed models and those that can be downloaded."""
    try:
        return models_table(installed_models(), read_catalog().values(), downloads.states())
    except VtagError as error:
        return note(str(error), is_error=True)


def start_download(downloads: ModelDownloads, name: str) -> str:
    """Start the download of a model; returns the models."""
    try:
        downloads.start(name)
    except VtagError as error:
        return note(str(error), is_error=True) + show_models(downloads)
    return show_models(downloads)


def stop_download(downloads: ModelDownloads, name: str) -> str:
    """Stop the download of a model; returns the models."""
    downloads.stop(name)
    return show_models(downloads)


def _disk_usage(library: Path, cache: Path) -> list[tuple[str, int]]:
    """What takes disk space, and how many bytes."""
    models = models_dir()
    files_by_use = {
        "The library: annotations, moments, files": [library, library.with_name(f"{library.name}-wal")],
        "Observations (a scan makes them again)": [observations_path(library)],
        "Pictures and copies for the page (can be deleted)": cache.rglob("*") if cache.is_dir() else [],
        "Models": models.rglob("*") if models.is_dir() else [],
    }
    return [
        (use, sum(file.stat().st_size for file in files if file.is_file()))
        for use, files in files_by_use.items()
    ]
