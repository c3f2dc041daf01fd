"""`vtag scan --cluster` on a real Ray cluster of two nodes: the rows of a scan on one machine, whatever dies."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from helpers.footage import make_video
from helpers.library_rows import Rows, facts
from helpers.library_scan import rewrite_metadata
from helpers.small_model import make_model

from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.cluster.options import ClusterOptions, PathMap
from vtag.engine.cluster.pipeline import ClusterPipeline, cluster_pipeline
from vtag.engine.library.database import Library, observations_path
from vtag.engine.scan.events import (
    NodeLost,
    ScanEvent,
    ScanFinished,
    ScanPlanned,
    ScanProgress,
    VideoScanFailed,
    VideoScanned,
)
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.pipeline import OpenPipeline, Pipeline, open_local_pipeline
from vtag.engine.scan.scan import scan

cluster_utils = pytest.importorskip("ray.cluster_utils", reason="no Ray here (the extra `cluster`)")

PACE = ("--stride", "0.25")
_STORE_BYTES = 80 * 2**20
_NODE = {"num_cpus": 1, "object_store_memory": _STORE_BYTES}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """The head of a cluster, to which tests add a second node: a raylet with processes of its own."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    started = cluster_utils.Cluster(
        initialize_head=True, head_node_args={**_NODE, "include_dashboard": False}
    )
    yield started
    started.shutdown()


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model` and `videos`: ordinary ones, a copy, one in a rewritten container, one that cannot be read."""
    folder = tmp_path_factory.mktemp("material")
    make_model(folder / "model")
    videos = folder / "videos"
    videos.mkdir()
    for number in range(6):
        make_video(videos / f"{number}.mp4", seconds=4 + 3 * number, fps=8, width=64, height=48, seed=number)
    for name in ("copy", "rewritten"):
        shutil.copy(videos / "1.mp4", videos / f"{name}.mp4")
    rewrite_metadata(videos / "rewritten.mp4", "a title")
    (videos / "broken.mp4").write_bytes(bytes(range(256)) * 20)
    return folder


def run(
    material: Path,
    db: Path,
    open_pipeline: OpenPipeline = open_local_pipeline,
    on_event: Callable[[ScanEvent], None] = lambda _: None,
    videos: Path | None = None,
    **options: Any,
) -> tuple[Rows, list[ScanEvent]]:
    """Scan the material's videos, or others, into the library at `db`: its rows and the events."""
    checkpoint = load_checkpoint(material / "model")
    events = []
    with Library.open(db) as library:
        register_model(library, checkpoint, str(material / "model"))
        chosen = ScanOptions(**{"threshold": 0.05, "stride_s": 0.25, **options})
        for event in scan(
            library, [os.fsencode(videos or material / "videos")], checkpoint, chosen, open_pipeline
        ):
            events.append(event)
            on_event(event)
        return facts(library), events


@pytest.fixture(scope="module")
def expected(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What one machine says."""
    rows, _ = run(material, tmp_path_factory.mktemp("one") / "library.db")
    assert len(rows["contents"]) == 8 and rows["segments"]
    return rows


def on(cluster: Any, path_map: PathMap = (), workers: int = 1) -> OpenPipeline:
    """The cluster's pipeline, with a number of workers that have loaded the model."""

    @contextmanager
    def open_pipeline(*arguments: Any) -> Iterator[Pipeline]:
        options = ClusterOptions(cluster.address, path_map)
        with cluster_pipeline(options)(*arguments) as pipeline:
            assert isinstance(pipeline, ClusterPipeline)
            pipeline.wait_for_workers(workers)
            yield pipeline

    return open_pipeline


def test_a_node_that_dies_in_mid_scan_changes_nothing_in_the_result(
    cluster: Any, material: Path, expected: Rows, tmp_path: Path
) -> None:
    """Row for row what one machine says, with the videos at another path on the nodes."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(material / "videos", elsewhere)
    victim = cluster.add_node(**_NODE)

    def kill_one(event: ScanEvent) -> None:
        if isinstance(event, VideoScanned) and victim in cluster.list_all_nodes():
            cluster.remove_node(victim, allow_graceful=False)

    path_map = ((os.fsencode(material / "videos"), os.fsencode(elsewhere)),)
    rows, events = run(material, tmp_path / "library.db", on(cluster, path_map, workers=2), kill_one)
    assert rows == expected
    assert sum(isinstance(event, NodeLost) for event in events) == 1
    done = events[-1]
    assert isinstance(done, ScanFinished) and (done.scanned, len(done.failed)) == (6, 1)
    progress = [event for event in events if isinstance(event, ScanProgress)]
    assert sum(progress[-1].shares.values()) >= done.windows  # those of the dead node were computed again


def test_without_ray_one_line_says_how_to_get_it(vtag_home: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['ray'] = None; from vtag.app.cli import main; main()"
    command = [sys.executable, "-c", code, "scan", str(tmp_path), "--cluster", "auto"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert (
        done.stderr == "vtag: a cluster needs Ray, which is not installed here: pip install 'vtag[cluster]'\n"
    )
    assert not list(vtag_home.iterdir())


@pytest.mark.slow
def test_a_file_that_no_node_can_read_is_tried_on_two_and_marked(
    cluster: Any, material: Path, tmp_path: Path
) -> None:
    second = cluster.add_node(**_NODE)
    videos, hidden = material / "videos", material / "hidden"

    def hide(event: ScanEvent) -> None:
        if isinstance(event, ScanPlanned):
            videos.rename(hidden)

    try:
        _, events = run(material, tmp_path / "library.db", on(cluster, workers=2), hide)
    finally:
        hidden.rename(videos)
    failed = [event.error for event in events if isinstance(event, VideoScanFailed)]
    assert len(failed) == 8 and set(failed) == {f"No such file or directory on the node {platform.node()}"}
    _, events = run(material, tmp_path / "library.db")  # known to fail, until somebody says --retry-failed
    assert isinstance(events[-1], ScanFinished) and events[-1].known_failed == 9
    cluster.remove_node(second)


@pytest.mark.slow
def test_a_video_that_kills_two_workers_is_marked_and_the_rest_completes(
    cluster: Any, material: Path, expected: Rows, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    shutil.copytree(material / "videos", folder)
    poison = make_video(folder / "poison.mp4", seconds=60, fps=8, width=64, height=48, seed=99)
    second = cluster.add_node(**_NODE)
    with killing_readers_of(poison) as killed:
        rows, events = run(material, tmp_path / "library.db", on(cluster, workers=2), videos=folder)
    assert len(killed) == 2
    failed = {os.path.basename(e.path): e.error for e in events if isinstance(e, VideoScanFailed)}
    assert failed[b"poison.mp4"] == "2 workers of the cluster died while they had it"
    assert set(failed) == {b"poison.mp4", b"broken.mp4"}
    assert rows["segments"] == expected["segments"]
    cluster.remove_node(second)


@contextmanager
def killing_readers_of(path: Path) -> Iterator[list[int]]:
    """Within, a process that opens `path` costs its parent's life: what a video does that kills a worker."""
    killed: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError, ProcessLookupError):
                    parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                    if parent == os.getpid() or parent in killed:
                        continue
                    if any(os.path.realpath(fd) == str(path) for fd in (process / "fd").iterdir()):
                        os.kill(parent, signal.SIGKILL)
                        killed.append(parent)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield killed
    done.set()
    thread.join()


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on_without_a_second_inference_of_what_was_stored(
    vtag: Callable[..., subprocess.CompletedProcess[str]], cluster: Any, tmp_path: Path
) -> None:
    model, videos, db = make_model(tmp_path / "model"), tmp_path / "videos", tmp_path / "library.db"
    videos.mkdir()
    for number in range(6):
        make_video(videos / f"{number}.mp4", seconds=60, fps=2, width=64, height=48, seed=number)
    arguments = [
        "scan",
        videos,
        "--model",
        model,
        "--threshold",
        "0.05",
        *PACE,
        "--json",
        "--db",
        db,
    ]
    on_cluster = [*arguments, "--cluster", cluster.address]
    driver = subprocess.Popen(
        [sys.executable, "-m", "vtag.app", *map(str, on_cluster)], stderr=subprocess.DEVNULL
    )
    while stored_windows(db) == 0:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    before = stored_windows(db)
    done = vtag(*on_cluster)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["windows"] == stored_windows(db) - before > 0
    vtag(*arguments[:-1], tmp_path / "one.db")
    with Library.open(db) as library, Library.open(tmp_path / "one.db") as one:
        assert facts(library) == facts(one)


def stored_windows(db: Path) -> int:
    """The windows that are stored so far."""
    if not db.exists():
        return 0
    with (
        closing(sqlite3.connect(observations_path(db), timeout=30)) as features,
        suppress(sqlite3.OperationalError),
    ):
        return int(features.execute("SELECT coalesce(sum(window_count), 0) FROM observations").fetchone()[0])
    return 0


@pytest.mark.slow
def test_real_videos_give_the_rows_of_one_machine(
    vtag: Callable[..., subprocess.CompletedProcess[str]], cluster: Any, shared: Path, tmp_path: Path
) -> None:
    second = cluster.add_node(**_NODE)
    arguments = ("scan", shared / "clips", "--model", "starter", "--db")
    done = vtag(*arguments, tmp_path / "cluster.db", "--cluster", cluster.address, timeout=1200)
    assert done.returncode == 0 and done.stdout == "", done.stderr
    vtag(*arguments, tmp_path / "one.db", timeout=1200)
    with Library.open(tmp_path / "cluster.db") as library, Library.open(tmp_path / "one.db") as one:
        assert facts(library) == facts(one)
    cluster.remove_node(second)
