"""Decoding on a card where there is none: the processor decodes instead, and one line says why."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.footage import make_video
from helpers.small_model import make_model

from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.errors import VideoError
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.pipeline import open_local_pipeline
from vtag.engine.video.decode.messages import ClipReady, DecodeDone, WindowsRequest
from vtag.engine.video.decode.pool import DecodePool
from vtag.engine.video.read.card_decoder import card_problem, keep_card_open, requested_card, to_processor
from vtag.engine.video.read.reader import read_clips
from vtag.engine.video.read.sampling import Sampling

SAMPLING = Sampling.create(8, 8.0, short_side=40, crop=32)
needs_no_card = pytest.mark.skipif(keep_card_open("0") is not None, reason="there is a CUDA card here")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("card") / "video.mp4", seconds=3)


@pytest.mark.parametrize(("value", "card"), [("", None), ("cpu", None), ("cuda", "0"), ("cuda:3", "3")])
def test_the_variable_names_the_card(value: str, card: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTAG_DECODER", value)
    assert requested_card() == card


@pytest.mark.parametrize("value", ["gpu", "cuda:", "cuda:x", "cuda 0"])
def test_another_value_is_refused_before_anything_is_decoded(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VTAG_DECODER", value)
    with pytest.raises(VideoError, match="set it to cpu, cuda or cuda:N, or unset it"):
        DecodePool(workers=1, memory_bytes=1 << 20)


@needs_no_card
def test_without_a_card_the_clips_are_those_of_the_processor(video: Path) -> None:
    assert card_problem("0") == "CUDA card 0 cannot be opened for it (Operation not permitted)"
    by_processor = list(read_clips(video, SAMPLING))
    by_card = list(read_clips(video, SAMPLING, card="0"))
    assert len(by_processor) == len(by_card) == 3
    for one, other in zip(by_processor, by_card, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_a_decoding_process_that_is_asked_for_a_card_decodes(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VTAG_DECODER", "cuda")
    with DecodePool(workers=1, memory_bytes=1 << 22) as pool:
        pool.submit(0, WindowsRequest(os.fsencode(video), SAMPLING))
        clips = 0
        while not isinstance(event := pool.next_event(30), DecodeDone):
            assert isinstance(event, ClipReady), event
            clips += 1
            event.release()
    assert clips == event.clips == 3


@needs_no_card
def test_a_scan_says_once_why_the_card_does_not_decode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VTAG_DECODER", "cuda")
    checkpoint = load_checkpoint(make_model(tmp_path / "model"))
    options = ScanOptions(device="cpu", backend="torch", precision="fp32")
    with open_local_pipeline(checkpoint, options, SAMPLING, (), processes=1):
        pass
    assert [record.getMessage() for record in caplog.records] == [
        "the processor decodes, not the card: CUDA card 0 cannot be opened for it (Operation not permitted)"
    ]


def test_a_frame_in_the_processors_memory_stays_as_it_is() -> None:
    frame = av.VideoFrame(64, 48, "yuv420p")
    assert to_processor(frame) is frame
