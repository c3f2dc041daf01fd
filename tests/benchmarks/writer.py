"""How many windows a second one writer stores, if 1, 4 and 16 scanners send it what they computed.

    python tests/benchmarks/writer.py [--videos 60] [--scanners 1,4,16]

A scanner is a process that sends videos of 10 minutes, 281 windows of Swin-T's 768 numbers each, as float16 through a
pipe, as fast as they are taken; it decodes and computes nothing. The writer stores each video as a scan does: its
features, its facts, and the moments that a head of 400 labels derives. So this is where one writer ends. On a
machine that has other work to do, the windows that it stores in a second of its own processor time tell more.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from machine import facts

from vtag.assets import kinetics400_labels
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import heads
from vtag.engine.library.store.observations import Provenance, to_halves
from vtag.engine.library.store.volumes import Volumes
from vtag.engine.scan.discover import DiscoveredFile
from vtag.engine.scan.pending_video import VideoPass
from vtag.engine.scan.plan import ScanTask
from vtag.engine.scan.writer import ScanWriter
from vtag.engine.video.decode.messages import DecodeDone
from vtag.engine.video.read.fingerprint import Fingerprint
from vtag.engine.video.read.probe import VideoInfo

WINDOWS, DIM, WINDOW_MS = 281, 768, 2133


def send_videos(pipe: Connection, scanner: int, count: int) -> None:
    """What a scanner does: the windows and features of `count` videos, one after the other."""
    rng = np.random.default_rng(scanner)
    windows = [(i * WINDOW_MS, (i + 1) * WINDOW_MS) for i in range(WINDOWS)]
    features = [to_halves(rng.normal(size=(1, DIM)).astype(np.float32)) for _ in range(WINDOWS)]
    for number in range(count):
        pipe.send((f"{scanner}-{number}", windows, features))
    pipe.close()


def add_model(library: LibraryWriter) -> heads.Head:
    rng = np.random.default_rng(0)
    labels = kinetics400_labels()
    model_id = heads.save_model(
        library,
        name="benchmark",
        source="benchmark",
        backbone_hash="backbone",
        head_hash="head",
        spec={"labels": list(labels)},
        weight=rng.normal(scale=0.3, size=(len(labels), DIM)).astype(np.float32),
        bias=np.zeros(len(labels), np.float32),
    )
    return heads.load_head(library, model_id)


def store(writer: ScanWriter, name: str, windows: list[tuple[int, int]], features: list[np.ndarray]) -> int:
    """Store one video; returns its number of moments."""
    path = os.fsencode(f"/videos/{name}.mp4")
    info = VideoInfo(WINDOWS * WINDOW_MS, 1920, 1080, 0, 30.0, "h264", "mp4", None)
    done = DecodeDone(0, info, 0, WINDOWS, 0)
    video_pass = VideoPass(True, Fingerprint(name, ""), done, windows, features)
    key = f"1000-{abs(hash(name)):032x}"[:37]
    task = ScanTask(key, [DiscoveredFile(path, 1000, 0, 0, b"/videos")])
    writer.add_windows(task, video_pass, Provenance("torch", "cuda:0", "bf16"), replace=False)
    return sum(writer.add_pass(task, video_pass, info.duration_ms))


def measure(scanners: int, videos: int) -> tuple[float, float, float, int]:
    """Windows a second, and a second of the writer's processor; moments a second; bytes for an hour of video."""
    with tempfile.TemporaryDirectory() as folder, LibraryWriter.open(Path(folder) / "library.db") as library:
        writer = ScanWriter(library, add_model(library), "sampling", Volumes())
        context = multiprocessing.get_context("spawn")
        pipes, processes = [], []
        for scanner in range(scanners):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=send_videos, args=(theirs, scanner, videos // scanners))
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        for pipe in pipes:
            pipe.poll(None)  # the start of a process is not what is measured
        stored = moments = 0
        started, started_processor = time.perf_counter(), time.process_time()
        while pipes:
            for pipe in wait(pipes):
                try:
                    moments += store(writer, *pipe.recv())  # type: ignore[union-attr]
                    stored += 1
                except EOFError:
                    pipes.remove(pipe)  # type: ignore[arg-type]
        passed_s, processor_s = time.perf_counter() - started, time.process_time() - started_processor
        for process in processes:
            process.join()
        size_bytes = sum(file.stat().st_size for file in Path(folder).iterdir())
        hours = stored * WINDOWS * WINDOW_MS / 3_600_000
        windows = stored * WINDOWS
    return windows / passed_s, windows / processor_s, moments / passed_s, round(size_bytes / hours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--scanners", default="1,4,16")
    arguments = parser.parse_args()
    print(facts(), end="\n\n")
    print(
        "| scanners | windows a second | of processor time | hours of video an hour | moments a second "
        "| MB for an hour of video |"
    )
    print("|---|---|---|---|---|---|")
    for scanners in map(int, arguments.scanners.split(",")):
        windows_s, processor_windows_s, moments_s, size_bytes = measure(scanners, arguments.videos)
        hours = windows_s * WINDOW_MS / 1000
        print(
            f"| {scanners} | {windows_s:,.0f} | {processor_windows_s:,.0f} | {hours:,.0f} | {moments_s:,.0f} "
            f"| {size_bytes / 1e6:.1f} |"
        )


if __name__ == "__main__":
    main()
