"""Labelled clips: folders and lists, names that mean the same, and a split that never cuts a source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtag.trainer.data.dataset import DatasetError, folds, read_dataset


def put(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_a_folder_of_classes(tmp_path: Path) -> None:
    put(
        tmp_path,
        "high_jump/a__1.mp4",
        "high_jump/a__2.mp4",
        "high_jump/b.mov",
        "dive/c.avi",
        "dive/.hidden.mp4",
    )
    dataset = read_dataset(tmp_path)
    assert dataset.labels == ("dive", "high jump")
    assert sorted((c.path.name, c.label, c.source) for c in dataset.clips) == [
        ("a__1.mp4", "high jump", "a"),
        ("a__2.mp4", "high jump", "a"),
        ("b.mov", "high jump", "b"),
        ("c.avi", "dive", "c"),
    ]
    assert dataset.remarks == ()


def test_what_a_person_should_know_is_said_in_a_line_each(tmp_path: Path) -> None:
    put(tmp_path, "Dive/a.mp4", "dive/b.mp4", "high jump/c.mp4", "high_jump/d.mp4", "loose.mp4")
    (tmp_path / "empty").mkdir()
    dataset = read_dataset(tmp_path)
    assert len(dataset.labels) == 2
    remarks = "\n".join(dataset.remarks)
    assert "Dive and dive" in remarks
    assert "high jump and high_jump" in remarks
    assert "empty holds no videos" in remarks
    assert "1 file beside" in remarks
    assert len(dataset.remarks) == 4


def test_a_list_with_names_or_indices(tmp_path: Path) -> None:
    put(tmp_path / "videos", "x y.mp4", "b.mp4")
    (tmp_path / "list.txt").write_text("x y.mp4 3\nb.mp4 3\n\nmissing.mp4 1\n")
    dataset = read_dataset(tmp_path / "list.txt", root=tmp_path / "videos")
    assert [(c.path.name, c.label) for c in dataset.clips] == [("x y.mp4", "class 3"), ("b.mp4", "class 3")]
    assert "missing.mp4 is not there" in dataset.remarks[0]


@pytest.mark.parametrize("content", [b"one\n", b"\xff\xfe\x00", b"\x00 \x1b[2J\n"])
def test_a_list_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DatasetError):
        read_dataset(tmp_path / "list.txt")
    with pytest.raises(DatasetError, match="no folders"):
        read_dataset(tmp_path)
    with pytest.raises(DatasetError, match="there is no folder"):
        read_dataset(tmp_path / "nothing")


@given(
    st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 3)), min_size=1, max_size=60),
    st.integers(0, 5),
)
def test_a_source_lies_in_one_fold(clips: list[tuple[str, int]], seed: int) -> None:
    sources, labels = [s for s, _ in clips], [k for _, k in clips]
    fold = folds(sources, labels, 5, seed=seed)
    assert fold.min() >= 0 and fold.max() < 5
    for source in set(sources):
        assert len({int(f) for f, s in zip(fold, sources, strict=True) if s == source}) == 1
    assert np.array_equal(fold, folds(sources, labels, 5, seed=seed))
    label_sources = {s for s, k in clips if k == labels[0]}
    first_sources = sorted({s for s, k in zip(sources, labels, strict=True) if k == min(labels)})
    if len(first_sources) >= 5 and label_sources:
        assert len({int(f) for f, s in zip(fold, sources, strict=True) if s in first_sources}) == 5
