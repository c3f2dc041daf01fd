"""Kinetics as it lies on disks: the official annotation tables, and the videos below a folder that they mean."""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vtag.assets import kinetics400_labels
from vtag.engine.scan.discover import EXTENSIONS
from vtag.engine.system.atomic_write import write_atomically
from vtag.engine.text import display_path, printable
from vtag.engine.video.read.frame_folder import is_frame_folder
from vtag.trainer.data.dataset import DatasetError, label_from_name

SPLITS = ("train", "val", "test")
LISTS = "lists"  # below the data set's folder: what `vtag data` writes
_SPLIT_NAMES = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}
_COLUMNS = {"label", "youtube_id", "time_start", "time_end"}
_MOST_TABLE_BYTES = 256 << 20
_ID_LENGTH = 11  # of a YouTube id


@dataclass(frozen=True)
class KineticsClip:
    """One row of an official table: ten seconds of a YouTube video; `label` is empty where the table has none."""

    label: str
    youtube_id: str
    start_s: int
    end_s: int
    split: str


@dataclass(frozen=True)
class ListEntry:
    """One line of a list: a video or a folder of frames, relative to the data set's folder, and its label."""

    path: Path
    label: str


@dataclass
class KineticsFiles:
    """The samples of each split, and what stands in the way of the others."""

    samples: dict[str, list[ListEntry]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    missing: dict[str, list[KineticsClip]] = field(default_factory=dict)
    renamed: list[Path] = field(default_factory=list)  # taken, although their names are not the usual ones
    unlabelled: dict[str, int] = field(default_factory=dict)  # rows without a label, left out


def match_kinetics(folder: Path) -> KineticsFiles:
    """What the official tables below `folder` ask for, held against the videos and frame folders below it.

    Raises DatasetError where there is no table, or a label is not of one known set.
    """
    annotations = read_tables(folder)
    named = [a for a in annotations if a.label]
    found = KineticsFiles(labels=class_names({a.label for a in named}))
    videos = _VideoIndex(folder)
    for split in SPLITS:
        rows = [a for a in annotations if a.split == split]
        if not rows:
            continue
        found.samples[split], found.missing[split] = [], []
        found.unlabelled[split] = sum(not a.label for a in rows)
        for row in rows:
            if not row.label:
                continue
            path, usual = videos.match(row)
            if path is None:
                found.missing[split].append(row)
                continue
            found.samples[split].append(ListEntry(path, row.label))
            if not usual:
                found.renamed.append(path)
    return found


def read_tables(folder: Path) -> list[KineticsClip]:
    """The rows of every official table (label, youtube_id, time_start, time_end) below `folder`, once each."""
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
    """All names in the order of their class ids: the published order of Kinetics-400, else (600, 700) by name."""
    published = kinetics400_labels()
    known = {label_from_name(name).casefold() for name in published}
    if all(label.casefold() in known for label in labels):
        return published
    return tuple(sorted(labels))


def write_lists(found: KineticsFiles, to: Path, broken: Iterable[Path] = ()) -> list[Path]:
    """Write `train.txt`, `val.txt`, `test.txt` (`path index` a line) and `labels.txt`; what is broken is left out.

    Raises DatasetError where they cannot be written.
    """
    index = {label.casefold(): i for i, label in enumerate(found.labels)}
    gone = set(broken)
    texts = {"labels.txt": "".join(f"{label}\n" for label in found.labels)}
    for split, samples in found.samples.items():
        lines = [
            f"{sample.path.as_posix()} {index[sample.label.casefold()]}\n"
            for sample in samples
            if sample.path not in gone
        ]
        texts[f"{split}.txt"] = "".join(lines)
    written = []
    try:
        to.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(to / name, text.encode("utf-8", "surrogateescape"))
            written.append(to / name)
    except OSError as error:
        raise DatasetError(f"{display_path(to)} cannot be written: {error.strerror or error}") from error
    return written


class _VideoIndex:
    """Every video and every folder of frames below a folder, by name and by the YouTube id in its name."""

    def __init__(self, folder: Path) -> None:
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        self._by_id: dict[str, list[Path]] = defaultdict(list)
        for path in _videos_below(folder):
            stem = path.name if path.suffix.lower().encode() not in EXTENSIONS else path.stem
            self._by_stem[stem].append(path)
            self._by_id[stem[:_ID_LENGTH]].append(path)

    def match(self, row: KineticsClip) -> tuple[Path | None, bool]:
        """The path (relative) that a row means, and whether it bears a usual name."""
        name = row.youtube_id
        usual = (
            f"{name}_{row.start_s:06}_{row.end_s:06}",
            f"{name}_{row.start_s}_{row.end_s}",
            f"{name}_{row.start_s:06d}",
        )
        for stem in usual:
            if stem in self._by_stem:
                return self._best(self._by_stem[stem], row), True
        # a file whose name only begins so: renamed by a download tool; the id alone is the whole video or its clip
        others = self._by_id.get(name[:_ID_LENGTH], [])
        clips = [p for p in others if p.stem.startswith(usual[0])] or [p for p in others if p.stem == name]
        return (self._best(clips, row), False) if clips else (None, False)

    def _best(self, paths: list[Path], row: KineticsClip) -> Path:
        """Of several copies the one whose folders name the split and the label."""
        label = label_from_name(row.label).casefold()

        def fits(path: Path) -> tuple[bool, bool, str]:
            folders = [label_from_name(part).casefold() for part in path.parts[:-1]]
            return label in folders, any(_SPLIT_NAMES.get(f) == row.split for f in folders), path.as_posix()

        return max(paths, key=fits)


def _videos_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for at, folders, files in os.walk(os.fsencode(folder)):
        folders[:] = sorted(name for name in folders if not name.startswith(b"."))
        here = Path(os.fsdecode(at)).relative_to(folder)
        if is_frame_folder(files):
            found.append(here)
        found += [
            here / os.fsdecode(name)
            for name in files
            if os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(b".")
        ]
    return found


def _tables(folder: Path) -> list[Path]:
    return sorted(
        path
        for pattern in ("*.csv", "*/*.csv", "*/*/*.csv")
        for path in folder.glob(pattern)
        if path.is_file()
    )


def _read_table(table: Path) -> list[KineticsClip]:
    """The rows of one table; none where it is another kind of table. Raises DatasetError for a broken row."""
    if table.stat().st_size > _MOST_TABLE_BYTES:
        return []
    try:
        with table.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened)
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
        what = (
            "its label cannot be read" if split else "neither the file's name nor a column says which split"
        )
        raise DatasetError(f"{display_path(table)}, line {line}: {what}")
    return KineticsClip(label, printable((row["youtube_id"] or "").strip()), start, end, split)


def _split_of(table: Path) -> str | None:
    words = re.split(r"[^a-z]+", table.stem.lower())
    return next((_SPLIT_NAMES[word] for word in words if word in _SPLIT_NAMES), None)
