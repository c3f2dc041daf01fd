"""The catalogue, the models that are here, and the way from a name or a path to a checkpoint."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from vtag.assets import asset
from vtag.engine.errors import ModelError
from vtag.engine.paths import models_dir, private_dir
from vtag.engine.swin.checkpoints import Checkpoint, load_checkpoint, save_model_folder
from vtag.engine.text import display_path, printable

STARTER = "starter"  # ships with vtag
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class CatalogueEntry:
    """A model that somebody published: where it lies, and what is known of it."""

    name: str
    title: str
    url: str
    licence: str
    kind: str = "video"  # video, or image: to start a training from
    sha256: str = ""  # the first digits, where the publisher says them
    size_mb: float | None = None
    top1: float | None = None
    note: str = ""

    @property
    def host(self) -> str:
        """Where a download would come from."""
        return urlsplit(self.url).hostname or ""

    @property
    def how_to_get(self) -> str:
        """What to do about a model that is not here, in one clause."""
        size = f"{self.size_mb} MB " if self.size_mb else ""
        return f"download {size}from {self.url} ({self.licence}), then `vtag models import FILE --name {self.name}`"


@cache
def catalogue() -> dict[str, CatalogueEntry]:
    """All entries by name, in the file's order."""
    table = tomllib.loads(asset("models.toml").read_text(encoding="utf-8"))
    return {name: CatalogueEntry(name=name, **values) for name, values in table.items()}


def installed() -> list[str]:
    """The names of the models that are here, sorted."""
    root = models_dir()
    if not root.is_dir():
        return []
    return sorted(f.name for f in root.iterdir() if _NAME.fullmatch(f.name) and (f / "model.json").is_file())


def path_of(name: str) -> Path:
    """The folder of an installed model. Raises ModelError that says what to do about one that is not here."""
    folder = models_dir() / name
    if _NAME.fullmatch(name) and (folder / "model.json").is_file():
        return folder
    if name == STARTER:
        return Path(str(asset(STARTER)))
    if entry := catalogue().get(name):
        raise ModelError(f"the model {name} is not here: {entry.how_to_get}")
    near = difflib.get_close_matches(name, [*catalogue(), *installed()], 3)
    hint = f"did you mean {', '.join(near)}?" if near else "`vtag models list` shows the names"
    raise ModelError(f"there is no model and no file called {printable(name)!r}; {hint}")


def load(model: str | Path) -> Checkpoint:
    """The checkpoint of a name or a path; a path that exists wins. Raises ModelError."""
    path = Path(model)
    if isinstance(model, Path) or path.exists() or len(path.parts) > 1:
        if not path.exists():
            raise ModelError(f"there is no checkpoint at {display_path(path)}")
        return load_checkpoint(path)
    return load_checkpoint(path_of(str(model)), name=str(model))


def import_file(file: Path, name: str | None = None, labels: Sequence[str] | None = None) -> str:
    """Bring a checkpoint in by hand; returns its name here. Raises ModelError, and leaves nothing half-made."""
    chosen = name or re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._")
    if not _NAME.fullmatch(chosen):
        raise ModelError(f"{printable(chosen)!r} cannot be a model's name: use a-z, 0-9, dots and dashes")
    if chosen == STARTER or (models_dir() / chosen).exists():
        raise ModelError(
            f"a model called {chosen} is here already: choose --name, or `vtag models remove {chosen}`"
        )
    if not file.exists():
        raise ModelError(f"there is no file {display_path(file)}")
    checkpoint = load_checkpoint(file, name=chosen, labels=labels)
    entry = catalogue().get(chosen)
    if entry and entry.sha256 and not _hash(file).startswith(entry.sha256):
        raise ModelError(f"{display_path(file)} is not the published {chosen}: its SHA-256 is another")
    source, licence = (entry.url, entry.licence) if entry else (file.name, checkpoint.spec.licence)
    spec = replace(checkpoint.spec, source=printable(source), licence=licence)
    private_dir(models_dir())
    save_model_folder(Checkpoint(spec, checkpoint.tensors), models_dir() / chosen)
    return chosen


def verify(name: str) -> None:
    """Hold an installed model's weights against the hash in its model.json. Raises ModelError."""
    folder = path_of(name)
    spec = load_checkpoint(folder).spec
    said = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    if spec.sha256 and _hash(folder / said["weights"]) != spec.sha256:
        raise ModelError(f"the weights of {name} are not what was installed: remove it and bring it in again")


def remove(name: str) -> None:
    """Delete an installed model."""
    folder = path_of(name)
    if folder.parent != models_dir():
        raise ModelError(f"{name} ships with vtag and stays")
    shutil.rmtree(folder)


def _hash(file: Path) -> str:
    if file.is_dir():
        return ""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
