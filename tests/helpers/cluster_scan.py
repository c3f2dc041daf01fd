"""Scans on a cluster and on this machine as library calls, and footage for both."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.footage import make_video
from helpers.library_rows import Rows, facts
from helpers.library_scan import rewrite_metadata
from helpers.small_model import make_model
from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.cluster.options import ClusterOptions, PathMap
from vtag.engine.cluster.pipeline import ClusterPipeline, cluster_pipeline
from vtag.engine.library.database import LibraryWriter
from vtag.engine.scan.events import ScanEvent
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.pipeline import OpenPipeline, Pipeline, open_local_pipeline
from vtag.engine.scan.scan import scan

THRESHOLD, STRIDE_S = 0.05, 0.25
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def make_material(folder: Path) -> None:
    """`model` and `videos`: ordinary ones, a copy, one in a rewritten container, one that cannot be read."""
    make_model(folder / "model")
    videos = folder / "videos"
    videos.mkdir()
    for number in range(6):
        make_video(videos / f"{number}.mp4", seconds=4 + 3 * number, fps=8, width=64, height=48, seed=number)
    for name in ("copy", "rewritten"):
        shutil.copy(videos / "1.mp4", videos / f"{name}.mp4")
    rewrite_metadata(videos / "rewritten.mp4", "a title")
    (videos / "broken.mp4").write_bytes(bytes(range(256)) * 20)


def run_scan_of(
    material: Path,
    db: Path,
    open_pipeline: OpenPipeline = open_local_pipeline,
    on_event: Callable[[ScanEvent], None] = lambda _: None,
    videos: Path | None = None,
) -> tuple[Rows, list[ScanEvent]]:
    """Scan the material's videos, or others, into the library at `db`: its rows and the events."""
    checkpoint = load_checkpoint(material / "model")
    folders = [os.fsencode(videos or material / "videos")]
    options = ScanOptions(threshold=THRESHOLD, stride_s=STRIDE_S)
    events = []
    with LibraryWriter.open(db) as library:
        register_model(library, checkpoint, str(material / "model"))
        for event in scan(library, folders, checkpoint, options, open_pipeline):
            events.append(event)
            on_event(event)
        return facts(library), events


def on_cluster(address: str, path_map: PathMap = (), workers: int = 1) -> OpenPipeline:
    """The pipeline of the cluster at an address, with a number of workers that have loaded the model."""

    @contextmanager
    def open_pipeline(*arguments: Any) -> Iterator[Pipeline]:
        options = ClusterOptions(address, path_map)
        with cluster_pipeline(options)(*arguments) as pipeline:
            assert isinstance(pipeline, ClusterPipeline)
            pipeline.wait_for_workers(workers)
            yield pipeline

    return open_pipeline
