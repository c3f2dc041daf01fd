"""The data of a recipe: its clips with the labels' names, in the order of the classes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vtag.engine.text import display_path, printable, read_text_file
from vtag.trainer.data.clip_source import LabelledVideo
from vtag.trainer.data.dataset import Dataset, DatasetError, LabelledClip, label_from_name, read_dataset
from vtag.trainer.network.config import Config


def read_training_data(config: Config) -> tuple[Dataset, tuple[str, ...]]:
    """The clips to train on, and all labels in the order of the classes. Raises DatasetError."""
    path = config.path(config.data.train)
    dataset = read_dataset(path, root=_root(config))
    if not dataset.clips:
        raise DatasetError(f"there is no clip to learn from in {display_path(path)}")
    labels = read_label_names(config)
    if labels:
        return _with_label_names(dataset, labels), labels
    if any(clip.index is not None for clip in dataset.clips):
        raise DatasetError("the list has indices for labels: name them with data.labels (one name a line)")
    if len(dataset.labels) < 2:
        raise DatasetError("there is one class alone: add clips of another")
    return dataset, dataset.labels


def read_validation_data(config: Config, labels: tuple[str, ...]) -> Dataset | None:
    """The clips to validate on, with the same labels; None if the recipe names none. Raises DatasetError."""
    if not config.data.val:
        return None
    path = config.path(config.data.val)
    dataset = _with_label_names(read_dataset(path, root=_root(config)), labels)
    if not dataset.clips:
        raise DatasetError(f"there is no clip to validate on in {display_path(path)}")
    return dataset


def read_label_names(config: Config) -> tuple[str, ...]:
    """The names in the file of labels, by default `labels.txt` beside the list; empty if there is none.

    Raises DatasetError if the file cannot be read.
    """
    train = config.path(config.data.train)
    file = config.path(config.data.labels) if config.data.labels else train.parent / "labels.txt"
    if not config.data.labels and (not file.is_file() or train.is_dir()):
        return ()
    try:
        lines = read_text_file(file).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"the labels in {display_path(file)} cannot be read") from error
    return tuple(label_from_name(line) for line in lines if line.strip())


def labelled_videos(dataset: Dataset, labels: Sequence[str]) -> list[LabelledVideo]:
    """The clips of a data set with the indices of their labels."""
    index = {label: i for i, label in enumerate(labels)}
    return [LabelledVideo(clip.path, index[clip.label]) for clip in dataset.clips]


def dataset_digest(dataset: Dataset) -> str:
    """SHA-256 of the labels and the file names of all clips."""
    names = sorted(f"{clip.label}\0{clip.path.name}" for clip in dataset.clips)
    return hashlib.sha256(json.dumps(names).encode("utf-8", "surrogateescape")).hexdigest()


def _root(config: Config) -> Path | None:
    return config.path(config.data.root) if config.data.root else None


def _with_label_names(dataset: Dataset, labels: tuple[str, ...]) -> Dataset:
    """The data set with names from `labels` instead of indices or other spellings. Raises DatasetError."""
    by_spelling = {label.casefold(): label for label in labels}
    clips: list[LabelledClip] = []
    for clip in dataset.clips:
        if clip.index is not None and clip.index < len(labels):
            label = labels[clip.index]
        elif clip.index is None and label_from_name(clip.label).casefold() in by_spelling:
            label = by_spelling[label_from_name(clip.label).casefold()]
        else:
            raise DatasetError(
                f"{display_path(clip.path)} has a label that is not known: {printable(clip.label)}"
            )
        clips.append(replace(clip, label=label))
    return replace(dataset, clips=tuple(clips), labels=labels)
