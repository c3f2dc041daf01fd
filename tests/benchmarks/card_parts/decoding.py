"""Frames a second of 1080p: NVDEC through PyAV's CUDA device beside the processor, one file and several at once."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from card_parts.card_frames import clips_on_card
from card_parts.footage import CODECS, make_videos
from card_parts.report import Report, Scale, Table
from vtag.engine.video.decode.messages import ClipReady, DecodeDone, WindowsRequest
from vtag.engine.video.decode.pool import DecodePool
from vtag.engine.video.read.card_decoder import (
    DECODER_VARIABLE,
    card_accelerator,
    card_problem,
    keep_card_open,
    to_processor,
)
from vtag.engine.video.read.reader import read_clips
from vtag.engine.video.read.sampling import Sampling

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel
    from av.video.frame import VideoFrame

_STEP = 2  # every second frame of 30 a second
_COMPARED_CLIPS = 4
_ARENA_BYTES = 256 << 20

Count = Callable[[Path], int]  # reads a file; returns how many frames it had


def run_d(report: Report, scale: Scale) -> None:
    """Both codecs; first what decodes at all."""
    # opened before torch uses the card: libav refuses a context that torch made with other flags
    problem = card_problem("0")
    is_open = problem is None and keep_card_open("0") is not None
    report.say(
        "the card decodes" if is_open else f"the card does not decode: {problem or 'its context is refused'}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        for name, codec in list(CODECS.items())[: None if scale.has_card else 1]:
            started = time.perf_counter()
            count, seconds = scale.files, scale.video_s / 6
            files = make_videos(Path(temporary), scale, codec=codec, count=count, seconds=seconds)
            size_mb = sum(file.stat().st_size for file in files) / 1e6
            report.say(
                f"{name}: {count} files of {seconds:.0f} s, {size_mb * 8 / count / seconds:.1f} Mbit/s, "
                f"made in {time.perf_counter() - started:.0f} s"
            )
            width, height = scale.picture
            head = f"{name}, {width} x {height}"
            table = report.table(head, "frames a second, 1 file", f"{count} files at once", "times real time")
            ways = _ways(scale, is_open=is_open)
            for way, work in ways.items():
                _measure(table, way, work, files)
            _measure_pool(table, files, scale, is_open=is_open)
            _compare(report, files[0], scale, is_open=is_open)


def _ways(scale: Scale, *, is_open: bool) -> dict[str, Count]:
    ways: dict[str, Count] = {"processor": partial(_count_frames, None)}
    if is_open:
        ways["card, frames stay there"] = partial(_count_frames, "0")
        ways["card, every frame copied to the processor"] = partial(_count_frames, "0", copied=True)
        ways["card, clips made there (DLPack)"] = partial(_count_clip_frames, "0", scale)
    else:
        ways["processor, clips by DLPack"] = partial(_count_clip_frames, None, scale)
    return ways


def _frames(path: Path, card: str | None) -> Iterator[VideoFrame]:
    """All frames of a file, decoded on the card if there is one, else with all cores."""
    accelerator: HWAccel | None = None if card is None else card_accelerator(card)
    with av.open(str(path), hwaccel=accelerator) as container:
        container.streams.video[0].thread_type = "AUTO" if card is None else "NONE"
        yield from container.decode(video=0)


def _count_frames(card: str | None, path: Path, copied: bool = False) -> int:
    count = 0
    for frame in _frames(path, card):
        if copied:
            to_processor(frame)
        count += 1
    return count


def _count_clip_frames(card: str | None, scale: Scale, path: Path) -> int:
    count = sum(len(clip) for clip in clips_on_card(_planar(path, card), _sampling(scale), _STEP))
    scale.synchronize()
    return count * _STEP


def _planar(path: Path, card: str | None) -> Iterator[VideoFrame]:
    """Frames in NV12, the card's format: as decoded there, or converted."""
    for frame in _frames(path, card):
        yield frame if card is not None else frame.reformat(format="nv12")


def _sampling(scale: Scale) -> Sampling:
    frames, _, crop = scale.clip
    return Sampling.create(frames, 15.0, short_side=crop * 8 // 7, crop=crop)


def _measure(table: Table, name: str, work: Count, files: list[Path]) -> None:
    """Add a row: frames a second of the first file alone, then of all at once, each in a thread."""
    cells: list[str] = []
    try:
        work(files[0])  # the first opening of a card takes long
        for some in (files[:1], files):
            started = time.perf_counter()
            with ThreadPoolExecutor(len(some)) as pool:
                frames = sum(pool.map(work, some))
            rate = frames / (time.perf_counter() - started)
            cells.append(f"{rate:.0f}")
        table.add(name, *cells, f"{rate / 30:.0f}")
    except (av.error.FFmpegError, OSError, RuntimeError, NotImplementedError) as error:
        table.add(name, *cells, f"failed: {str(error)[:100]}")


def _measure_pool(table: Table, files: list[Path], scale: Scale, *, is_open: bool) -> None:
    """Add rows for the decoding processes of a scan, in frames of the video for each frame that they convert."""
    sampling = _sampling(scale)
    for decoder in ("cpu", "cuda") if is_open or not scale.has_card else ("cpu",):
        os.environ[DECODER_VARIABLE] = decoder
        with DecodePool(workers=os.cpu_count() or 1, memory_bytes=_ARENA_BYTES) as pool:
            _decode_all(pool, files, sampling)  # starts the processes, and the card for each
            rates = []
            for some in (files[:1], files):
                started = time.perf_counter()
                windows = _decode_all(pool, some, sampling)
                rates.append(windows * sampling.frames * _STEP / (time.perf_counter() - started))
        table.add(
            f"decoding processes of a scan, {DECODER_VARIABLE}={decoder}",
            *(f"{rate:.0f}" for rate in rates),
            f"{rates[-1] / 30:.0f}",
        )
    del os.environ[DECODER_VARIABLE]


def _decode_all(pool: DecodePool, files: list[Path], sampling: Sampling) -> int:
    for number, file in enumerate(files):
        pool.submit(number, WindowsRequest(os.fsencode(file), sampling))
    windows = finished = 0
    while finished < len(files):
        event = pool.next_event(30)
        if isinstance(event, ClipReady):
            event.release()
            windows += 1
        elif isinstance(event, DecodeDone):
            finished += 1
        else:
            raise RuntimeError(f"a generated video was not decoded: {event}")
    return windows


def _compare(report: Report, file: Path, scale: Scale, *, is_open: bool) -> None:
    """How far the pixels of a scan's clips are from the processor's."""
    sampling = _sampling(scale)
    by_processor, by_card = (
        [clip.pixels[0] for clip in islice(read_clips(file, sampling, card=card), _COMPARED_CLIPS)]
        for card in (None, "0")
    )
    made_there = list(clips_on_card(_planar(file, "0" if is_open else None), sampling, _STEP))[
        :_COMPARED_CLIPS
    ]
    others = {
        "decoded there, scaled here": by_card,
        "made there": [clip.cpu().numpy() for clip in made_there],
    }
    for name, clips in others.items():
        pairs = list(zip(by_processor, clips, strict=False))
        mean = np.mean([np.abs(one.astype(int) - other).mean() for one, other in pairs])
        report.say(f"pixels {name} differ from the processor's by {mean:.2f} of 255 ({len(pairs)} clips)")
