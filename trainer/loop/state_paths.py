"""Where the state of an unfinished training lies: beside the model that it will be. Imports no torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

STATE_FILE = "state.safetensors"  # no pickle: it may come from another machine, or another person
_ENDING = ".training"


def state_folder(folder: Path) -> Path:
    """Where the state of an unfinished training of the model at `folder` lies."""
    folder = folder.absolute()
    return folder.parent / f".{folder.name}{_ENDING}"


def is_unfinished(folder: Path) -> bool:
    """Whether a training of the model at `folder` was left before its end, and can go on."""
    return (state_folder(folder) / STATE_FILE).is_file()


def unfinished_trainings(models: Path) -> Iterator[str]:
    """The names of the models in the folder `models` whose training can go on."""
    for found in sorted(models.glob(f".*{_ENDING}")):
        name = found.name[1 : -len(_ENDING)]
        if is_unfinished(models / name):
            yield name


def discard_state(folder: Path) -> None:
    """Delete the state of an unfinished training of the model at `folder`."""
    shutil.rmtree(state_folder(folder), ignore_errors=True)
