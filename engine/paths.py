"""Where vtag keeps its files: one place that knows, one variable (VTAG_HOME) that moves everything."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path


def home() -> Path:
    """The folder of the library, the models and the caches: VTAG_HOME, else the user's data folder."""
    chosen = os.environ.get("VTAG_HOME")
    return Path(chosen).expanduser().absolute() if chosen else user_data_path("vtag", appauthor=False)


def library_path(chosen: Path | None = None) -> Path:
    """The library's file: `chosen` (from --db) where given, else `library.db` at home."""
    return chosen.expanduser().absolute() if chosen else home() / "library.db"


def models_dir() -> Path:
    """The folder that holds one folder a model that was pulled, imported or trained."""
    return home() / "models"


def private_dir(path: Path) -> Path:
    """`path` as a folder that exists and, where we made it, is its owner's alone."""
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
