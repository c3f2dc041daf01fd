"""A scan on a real Ray cluster of two nodes: the rows of a scan on one machine, whatever dies."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from helpers.cluster_scan import NODE, on_cluster, run_scan_of
from helpers.footage import make_video
from helpers.library_rows import Rows

from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.cluster.options import ClusterOptions
from vtag.engine.cluster.pipeline import cluster_pipeline
from vtag.engine.scan.events import (
    NodeJoined,
    NodeLost,
    ScanEvent,
    ScanFinished,
    ScanPlanned,
    ScanProgress,
    VideoScanFailed,
)
from vtag.engine.scan.options import ScanOptions, scan_sampling
from vtag.engine.scan.pipeline import Pipeline

ray = pytest.importorskip("ray", reason="no Ray here (the extra `cluster`)")
pytestmark = pytest.mark.cluster


def test_a_node_that_dies_in_mid_scan_changes_nothing_in_the_result(
    cluster: Any, second_node: Any, material: Path, expected: Rows, tmp_path: Path
) -> None:
    """Row for row what one machine says, with the videos at another path on the nodes."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(material / "videos", elsewhere)
    raylet = second_node.all_processes["raylet"][0].process.pid

    def kill_node(worker: int) -> bool:
        is_there = parent_of(worker) == raylet
        if is_there:
            cluster.remove_node(second_node, allow_graceful=False)
        return is_there

    path_map = ((os.fsencode(material / "videos"), os.fsencode(elsewhere)),)
    pipeline = on_cluster(cluster.address, path_map, workers=2)
    with watching_readers(elsewhere, kill_node) as killed:
        rows, events = run_scan_of(material, tmp_path / "library.db", pipeline)
    assert len(killed) == 1
    assert rows == expected
    assert sum(isinstance(event, NodeJoined) for event in events) == 2
    (lost,) = (event for event in events if isinstance(event, NodeLost) and event.has_joined)
    assert lost.videos > 0
    done = events[-1]
    assert isinstance(done, ScanFinished) and (done.scanned, len(done.failed)) == (6, 1)
    progress = [event for event in events if isinstance(event, ScanProgress)]
    assert sum(progress[-1].shares.values()) >= done.windows  # those of the dead node were computed again


@pytest.mark.usefixtures("second_node")
def test_a_file_that_no_node_can_read_is_tried_on_two_and_scanned_when_it_is_back(
    cluster: Any, material: Path, tmp_path: Path
) -> None:
    videos, hidden = material / "videos", material / "hidden"

    def hide(event: ScanEvent) -> None:
        if isinstance(event, ScanPlanned):
            videos.rename(hidden)

    try:
        _, events = run_scan_of(
            material, tmp_path / "library.db", on_cluster(cluster.address, workers=2), hide
        )
    finally:
        hidden.rename(videos)
    failed = [event.error for event in events if isinstance(event, VideoScanFailed)]
    assert len(failed) == 8 and set(failed) == {f"No such file or directory on the node {platform.node()}"}
    _, events = run_scan_of(material, tmp_path / "library.db")
    done = events[-1]
    assert isinstance(done, ScanFinished) and (done.known_failed, len(done.failed)) == (0, 1)
    assert done.scanned + done.skipped == 7


@pytest.mark.usefixtures("second_node")
def test_a_video_that_kills_two_workers_is_marked_and_the_rest_completes(
    cluster: Any, material: Path, expected: Rows, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    shutil.copytree(material / "videos", folder)
    poison = make_video(folder / "poison.mp4", seconds=60, fps=8, width=64, height=48, seed=99)
    pipeline = on_cluster(cluster.address, workers=2)

    def kill(worker: int) -> bool:
        os.kill(worker, signal.SIGKILL)
        return True

    with watching_readers(poison, kill) as killed:
        rows, events = run_scan_of(material, tmp_path / "library.db", pipeline, videos=folder)
    assert len(killed) == 2
    failed = {os.path.basename(e.path): e.error for e in events if isinstance(e, VideoScanFailed)}
    assert failed[b"poison.mp4"] == "2 workers of the cluster died while they had it"
    assert set(failed) == {b"poison.mp4", b"broken.mp4"}
    assert rows["segments"] == expected["segments"]


@contextmanager
def watching_readers(path: Path, act: Callable[[int], bool]) -> Iterator[list[int]]:
    """Within, `act` is called with the parent of a process that reads a file at or below `path`: a worker.

    Yields the parents for which it was True; it is not called for those again. The process is stopped meanwhile, and
    stays so where it was True: it cannot give the last of the file to a worker that is about to die.
    """
    acted: list[int] = []
    stopped: list[int] = []
    done = threading.Event()

    def reads(pid: int) -> bool:
        files = (os.readlink(fd.path) for fd in os.scandir(f"/proc/{pid}/fd"))
        return any(file.startswith(str(path)) for file in files)

    def act_on(pid: int, parent: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)
        if reads(pid) and act(parent):
            acted.append(parent)
            stopped.append(pid)
        else:
            os.kill(pid, signal.SIGCONT)

    def watch() -> None:
        while not done.wait(0.005):
            for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
                with suppress(OSError):
                    parent = parent_of(pid)
                    is_known = pid in stopped or parent in acted or parent in (1, os.getpid())
                    if not is_known and reads(pid):
                        act_on(pid, parent)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield acted
    done.set()
    thread.join()
    for pid in stopped:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_node_that_comes_late_takes_part_and_one_of_another_version_does_not(
    cluster: Any, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The late one has two cards: each gets a worker, for which Ray reserves the card."""
    (tmp_path / "vtag-0.0.1.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: vtag\nVersion: 0.0.1\n"
    (tmp_path / "vtag-0.0.1.dist-info" / "METADATA").write_text(metadata)
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        nodes = [cluster.add_node(**NODE)]
    checkpoint, options = load_checkpoint(material / "model"), ScanOptions()
    sampling = scan_sampling(checkpoint.spec, options)
    # with Ray Client the workers of a node have the Python path of that node
    open_pipeline = cluster_pipeline(ClusterOptions(cluster.client_address))
    with open_pipeline(checkpoint, options, sampling, set()) as pipeline:
        joined, lost = wait_for_nodes(pipeline, 2)
        assert [node.device for node in joined] == ["cpu"]
        assert [node.reason for node in lost] == [f"it has vtag 0.0.1, and this machine {version('vtag')}"]
        nodes.append(cluster.add_node(**{**NODE, "num_cpus": 2, "num_gpus": 2}))
        joined, lost = wait_for_nodes(pipeline, 2)
        assert (len(joined), lost) == (2, [])
        assert ray.available_resources().get("GPU", 0) == 0
    for node in nodes:
        cluster.remove_node(node)


def wait_for_nodes(pipeline: Pipeline, count: int) -> tuple[list[NodeJoined], list[NodeLost]]:
    """So many workers that joined or were lost."""
    joined, lost = [], []
    deadline = time.monotonic() + 120
    while len(joined) + len(lost) < count and time.monotonic() < deadline:
        for event in pipeline.next_events():
            joined += [event] if isinstance(event, NodeJoined) else []
            lost += [event] if isinstance(event, NodeLost) else []
    return joined, lost
