"""What `--cluster` costs on one node beside a local scan: the same videos, in turns.

    python tests/benchmarks/cluster.py [--videos 12] [--seconds 60] [--rounds 3] [--model starter]

Starts a Ray cluster of one node with all cores. Times each scan of generated 480p footage from its plan to its end,
without the start of Ray and of the model.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # else (15) whatever else runs here slows the cluster alone
sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.footage import make_video
from machine import facts
from ray.cluster_utils import Cluster

from vtag.engine.cluster.options import ClusterOptions
from vtag.engine.cluster.pipeline import cluster_pipeline
from vtag.engine.library.database import Library
from vtag.engine.models.registry import load_model
from vtag.engine.scan.events import ScanFinished, ScanPlanned
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.pipeline import OpenPipeline, open_local_pipeline
from vtag.engine.scan.scan import scan


def time_scan(videos: Path, model: str, open_pipeline: OpenPipeline) -> tuple[float, int]:
    """Seconds from the plan to the end, and the windows."""
    checkpoint = load_model(model)
    with tempfile.TemporaryDirectory() as folder, Library.open(Path(folder) / "library.db") as library:
        register_model(library, checkpoint, model)
        started = 0.0
        for event in scan(library, [os.fsencode(videos)], checkpoint, ScanOptions(), open_pipeline):
            if isinstance(event, ScanPlanned):
                started = time.perf_counter()
            if isinstance(event, ScanFinished):
                return time.perf_counter() - started, event.windows
    raise AssertionError("a scan ends with its sum")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
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
    seconds: dict[str, list[float]] = {name: [] for name in pipelines}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.videos):
            path = Path(folder) / f"{number}.mp4"
            make_video(path, seconds=arguments.seconds, fps=15, width=854, height=480, seed=number)
        for _ in range(arguments.rounds):
            for name, open_pipeline in pipelines.items():
                passed_s, windows = time_scan(Path(folder), arguments.model, open_pipeline)
                seconds[name].append(passed_s)
                print(f"{name}: {passed_s:.1f} s, {windows} windows", file=sys.stderr)
    cluster.shutdown()
    local = statistics.median(seconds["local"])
    print(f"| {windows} windows | seconds (median of {arguments.rounds}) | times local |")
    print("|---|---|---|")
    for name, passed in seconds.items():
        print(f"| {name} | {statistics.median(passed):.1f} | {statistics.median(passed) / local:.2f} |")


if __name__ == "__main__":
    main()
