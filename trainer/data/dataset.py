"""A data set of labelled clips: one folder a class, or a list of paths and labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtag.engine.errors import VtagError
from vtag.engine.scan.discover import discover
from vtag.engine.text import display_path, normalize_label, pluralize, printable, read_text_file
from vtag.engine.video.read.frame_folder import is_frame_folder

_MAX_LIST_BYTES = 256 << 20
_MAX_SHOWN = 200  # characters of a path in a message
_MAX_LISTED = 20  # missing files that are named one by one


class DatasetError(VtagError):
    """A data set cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class LabelledClip:
    """A video file that shows `label`; clips with the same `source` were cut from the same video."""

    path: Path
    label: str
    source: str
    index: int | None = None  # of the label, if a list gives numbers instead of names
    span_ms: tuple[int, int] | None = None  # the annotated part that shows the label; None: the whole file


@dataclass(frozen=True)
class Dataset:
    """Clips of some labels (sorted), and one sentence for each oddity that the user should know about."""

    clips: tuple[LabelledClip, ...]
    labels: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def label_from_name(name: str) -> str:
    """The label that a folder's name means: normal, with spaces for underscores."""
    return normalize_label(name.replace("_", " "))


def source_from_name(path: Path) -> str:
    """The video that a clip was cut from: the file name up to `__`, or without it the whole stem."""
    return path.stem.split("__")[0]


def read_dataset(path: Path, *, root: Path | None = None) -> Dataset:
    """The data set at `path`: a folder with one folder a class, or a list with lines `path label`.

    A clip is a video or a folder of its frames (img_00001.jpg ...). Paths in a list are relative to `root`, which is
    the folder of the list by default; its labels are names or indices.

    Raises:
        DatasetError: if there is no data set at `path`, or a line or a folder cannot be used.
    """
    if path.is_dir():
        return _merge_spellings(*_read_folder(path))
    if path.is_file():
        return _merge_spellings(*_read_list(path, root or path.parent))
    raise DatasetError(f"there is no folder and no list of clips at {display_path(path)}")


def folds(sources: Sequence[str], labels: Sequence[int], count: int, *, seed: int) -> NDArray[np.int64]:
    """The cross-validation fold (0 to `count` - 1) of each clip, int64 [N].

    A source lies in one fold as a whole. The sources of a label are spread evenly over the folds.
    """
    rng = np.random.default_rng(seed)
    fold: dict[str, int] = {}
    sizes = np.zeros(count)
    for label in sorted(set(labels)):
        label_sources = sorted(
            {s for s, k in zip(sources, labels, strict=True) if k == label and s not in fold}
        )
        smallest = int(sizes.argmin())
        for number, i in enumerate(rng.permutation(len(label_sources))):
            source = label_sources[i]
            fold[source] = (smallest + number) % count
            sizes[fold[source]] += 1
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
        videos = discover([os.fsencode(entry)]).files
        paths = [Path(os.fsdecode(file.path)) for file in videos] + _frame_folders(entry)
        if not paths:
            remarks.append(f"{printable(entry.name)} holds no videos and is left out")
        clips += [LabelledClip(path, entry.name, source_from_name(path)) for path in sorted(paths)]
    loose = sum(entry.is_file() and not entry.name.startswith(".") for entry in folder.iterdir())
    if loose:
        remarks.append(f"{pluralize(loose, 'file')} beside the class folders left out")
    return clips, remarks


def _read_list(file: Path, root: Path) -> tuple[list[LabelledClip], list[str]]:
    if file.stat().st_size > _MAX_LIST_BYTES:
        raise DatasetError(f"{display_path(file)} is too large to be a list of clips")
    try:
        lines = read_text_file(file).splitlines()
    except UnicodeDecodeError:
        raise DatasetError(
            f"{display_path(file)} is no folder, and no text: a list has `path label` a line"
        ) from None
    clips, missing = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name or not label.isprintable():
            raise DatasetError(f"{display_path(file)}, line {number}: it has to be `path label`")
        path = _path_in_list(root, name)
        if not _is_below(path, root):
            raise DatasetError(
                f"{display_path(file)}, line {number}: {printable(name)[:_MAX_SHOWN]} is not below "
                f"{display_path(root)}: set the root of the list's paths to a folder that has them all"
            )
        if not _is_clip(path):
            missing.append(name)
            continue
        index = int(label) if label.isdecimal() and len(label) < 7 else None
        name = label if index is None else f"class {index}"
        clips.append(LabelledClip(path, name, source_from_name(path), index))
    remarks = [f"{printable(name)} is not there and is left out" for name in missing[:_MAX_LISTED]]
    if len(missing) > _MAX_LISTED:
        remarks.append(f"and {len(missing) - _MAX_LISTED} more that are not there")
    return clips, remarks


def _path_in_list(root: Path, name: str) -> Path:
    """The path that a line's `name` means; lists of frame folders also give the number of frames after it."""
    path = root / name
    folder, _, count = name.rpartition(" ")
    return root / folder if count.isdecimal() and not os.path.exists(path) else path


def _is_clip(path: Path) -> bool:
    try:
        return path.is_file() or _is_frame_folder(path)
    except OSError:  # a name that is too long, a folder that must not be read
        return False


def _is_below(path: Path, root: Path) -> bool:
    """Whether a path stays below `root`, as it is written; links may lead elsewhere."""
    top = os.path.abspath(root)
    return os.path.abspath(path).startswith(os.path.join(top, ""))


def _frame_folders(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".") and _is_frame_folder(entry)]


def _is_frame_folder(path: Path) -> bool:
    return path.is_dir() and is_frame_folder(map(os.fsencode, os.listdir(path)))


def _merge_spellings(clips: list[LabelledClip], remarks: list[str]) -> Dataset:
    """The data set of `clips`; names that differ only in case, spaces or underscores become one label."""
    spellings: dict[str, list[str]] = {}
    for name in dict.fromkeys(clip.label for clip in clips):
        spellings.setdefault(label_from_name(name).casefold(), []).append(name)
    remarks += [
        f"{' and '.join(map(printable, names))} are taken as one label"
        for names in spellings.values()
        if len(names) > 1
    ]
    renamed = tuple(
        replace(clip, label=label_from_name(spellings[label_from_name(clip.label).casefold()][0]))
        for clip in clips
    )
    return Dataset(renamed, tuple(sorted({clip.label for clip in renamed})), tuple(remarks))
