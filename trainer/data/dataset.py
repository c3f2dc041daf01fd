"""A person's labelled clips: one folder a class, or a list of paths and labels; split by source, never by clip."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vtag.engine.errors import VtagError
from vtag.engine.scan.discover import discover
from vtag.engine.text import display_path, printable
from vtag.engine.video.read.frame_folder import is_frame_folder

_MOST_LIST_BYTES = 256 << 20


class DatasetError(VtagError):
    """A data set that cannot be used; says what is wrong and what to do."""


@dataclass(frozen=True)
class LabelledClip:
    """One video file that shows `label`; clips of one `source` were cut from the same video."""

    path: Path
    label: str
    source: str
    index: int | None = None  # of the label, where a list gives numbers instead of names
    span_ms: tuple[int, int] | None = None  # the part that shows it, where a person said so; None: all


@dataclass(frozen=True)
class Dataset:
    """Clips of some labels (sorted), and one sentence for each thing that a person should know of them."""

    clips: tuple[LabelledClip, ...]
    labels: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    def without(self, paths: Iterable[Path]) -> Dataset:
        """The same less some clips; a label that has none left goes, too."""
        gone = set(paths)
        clips = tuple(clip for clip in self.clips if clip.path not in gone)
        return replace(self, clips=clips, labels=tuple(sorted({clip.label for clip in clips})))


def label_from_name(name: str) -> str:
    """A folder's name as a label: underscores are spaces, and spaces are single."""
    return " ".join(name.replace("_", " ").split())


def source_from_name(path: Path) -> str:
    """The video that a clip was cut from, by its name: what stands before `__`, else all of the stem."""
    return path.stem.split("__")[0]


def read_dataset(path: Path, *, root: Path | None = None) -> Dataset:
    """The data set at `path`: a folder with one folder a class, or a list whose lines are `path label`.

    A clip is a video, or a folder of its frames (img_00001.jpg ...). A list's paths are below `root` (by default the
    list's own folder); its labels are names or indices. Raises DatasetError.
    """
    if path.is_dir():
        return _named_once(*_read_folder(path))
    if path.is_file():
        return _named_once(*_read_list(path, root or path.parent))
    raise DatasetError(f"there is no folder and no list of clips at {display_path(path)}")


def folds(sources: Sequence[str], labels: Sequence[int], count: int, *, seed: int) -> np.ndarray:
    """A fold from 0 to `count` - 1 for each clip, int64 [N]: whole sources, those of a label spread evenly."""
    rng = np.random.default_rng(seed)
    fold: dict[str, int] = {}
    filled = np.zeros(count)
    for label in sorted(set(labels)):
        own = sorted({s for s, k in zip(sources, labels, strict=True) if k == label and s not in fold})
        first = int(filled.argmin())
        for place, i in enumerate(rng.permutation(len(own))):
            fold[own[i]] = (first + place) % count
            filled[fold[own[i]]] += 1
    return np.array([fold[source] for source in sources], np.int64)


def _read_folder(folder: Path) -> tuple[list[LabelledClip], list[str]]:
    clips, remarks = [], []
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise DatasetError(
            f"{display_path(folder)} holds no folders: put the clips of each tag into one of its name"
        )
    for entry in classes:
        if not label_from_name(entry.name).isprintable():
            raise DatasetError(f"{display_path(entry)} cannot be a label: rename the folder")
        found = discover([os.fsencode(entry)])
        paths = [Path(os.fsdecode(file.path)) for file in found.files] + _frame_folders(entry)
        if not paths:
            remarks.append(f"{printable(entry.name)} holds no videos and is left out")
        clips += [LabelledClip(path, entry.name, source_from_name(path)) for path in sorted(paths)]
    loose = sum(entry.is_file() and not entry.name.startswith(".") for entry in folder.iterdir())
    if loose:
        remarks.append(f"{loose} files beside the class folders are left out")
    return clips, remarks


def _read_list(file: Path, root: Path) -> tuple[list[LabelledClip], list[str]]:
    if file.stat().st_size > _MOST_LIST_BYTES:
        raise DatasetError(f"{display_path(file)} is too large to be a list of clips")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise DatasetError(
            f"{display_path(file)} is no folder, and no text: a list has `path label` a line"
        ) from None
    clips, missing = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        path = root / name
        if not name or not label.isprintable():
            raise DatasetError(f"{display_path(file)}, line {number}: it has to be `path label`")
        counted, _, count = name.rpartition(" ")
        if count.isdecimal() and not path.exists():  # lists of frame folders say how many frames there are
            path = root / counted
        if not path.is_file() and not _is_frame_folder(path):
            missing.append(name)
            continue
        index = int(label) if label.isdecimal() and len(label) < 7 else None
        clips.append(
            LabelledClip(path, label if index is None else f"class {index}", source_from_name(path), index)
        )
    remarks = [f"{printable(name)} is not there and is left out" for name in missing[:20]]
    if len(missing) > 20:
        remarks.append(f"and {len(missing) - 20} more that are not there")
    return clips, remarks


def _frame_folders(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".") and _is_frame_folder(entry)]


def _is_frame_folder(path: Path) -> bool:
    return path.is_dir() and is_frame_folder(map(os.fsencode, os.listdir(path)))


def _named_once(clips: list[LabelledClip], remarks: list[str]) -> Dataset:
    """Names that differ in case, spaces or underscores alone are one label."""
    spelled: dict[str, list[str]] = {}
    for name in dict.fromkeys(clip.label for clip in clips):
        spelled.setdefault(label_from_name(name).casefold(), []).append(name)
    remarks += [
        f"{' and '.join(map(printable, names))} are taken as one label"
        for names in spelled.values()
        if len(names) > 1
    ]
    named = tuple(
        replace(clip, label=label_from_name(spelled[label_from_name(clip.label).casefold()][0]))
        for clip in clips
    )
    return Dataset(named, tuple(sorted({clip.label for clip in named})), tuple(remarks))
