"""Matches the official annotation tables of Kinetics with the videos below a folder."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vtag.assets import kinetics400_labels
from vtag.engine.scan.discover import EXTENSIONS
from vtag.engine.system.atomic_write import write_atomically
from vtag.engine.text import display_path, printable, read_text_file
from vtag.engine.video.read.frame_folder import is_frame_folder
from vtag.trainer.data.dataset import DatasetError, label_from_name

SPLITS = ("train", "val", "test")
LISTS = "lists"  # the folder that `vtag data` writes to, below that of the data set
_SPLIT_NAMES = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}
_COLUMNS = {"label", "youtube_id", "time_start", "time_end"}
_MAX_TABLE_BYTES = 256 << 20
_ID_LENGTH = 11  # characters of a YouTube id


@dataclass(frozen=True)
class KineticsClip:
    """A row of an official table: ten seconds of a YouTube video; `label` is empty if the table has none."""

    label: str
    youtube_id: str
    start_s: int
    end_s: int
    split: str


@dataclass(frozen=True)
class ListEntry:
    """A line of a list: a video or a folder of frames, relative to the data set's folder, and its label."""

    path: Path
    label: str


@dataclass
class KineticsFiles:
    """The files for the rows of the tables, by split, and the rows without a file or a label."""

    samples: dict[str, list[ListEntry]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    missing: dict[str, list[KineticsClip]] = field(default_factory=dict)
    renamed: list[Path] = field(default_factory=list)  # used, although their names are unusual
    unlabelled: dict[str, int] = field(default_factory=dict)  # how many rows have no label


def match_kinetics(folder: Path) -> KineticsFiles:
    """The videos and frame folders below `folder` that the rows of the official tables below it mean.

    Raises DatasetError if there is no table, or if a row cannot be used.
    """
    rows = read_tables(folder)
    files = KineticsFiles(labels=class_names({row.label for row in rows if row.label}))
    videos = _VideoIndex(folder)
    for split in SPLITS:
        split_rows = [row for row in rows if row.split == split]
        if not split_rows:
            continue
        files.samples[split], files.missing[split] = [], []
        files.unlabelled[split] = sum(not row.label for row in split_rows)
        for row in split_rows:
            if not row.label:
                continue
            path, has_usual_name = videos.match(row)
            if path is None:
                files.missing[split].append(row)
                continue
            files.samples[split].append(ListEntry(path, row.label))
            if not has_usual_name:
                files.renamed.append(path)
    return files


def read_tables(folder: Path) -> list[KineticsClip]:
    """The distinct rows of all official tables below `folder`. Raises DatasetError if there are none."""
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {display_path(folder)}")
    rows: dict[tuple[str, int, int, str], KineticsClip] = {}
    for table in _tables(folder):
        for row in _read_table(table):
            rows.setdefault((row.youtube_id, row.start_s, row.end_s, row.split), row)
    if not rows:
        raise DatasetError(
            f"no official table lies below {display_path(folder)}: put train.csv, val.csv and test.csv of Kinetics "
            "there (columns label, youtube_id, time_start, time_end)"
        )
    return list(rows.values())


def class_names(labels: set[str]) -> tuple[str, ...]:
    """All class names in the order of their ids: for Kinetics-400 the published order, for 600 and 700 by name."""
    published = kinetics400_labels()
    folded = {label_from_name(name).casefold() for name in published}
    if all(label.casefold() in folded for label in labels):
        return published
    return tuple(sorted(labels))


def write_lists(files: KineticsFiles, folder: Path, broken: Iterable[Path] = ()) -> list[Path]:
    """Write `train.txt`, `val.txt`, `test.txt` (`path index` a line) and `labels.txt` without the `broken` videos.

    Returns the written files. Raises DatasetError if they cannot be written.
    """
    index = {label.casefold(): i for i, label in enumerate(files.labels)}
    excluded = set(broken)
    texts = {"labels.txt": "".join(f"{label}\n" for label in files.labels)}
    for split, samples in files.samples.items():
        lines = [
            f"{sample.path.as_posix()} {index[sample.label.casefold()]}\n"
            for sample in samples
            if sample.path not in excluded
        ]
        texts[f"{split}.txt"] = "".join(lines)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(folder / name, text.encode("utf-8", "surrogateescape"))
            written.append(folder / name)
    except OSError as error:
        raise DatasetError(f"{display_path(folder)} cannot be written: {error.strerror or error}") from error
    return written


class _VideoIndex:
    """The videos and the folders of frames below a folder, by name and by the YouTube id in the name."""

    def __init__(self, folder: Path) -> None:
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        self._by_id: dict[str, list[Path]] = defaultdict(list)
        for path in _videos_below(folder):
            stem = path.name if path.suffix.lower().encode() not in EXTENSIONS else path.stem
            self._by_stem[stem].append(path)
            self._by_id[stem[:_ID_LENGTH]].append(path)

    def match(self, row: KineticsClip) -> tuple[Path | None, bool]:
        """The relative path of the video of a row, None if there is none; and whether it has a usual name."""
        name = row.youtube_id
        usual_stems = (
            f"{name}_{row.start_s:06}_{row.end_s:06}",
            f"{name}_{row.start_s}_{row.end_s}",
            f"{name}_{row.start_s:06d}",
        )
        for stem in usual_stems:
            if stem in self._by_stem:
                return self._best(self._by_stem[stem], row), True
        # download tools append to the usual name; the id alone names the whole video or its clip
        candidates = self._by_id.get(name[:_ID_LENGTH], [])
        clips = [path for path in candidates if path.stem.startswith(usual_stems[0])]
        clips = clips or [path for path in candidates if path.stem == name]
        return (self._best(clips, row), False) if clips else (None, False)

    def _best(self, paths: list[Path], row: KineticsClip) -> Path:
        """The copy whose folders name the label and the split, if there are several."""
        label = label_from_name(row.label).casefold()

        def rank(path: Path) -> tuple[bool, bool, str]:
            folders = [label_from_name(part).casefold() for part in path.parts[:-1]]
            return label in folders, any(_SPLIT_NAMES.get(f) == row.split for f in folders), path.as_posix()

        return max(paths, key=rank)


def _videos_below(folder: Path) -> list[Path]:
    """Videos and folders of frames below `folder`, relative to it."""
    paths: list[Path] = []
    for parent, folders, files in os.walk(os.fsencode(folder)):
        folders[:] = sorted(name for name in folders if not name.startswith(b"."))
        relative = Path(os.fsdecode(parent)).relative_to(folder)
        if is_frame_folder(files):
            paths.append(relative)
        paths += [
            relative / os.fsdecode(name)
            for name in files
            if os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(b".")
        ]
    return paths


def _tables(folder: Path) -> list[Path]:
    return sorted(
        path
        for pattern in ("*.csv", "*/*.csv", "*/*/*.csv")
        for path in folder.glob(pattern)
        if path.is_file()
    )


def _read_table(table: Path) -> list[KineticsClip]:
    """The rows of one table; empty for a table of another kind. Raises DatasetError for a broken row."""
    if table.stat().st_size > _MAX_TABLE_BYTES:
        return []
    try:
        reader = csv.DictReader(io.StringIO(read_text_file(table), newline=""))
        if not _COLUMNS - {"label"} <= set(reader.fieldnames or ()):
            return []
        return [_row(table, reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error):
        return []


def _row(table: Path, line: int, row: dict[str, str]) -> KineticsClip:
    split = _SPLIT_NAMES.get((row.get("split") or "").strip().lower()) or _split_of(table)
    try:
        start, end = (round(float(row[name])) for name in ("time_start", "time_end"))
    except (TypeError, ValueError):
        raise DatasetError(
            f"{display_path(table)}, line {line}: time_start and time_end have to be seconds"
        ) from None
    label = label_from_name(row.get("label") or "")
    if not label.isprintable() or split is None:
        problem = (
            "its label cannot be read" if split else "neither the file's name nor a column says which split"
        )
        raise DatasetError(f"{display_path(table)}, line {line}: {problem}")
    return KineticsClip(label, printable((row["youtube_id"] or "").strip()), start, end, split)


def _split_of(table: Path) -> str | None:
    words = re.split(r"[^a-z]+", table.stem.lower())
    return next((_SPLIT_NAMES[word] for word in words if word in _SPLIT_NAMES), None)
