"""Messages between the pool and its processes come back as they were sent."""

from __future__ import annotations

from fractions import Fraction

import pytest

from vtag.engine.video.decode import wire
from vtag.engine.video.decode.messages import (
    DecodeDone,
    DecodeFailed,
    DecodeRequest,
    DurationRead,
    DurationRequest,
    FingerprintReady,
    ProbeRequest,
    ProtocolRequest,
    SingleWindowRequest,
    TrainingClipRequest,
    VideoProbed,
    WindowsRequest,
)
from vtag.engine.video.read.fingerprint import Fingerprint
from vtag.engine.video.read.probe import VideoInfo
from vtag.engine.video.read.sampling import Sampling
from vtag.engine.video_clock import ClockStretch, Timecode, VideoClock

PATH = b"/videos/not \xff utf-8\n.mp4"
SAMPLING = Sampling.create(32, 29.97, view="full")
CLOCK = VideoClock(
    (ClockStretch(0, 3_000_000), ClockStretch(9_000_000, 4_000_000)),
    Fraction(30000, 1001),
    Fraction(30000, 1001),
    Timecode(14, 9, 42, 0, is_drop=True),
)
INFO = VideoInfo(5000, 320, 240, 90, 29.97, "h264", "mov", "2020-05-06T07:08:09Z", hdr=True, clock=CLOCK)


@pytest.mark.parametrize(
    "request_",
    [
        WindowsRequest(PATH, SAMPLING),
        WindowsRequest(PATH, SAMPLING, (0, 2133), (4266,)),
        SingleWindowRequest(PATH, SAMPLING, start_ms=1000),
        ProtocolRequest(PATH, "test", 32, 256, 224),
        TrainingClipRequest(PATH, 0.25, 32, 2, 256),
        DurationRequest(PATH),
        ProbeRequest(PATH),
    ],
)
def test_a_request_arrives_in_the_process_unchanged(request_: DecodeRequest) -> None:
    job = wire.DecodeJob(7, request_, threads=2, with_fingerprint=True)
    line = wire.encode(job)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert wire.decode_request(line) == job


@pytest.mark.parametrize(
    "message",
    [
        wire.WorkerReady(),
        wire.Heartbeat(1 << 40),
        wire.ClipWritten(64, (1, 32, 224, 224, 3), 0, 2133),
        FingerprintReady(7, INFO, Fingerprint("00ff", "320x240 1 000 1 33367")),
        DecodeDone(7, INFO, 1, 2, 0, "1 broken packet was skipped"),
        DecodeFailed(7, "no usable picture", crashed=True),
        DurationRead(7, None),
        VideoProbed(7, INFO),
    ],
)
def test_an_answer_arrives_in_the_pool_unchanged(message: wire.FromWorker) -> None:
    assert wire.decode_answer(wire.encode(message)) == message


def test_any_collection_of_starts_can_be_sent() -> None:
    request = WindowsRequest(PATH, SAMPLING, frozenset({2133}), range(0, 9000, 3000))
    job = wire.decode_request(wire.encode(wire.DecodeJob(1, request, 1, with_fingerprint=False)))
    assert isinstance(job, wire.DecodeJob) and isinstance(job.request, WindowsRequest)
    assert (job.request.skip_starts, job.request.only_starts) == ((2133,), (0, 3000, 6000))
