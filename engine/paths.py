"""Where vtag keeps its files. The variable VTAG_HOME moves all of them."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

LIBRARY_FILE = "library.db"


def home() -> Path:
    """The folder of the library, the models and the caches: VTAG_HOME, else the user's data folder."""
    folder = os.environ.get("VTAG_HOME")
    return Path(folder).expanduser().absolute() if folder else user_data_path("vtag", appauthor=False)


def library_path(path: Path | None = None) -> Path:
    """The library's file: `path` (from --db), else `library.db` at home."""
    return path.expanduser().absolute() if path else home() / LIBRARY_FILE


def models_dir() -> Path:
    """The folder of the models that were downloaded, imported or trained; each has a folder in it."""
    return home() / "models"


def make_private_dir(path: Path) -> Path:
    """Create the folder `path` if it is missing, readable by its owner only; returns `path`."""
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
