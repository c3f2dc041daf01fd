"""The library as HTML: volumes, disk space, labels, and models to download."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vtag.app.ui.html_parts import (
    button,
    escape,
    format_duration,
    format_size,
    heading,
    note,
    path,
    progress_bar,
    quote_label,
    statistics,
    table,
)

if TYPE_CHECKING:
    from vtag.engine.jobs.model_downloads import DownloadState
    from vtag.engine.library.page_queries import LibrarySize, VolumeRow
    from vtag.engine.models.catalog import CatalogEntry
    from vtag.engine.models.registry import InstalledModel


def models_heading() -> str:
    """The heading above the models."""
    return f"{heading('Models')}<p>vtag downloads a model only when you press Download.</p>"


def library_section(counts: LibrarySize, volumes: str, disk: str) -> str:
    """The number of videos, the volumes and the disk space; `volumes` and `disk` are HTML."""
    numbers = statistics(
        [
            (f"{counts.videos:,}", "videos"),
            (format_duration(counts.video_ms / 1000) if counts.video_ms else "0 h", "of video"),
            (f"{counts.failed:,}", "unreadable"),
        ]
    )
    return f"{numbers}{heading('Volumes')}{volumes}{heading('Disk')}{disk}"


def volumes_table(volumes: Sequence[tuple[VolumeRow, bool]]) -> str:
    """Volumes, each with whether it is mounted."""
    if not volumes:
        return note("No volume was scanned yet.")
    rows = [
        (
            path(volume.display),
            f"{volume.files:,}",
            f"{volume.missing:,}",
            "✓ connected"
            if is_mounted
            else "✗ not connected: its videos stay in the library, and play when it is back",
        )
        for volume, is_mounted in volumes
    ]
    return table("Volumes", ("Volume", "Files", "Missing", "State"), rows)


def disk_table(usage: Iterable[tuple[str, int]]) -> str:
    """What takes disk space, and how many bytes."""
    rows = [(escape(use), format_size(size_bytes)) for use, size_bytes in usage]
    return table("Disk", ("What", "Size"), rows)


def labels_section(moments: int, labels: int, chart: str, counts: Sequence[tuple[str, int]]) -> str:
    """The number of moments and labels, `chart` (HTML), and the labels with their number of moments."""
    numbers = statistics([(f"{moments:,}", "moments"), (f"{labels:,}", "labels")])
    return f"{heading('Moments')}{numbers}{chart}{heading('Labels')}{labels_list(counts)}"


def labels_list(counts: Sequence[tuple[str, int]]) -> str:
    """Labels with their number of moments. A press searches for the label."""
    largest = max((number for _, number in counts), default=1) or 1
    rows = "".join(
        f'<li><button type="button" data-query="{escape(quote_label(name))}"><span>{escape(name)}</span>'
        f'<span class="vtag-meter" style="width:{100 * number / largest:.1f}%"></span>'
        f"<span>{number:,}</span></button></li>"
        for name, number in counts
        if number
    )
    if not rows:
        return note("There are no moments yet.")
    return f'<ul class="vtag-labels" aria-label="Labels found">{rows}</ul>'


def models_table(
    installed: Sequence[InstalledModel], entries: Iterable[CatalogEntry], downloads: Sequence[DownloadState]
) -> str:
    """Installed models, and those of the catalog with size, host, licence and the progress of their download."""
    entries = list(entries)
    catalog_names = {entry.name for entry in entries}
    installed_names = {model.name for model in installed}
    download_by_name = {download.name: download for download in downloads}
    rows = [_own_model_row(model) for model in installed if model.name not in catalog_names]
    for entry in entries:
        is_installed = entry.name in installed_names
        state = "here" if is_installed else _download_cell(entry, download_by_name.get(entry.name))
        rows.append(
            (
                f"<strong>{escape(entry.name)}</strong><br><small>{escape(entry.title)}</small>",
                format_size(entry.size_bytes) if entry.size_bytes else "not published",
                escape(entry.host),
                escape(entry.licence),
                f"{entry.top1:.1f} % <small>{escape(entry.trained_on)}</small>" if entry.top1 else "",
                state,
            )
        )
    return table("Models", ("Model", "Size", "From", "Licence", "Top-1 as published", "Here"), rows)


def _own_model_row(model: InstalledModel) -> tuple[str, ...]:
    """A model that is not in the catalog, because it was trained or installed from a file."""
    licence = model.spec.licence if model.spec else ""
    name = f"<strong>{escape(model.name)}</strong>"
    return (
        name,
        format_size(model.size_bytes),
        "",
        escape(licence),
        "",
        escape(model.problem or "here"),
    )


def _download_cell(entry: CatalogEntry, download: DownloadState | None) -> str:
    """What can be done about a model that is not installed: download it, stop the download, or go on with it."""

    def start_button(caption: str) -> str:
        description = f"{caption}: {entry.name}, {entry.terms}"
        return button("pull", caption, description=description, data={"name": entry.name})

    if download is None:
        return start_button("Download")
    if download.failure:
        return note(download.failure, is_error=True) + start_button("Try again")
    downloaded = format_size(download.downloaded_bytes)
    if not download.is_running:
        return note(f"{downloaded} downloaded.") + start_button("Go on")
    share = min(1.0, download.downloaded_bytes / entry.size_bytes) if entry.size_bytes else None
    stop = ""
    if download.can_stop:
        stop = button(
            "stop", "Stop", description=f"Stop the download of {entry.name}", data={"name": entry.name}
        )
    total = f" of {format_size(entry.size_bytes)}" if entry.size_bytes else ""
    return f"{progress_bar(share, f'download of {entry.name}')}<p>{downloaded}{total}</p>{stop}"
