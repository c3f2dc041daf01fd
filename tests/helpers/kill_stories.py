"""What is killed in tests/reliability: commands in a folder made from a template, and what they leave in the end."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from helpers.old_libraries import QUERY
from helpers.undisturbed import Outcome, integrity, read_outcome
from vtag.engine.library.annotations.annotation_log import list_annotations
from vtag.engine.library.database import LibraryWriter, open_reader
from vtag.engine.library.search.moments import search
from vtag.engine.models.registry import load_model

LIBRARY = "library.db"
Arguments = tuple[str | Path, ...]


@dataclass
class Story:
    """A command that is killed, in a folder that is made anew from `template` each time.

    `outcome` reads what the folder has in the end; `half_written` lists what the killed command left that a person
    would take for whole; `arguments` follow from the folder, and may differ when the command goes on.
    """

    name: str
    template: Path
    work: Path
    arguments: Callable[[Path], Arguments]
    outcome: Callable[[Path], Any]
    half_written: Callable[[Path, Any], list[str]] = lambda folder, whole: []
    code: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    codes: tuple[int, ...] = (0,)
    settle: Callable[[Path], None] = lambda folder: None  # waits for what outlives the killed process

    def reset(self) -> Path:
        """The folder as it was before the command."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.template, self.work)
        return self.work


def same(first: Any, second: Any) -> bool:
    """Whether two outcomes are the same; features may differ by rounding."""
    return first.differences(second) == [] if isinstance(first, Outcome) else bool(first == second)


def scanned(folder: Path) -> Outcome:
    """What the library of a folder has."""
    return read_outcome(folder / LIBRARY)


def lost_windows(folder: Path, whole: Outcome) -> list[str]:
    """Contents that have features which the undisturbed scan does not have, or that count as complete too early."""
    if not (folder / LIBRARY).exists():
        return []
    left = read_outcome(folder / LIBRARY)
    partial = {row[0] for row in left.rows["unfinished"]}
    complete = {row[:6] for row in whole.rows["windows"]}
    rows = {row[0] for row in left.rows["contents"]}
    return [
        f"{row[0]} counts as complete with {row[5]} windows"
        for row in left.rows["windows"]
        if row[0] in rows and row[0] not in partial and row[:6] not in complete
    ]


def annotations(folder: Path) -> list[tuple[Any, ...]]:
    """The annotations of a folder's library."""
    with LibraryWriter.open(folder / LIBRARY) as library:
        return sorted(
            (a.content, a.label, a.start_ms, a.end_ms, a.verdict, a.said_at)
            for a in list_annotations(library.connection)
        )


def some_annotations(folder: Path, whole: list[tuple[Any, ...]]) -> list[str]:
    """That an import was half done, if it was."""
    count = len(annotations(folder))
    return [] if count in (0, len(whole)) else [f"{count} of {len(whole)} words were taken"]


def files(folder: Path) -> dict[str, str]:
    """The files below `out`, by their content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "out").rglob("*"))
        if path.is_file()
    }


def torn_files(folder: Path, whole: dict[str, str]) -> list[str]:
    """Files that a person takes for whole and that are not as the undisturbed command writes them."""
    before = json.loads((folder / "before.json").read_text()) if (folder / "before.json").exists() else {}
    return [
        name
        for name, digest in files(folder).items()
        if not _is_partial(name) and digest not in (whole.get(name), before.get(name))
    ]


def _is_partial(name: str) -> bool:
    return ".part" in name or os.path.basename(name).startswith(".")


def clips(folder: Path) -> dict[str, int]:
    """The pictures of each clip below `out`; of one that cannot be read, -1."""
    counts = {}
    for path in sorted((folder / "out").glob("*")):
        if _is_partial(path.name):
            continue
        try:
            with av.open(str(path)) as container:
                counts[path.name] = sum(1 for _ in container.decode(video=0))
        except (av.FFmpegError, IndexError):
            counts[path.name] = -1
    return counts


def torn_clips(folder: Path, whole: dict[str, int]) -> list[str]:
    """Clips that are not as the undisturbed command writes them."""
    return [name for name, pictures in clips(folder).items() if whole.get(name) != pictures]


def network(folder: Path) -> dict[str, str]:
    """The weights of a trained model and the history of its training, as hashes."""
    result = {}
    for name in ("best", "last"):
        if (folder / "out" / name / "model.json").exists() or (folder / "out" / name).is_dir():
            tensors = load_model(folder / "out" / name).tensors
            digest = hashlib.sha256()
            for key in sorted(tensors):
                digest.update(key.encode() + tensors[key].tobytes())
            result[name] = digest.hexdigest()
    history = folder / "out" / "history.csv"
    result["history"] = history.read_text() if history.exists() else ""
    return result


def torn_networks(folder: Path, whole: dict[str, str]) -> list[str]:
    """Trained models that cannot be loaded."""
    try:
        network(folder)
    except Exception as error:  # whatever a half-written model does
        return [repr(error)]
    return []


def installed(folder: Path) -> str:
    """The weights of the model that was downloaded, as a hash; empty if it is not installed."""
    model = folder / "models" / "swin3d-t"
    if not model.exists():
        return ""
    digest = hashlib.sha256()
    for key, tensor in sorted(load_model(model).tensors.items()):
        digest.update(key.encode() + tensor.tobytes())
    return digest.hexdigest()


def torn_models(folder: Path, whole: str) -> list[str]:
    """That a model is installed that is not the whole one, if it is."""
    try:
        found = installed(folder)
    except Exception as error:  # whatever a half-written model does
        return [repr(error)]
    return [] if found in ("", whole) else ["another model is installed"]


def torn_backups(folder: Path, whole: Outcome) -> list[str]:
    """Backups of an upgrade that are not whole."""
    torn = []
    for backup in folder.glob(f"{LIBRARY}.before-*"):
        if (
            backup.suffix != ".part"
            and not backup.name.endswith(("-wal", "-shm"))
            and set(integrity(backup)) != {"ok"}
        ):
            torn.append(backup.name)
    return torn


def found(library: Path) -> list[list[Any]]:
    """What a search of an old library finds, in the form of `found_then`."""
    with closing(open_reader(library)) as reader:
        moments = search(reader, QUERY, less_sure="none", limit=None)
    return sorted(
        [os.fsdecode(os.path.basename(m.path)), m.label, m.start_ms, m.end_ms, m.source, round(m.score, 3)]
        for m in moments
    )
