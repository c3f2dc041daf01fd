"""What the library holds: counts, volumes, disk space, labels over time; models and their downloads."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from vtag.app.ui.api.context import PageContext
from vtag.app.ui.page_sentences import page_sentence
from vtag.engine.jobs.model_downloads import DownloadState, ModelDownloads
from vtag.engine.library import page_queries
from vtag.engine.library.analysis.history import history
from vtag.engine.library.database import observations_path, open_reader
from vtag.engine.library.search.moments import label_counts
from vtag.engine.library.store.volumes import Volume, Volumes
from vtag.engine.models.catalog import CatalogEntry, read_catalog
from vtag.engine.models.registry import STARTER, InstalledModel, installed_models
from vtag.engine.paths import models_dir

_CHART_LABELS = 7
_LISTED_LABELS = 300


class ModelName(BaseModel):
    """A model of the catalog."""

    name: str = Field(max_length=200)


def build_router(context: PageContext) -> APIRouter:
    """The routes `api/overview`, `api/statistics` and `api/models`."""
    router = APIRouter(prefix="/api")

    @router.get("/overview")
    def overview() -> dict[str, Any]:
        """Counts, volumes, the models that found something, and disk space."""
        with context.reader() as reader:
            size = page_queries.library_size(reader)
            volumes = page_queries.volumes(reader)
            library_models = page_queries.models(reader)
        mounted = Volumes()
        return {
            **size._asdict(),
            "volumes": [
                {
                    "display": volume.display,
                    "files": volume.files,
                    "missing": volume.missing,
                    "is_connected": mounted.is_mounted(Volume(volume.key, volume.mount)),
                }
                for volume in volumes
            ],
            "library_models": library_models,
            "disk": _disk_usage(context.library, context.pictures),
        }

    @router.get("/statistics")
    def statistics() -> dict[str, Any]:
        """Labels by their number of moments, and over time; computed again only after new moments."""
        with context.reader() as reader:
            latest = page_queries.latest_moment_id(reader)
        return _statistics(context.library, latest)

    @router.get("/models")
    def models() -> dict[str, Any]:
        """The installed models, and those of the catalog with the progress of their downloads."""
        return {"models": list_models(context.downloads)}

    @router.post("/models/download")
    def download(body: ModelName) -> dict[str, Any]:
        """Start a download, or go on with it."""
        context.downloads.start(body.name)
        return {"models": list_models(context.downloads)}

    @router.post("/models/stop")
    def stop(body: ModelName) -> dict[str, Any]:
        """Stop a download. The next one goes on from the bytes that were received."""
        context.downloads.stop(body.name)
        return {"models": list_models(context.downloads)}

    return router


@lru_cache(maxsize=4)
def _statistics(library: Path, latest_moment: int) -> dict[str, Any]:
    """The statistics as of `latest_moment`, which is part of the cache's key."""
    reader = open_reader(library)
    try:
        counts = [(name, number) for name, number in label_counts(reader) if number]
        table = history(reader, label_limit=_CHART_LABELS)
    finally:
        reader.close()
    return {
        "moments": sum(number for _, number in counts),
        "labels": len(counts),
        "counts": counts[:_LISTED_LABELS],
        "periods": table.periods,
        "series": [{"label": row.label, "counts": row.counts} for row in table.labels],
    }


def list_models(downloads: ModelDownloads) -> list[dict[str, Any]]:
    """Models that were trained or installed from files, then those of the catalog."""
    installed, entries = installed_models(), list(read_catalog().values())
    names, catalog_names = {model.name for model in installed}, {entry.name for entry in entries}
    states = {state.name: state for state in downloads.states()}
    own = [_own_model(model) for model in installed if model.name not in catalog_names]
    return own + [_catalog_model(entry, entry.name in names, states.get(entry.name)) for entry in entries]


def _own_model(model: InstalledModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "title": "",
        "size_bytes": model.size_bytes,
        "host": "",
        "licence": model.spec.licence if model.spec else "",
        "accuracy": "",
        "is_installed": True,
        "can_remove": model.name != STARTER,
        "problem": page_sentence(model.problem or ""),
        "download": None,
        "terms": "",
    }


def _catalog_model(entry: CatalogEntry, is_installed: bool, state: DownloadState | None) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "size_bytes": entry.size_bytes,
        "host": entry.host,
        "licence": entry.licence,
        "accuracy": f"{entry.top1:.1f} % of {entry.trained_on}" if entry.top1 else "",
        "is_installed": is_installed,
        "can_remove": is_installed,
        "problem": "",
        "download": state._asdict() | {"failure": page_sentence(state.failure)} if state else None,
        "terms": entry.terms,
    }


def _disk_usage(library: Path, pictures: Path) -> list[tuple[str, int]]:
    """What takes disk space, and how many bytes."""
    models = models_dir()
    files_by_use = {
        "The library: annotations, moments, files": [library, library.with_name(f"{library.name}-wal")],
        "Observations (a scan makes them again)": [observations_path(library)],
        "Pictures for the page (can be deleted)": pictures.rglob("*") if pictures.is_dir() else [],
        "Models": models.rglob("*") if models.is_dir() else [],
    }
    return [
        (use, sum(file.stat().st_size for file in files if file.is_file()))
        for use, files in files_by_use.items()
    ]
