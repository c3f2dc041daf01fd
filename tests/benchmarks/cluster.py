"""What `--cluster` costs on one node beside a local scan: the same videos, in turns.

    python tests/benchmarks/cluster.py [--videos 12] [--seconds 60 | --folder FOLDER] [--rounds 3] [--model starter]

Starts a Ray cluster of one node with all cores. The start of a scan is the time until it has planned and can compute,
the scan the time from there to the last stored video. On a machine that has other work to do, compare the processor
time of the scan: that of all processes, of Ray's, too.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # else (15) whatever else runs here slows the cluster alone
sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.footage import make_video
from machine import facts
from ray.cluster_utils import Cluster

from vtag.engine.cluster.options import ClusterOptions
from vtag.engine.cluster.pipeline import cluster_pipeline
from vtag.engine.library.database import LibraryWriter
from vtag.engine.models.registry import load_model
from vtag.engine.scan.events import ScanPlanned, VideoScanned
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.pipeline import OpenPipeline, open_local_pipeline
from vtag.engine.scan.scan import scan


@dataclass(frozen=True)
class Timing:
    """A scan in seconds: until it can compute, from there to the last video, and the processor time of the latter."""

    start_s: float
    scan_s: float
    processor_s: float


def time_scan(videos: Path, model: str, open_pipeline: OpenPipeline) -> Timing:
    """Scan all videos of a folder into a new library."""
    checkpoint = load_model(model)
    with tempfile.TemporaryDirectory() as folder, LibraryWriter.open(Path(folder) / "library.db") as library:
        register_model(library, checkpoint, model)
        begun = time.perf_counter()
        planned = done = begun
        processor_s = 0.0
        for event in scan(library, [os.fsencode(videos)], checkpoint, ScanOptions(), open_pipeline):
            if isinstance(event, ScanPlanned):
                planned, processor_s = time.perf_counter(), -processor_seconds()
            if isinstance(event, VideoScanned):
                done, used_s = time.perf_counter(), processor_seconds()
    return Timing(planned - begun, done - planned, processor_s + used_s)


def processor_seconds() -> float:
    """Processor time of this process and of all that descend from it and live."""
    times, parents = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            pid = int(file.parent.name)
            times[pid], parents[pid] = int(fields[11]) + int(fields[12]), int(fields[1])
    own = {os.getpid()}
    while new := {pid for pid, parent in parents.items() if parent in own} - own:
        own |= new
    return sum(times[pid] for pid in own) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="with videos, instead of generated ones")
    parser.add_argument("--model", default="starter")
    arguments = parser.parse_args()
    print(facts(), end="\n\n")
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": os.cpu_count(),
            "object_store_memory": 200 * 2**20,
            "include_dashboard": False,
        },
    )
    pipelines = {
        "local": open_local_pipeline,
        "cluster of one node": cluster_pipeline(ClusterOptions(cluster.address)),
    }
    timings: dict[str, list[Timing]] = {name: [] for name in pipelines}
    with tempfile.TemporaryDirectory() as generated:
        folder = arguments.folder or Path(generated)
        for number in range(0 if arguments.folder else arguments.videos):
            path = folder / f"{number}.mp4"
            make_video(path, seconds=arguments.seconds, fps=15, width=854, height=480, seed=number)
        for _ in range(arguments.rounds):
            for name, open_pipeline in pipelines.items():
                timing = time_scan(folder, arguments.model, open_pipeline)
                timings[name].append(timing)
                print(name, *(f"{value:.1f}" for value in astuple(timing)), file=sys.stderr)
    cluster.shutdown()
    print(
        f"{arguments.videos} videos of {arguments.seconds} s; medians of {arguments.rounds} rounds, in seconds\n"
    )
    print("| | start | scan | times local | processor time | times local |")
    print("|---|---|---|---|---|---|")
    medians = {
        name: [median(column) for column in zip(*map(astuple, rows), strict=True)]
        for name, rows in timings.items()
    }
    _, local_s, local_processor_s = medians["local"]
    for name, (start_s, scan_s, processor_s) in medians.items():
        print(
            f"| {name} | {start_s:.1f} | {scan_s:.1f} | {scan_s / local_s:.2f} "
            f"| {processor_s:.1f} | {processor_s / local_processor_s:.2f} |"
        )


if __name__ == "__main__":
    main()
