"""The metrics and the training curves of the models that were trained here."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from vtag.engine.checkpoints.model_folder import SPEC_FILE
from vtag.engine.models.registry import installed_models


def list_reports() -> list[dict[str, Any]]:
    """Name, metrics and history (columns by name) of each model that was trained here."""
    return [
        {"name": model.name, "metrics": metrics, "history": _read_history(model.folder)}
        for model in installed_models()
        if (metrics := read_metrics(model.folder))
    ]


def read_metrics(folder: Path) -> dict[str, Any]:
    """The metrics in a model's folder; empty if there are none for each label."""
    try:
        metrics = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8")).get("metrics", {})
    except (OSError, ValueError):
        return {}
    return metrics if isinstance(metrics, dict) and isinstance(metrics.get("labels"), dict) else {}


def _read_history(folder: Path) -> dict[str, list[float]]:
    """The columns of a training's history.csv by name; empty if there is no readable file."""
    try:
        with open(folder / "history.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]} if rows else {}
    except (OSError, ValueError, TypeError):
        return {}
