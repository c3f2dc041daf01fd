"""Folders of frames as videos, and training clips by frame index."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.footage import make_video, numbered_frame, read_number, read_numbers
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.video.read.container import UnusableVideo
from vtag.engine.video.read.frame_folder import FrameFolder
from vtag.engine.video.read.published import MAX_ASPECT_RATIO, read_protocol_views, read_training_clip
from vtag.engine.video.read.sampling import training_indices
from vtag.trainer.data.clip_source import ClipRequest, ClipSource, FrameStepSampling, LabelledVideo
from vtag.trainer.data.dataset import read_dataset


def write_picture(path: Path, picture: np.ndarray, codec: str, pix_fmt: str) -> None:
    context = av.CodecContext.create(codec, "w")
    context.height, context.width = picture.shape[:2]
    context.pix_fmt, context.time_base = pix_fmt, 1
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
    path.write_bytes(b"".join(bytes(p) for part in (frame, None) for p in context.encode(part)))


@pytest.fixture(scope="module")
def numbered_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    return make_video(
        folder / "video.mp4", seconds=3, fps=30, width=96, height=64, draw=lambda i: numbered_frame(i, 96, 64)
    )


@pytest.fixture(scope="module")
def frame_folder(numbered_video: Path) -> Path:
    """The video's own frames, exactly, as PNG."""
    folder = numbered_video.parent / "video"
    folder.mkdir()
    with av.open(str(numbered_video)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            write_picture(folder / f"img_{i + 1:05}.png", frame.to_ndarray(format="rgb24"), "png", "rgb24")
    return folder


def test_both_protocols_read_a_folder_of_frames_like_its_video(
    numbered_video: Path, frame_folder: Path
) -> None:
    for protocol in ("clip", "test"):
        options = {"protocol": protocol, "frames": 8, "short_side": 40, "crop": 32}
        assert (
            read_protocol_views(frame_folder, **options) == read_protocol_views(numbered_video, **options)
        ).all()


def test_a_training_clip_is_every_second_frame_from_its_share_of_the_positions(numbered_video: Path) -> None:
    for share, start in ((0.0, 0), (0.5, 37), (0.999, 74)):  # 90 frames, a clip of 16: 75 places
        clip = read_training_clip(numbered_video, share=share, frames=8, step=2, short_side=64)
        assert clip.shape == (8, 64, 96, 3)
        assert [read_number(frame, visible_share=1.0) for frame in clip] == list(range(start, start + 16, 2))


def test_a_long_picture_is_cropped_and_the_centre_crop_is_centred(tmp_path: Path) -> None:
    long = make_video(tmp_path / "long.mkv", seconds=0.5, fps=8, width=640, height=16)
    assert read_training_clip(long, share=0, frames=2, short_side=32).shape == (
        2,
        32,
        MAX_ASPECT_RATIO * 32,
        3,
    )
    video = make_video(tmp_path / "v.mkv", seconds=0.5, fps=8, width=64, height=48)
    resized = read_training_clip(video, share=0, frames=2, step=1, short_side=40)
    centre = read_training_clip(video, share=0, frames=2, step=1, short_side=40, crop=32)
    assert resized.shape == (2, 40, 53, 3)
    assert (centre == resized[:, 4:36, 10:42]).all()


@given(st.integers(1, 400), st.floats(0, 1), st.integers(1, 40), st.integers(1, 4))
def test_training_indices_fit_or_wrap(count: int, share: float, frames: int, step: int) -> None:
    indices = training_indices(count, share, frames=frames, step=step)
    assert len(indices) == frames
    assert all(0 <= i < count for i in indices)
    if count >= frames * step:
        assert np.diff(indices).tolist() == [step] * (frames - 1)
    else:
        assert indices[0] == 0


def test_the_frames_of_folders_are_ordered_by_number(tmp_path: Path) -> None:
    for number in (10, 9, 200):
        picture = np.full((16, 16, 3), {9: 90, 10: 100}.get(number, number), np.uint8)
        write_picture(tmp_path / f"{number}.jpg", picture, "mjpeg", "yuvj420p")
    (tmp_path / "poster.jpg").write_bytes(b"x")
    folder = FrameFolder(tmp_path)
    means = [folder.read_frame(i).mean() for i in range(len(folder))]
    assert means == pytest.approx([90, 100, 200], abs=2)  # what JPEG leaves of them


def test_broken_frames_fail_only_their_folder(tmp_path: Path, frame_folder: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "img_00001.jpg").write_bytes(b"\xff\xd8 no picture")
    (bad / "img_00002.png").write_bytes(os.urandom(2000))
    with pytest.raises(UnusableVideo, match=r"img_00001\.jpg cannot be decoded"):
        read_protocol_views(bad, frames=2)
    os.mkfifo(tmp_path / "img_00001.jpg")  # would block for ever
    with pytest.raises(UnusableVideo, match="is no picture"):
        FrameFolder(tmp_path).read_frame(0)
    items = [LabelledVideo(bad, 0), LabelledVideo(frame_folder, 1)]
    with ClipSource(items, FrameStepSampling(4, 2, 40, 32), workers=1, positions=1) as source:
        broken, good = source.read([ClipRequest(0, 0), ClipRequest(1, 0)])
        assert broken is None
        assert "cannot be decoded" in source.errors[0]
        assert good is not None
        assert good.shape == (4, 32, 32, 3)
        assert read_numbers(good[None])[0] == 41  # the middle one of the 83 places


def test_folders_and_lists_of_frame_folders_are_datasets(tmp_path: Path) -> None:
    for name in ("yoga/a__1", "yoga/b", "archery/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "img_00001.jpg").write_bytes(b"x")
    dataset = read_dataset(tmp_path)
    assert sorted((c.path.name, c.label, c.source) for c in dataset.clips) == [
        ("a__1", "yoga", "a"),
        ("b", "yoga", "b"),
        ("c", "archery", "c"),
    ]
    listed = tmp_path / "list.txt"
    listed.write_text("yoga/b 250 1\narchery/c 0\nyoga/nothing 3 1\n")
    dataset = read_dataset(listed)
    assert [(c.path.name, c.index) for c in dataset.clips] == [("b", 1), ("c", 0)]
    assert len(dataset.remarks) == 1
