"""The folder of an unfinished training's state, beside the model that it will become. Imports no torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

STATE_FILE = "state.safetensors"  # not a pickle: it may come from another machine or another person
_SUFFIX = ".training"


def state_folder(folder: Path) -> Path:
    """The folder of the state of an unfinished training of the model at `folder`."""
    folder = folder.absolute()
    return folder.parent / f".{folder.name}{_SUFFIX}"


def is_unfinished(folder: Path) -> bool:
    """Whether there is an unfinished training of the model at `folder` that can be resumed."""
    return (state_folder(folder) / STATE_FILE).is_file()


def unfinished_trainings(models: Path) -> Iterator[str]:
    """The names of the models in the folder `models` whose training can be resumed."""
    for path in sorted(models.glob(f".*{_SUFFIX}")):
        name = path.name[1 : -len(_SUFFIX)]
        if is_unfinished(models / name):
            yield name


def discard_state(folder: Path) -> None:
    """Delete the state of an unfinished training of the model at `folder`, if there is one."""
    shutil.rmtree(state_folder(folder), ignore_errors=True)
