"""`vtag scan --cluster` as a person runs it: each kind of address, Ctrl-C, a command that dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cluster_scan import STRIDE_S, THRESHOLD
from helpers.footage import make_video
from helpers.library_rows import Rows, facts
from helpers.small_model import make_model

from vtag.engine.checkpoints.checkpoint import Checkpoint, OnnxGraph
from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.cluster.worker import ModelParcel
from vtag.engine.library.database import LibraryWriter, observations_path

Vtag = Callable[..., subprocess.CompletedProcess[str]]
OPTIONS = ("--threshold", str(THRESHOLD), "--stride", str(STRIDE_S))


def rows_of(db: Path) -> Rows:
    with LibraryWriter.open(db) as library:
        return facts(library)


# --- without a cluster ----------------------------------------------------------------------------------------


def test_without_ray_one_line_says_how_to_get_it(vtag_home: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['ray'] = None; from vtag.app.cli import main; main()"
    command = [sys.executable, "-c", code, "scan", str(tmp_path), "--cluster", "auto"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert (
        done.stderr == "vtag: a cluster needs Ray, which is not installed here: pip install 'vtag[cluster]'\n"
    )
    assert not list(vtag_home.iterdir())


def test_the_onnx_file_of_a_model_has_no_name_on_a_node(tmp_path: Path) -> None:
    """A worker ends by being killed, and would leave a file with a name behind."""
    file = tmp_path / "model.onnx"
    file.write_bytes(content := os.urandom(5000))
    spec = load_checkpoint(make_model(tmp_path / "model")).spec
    graph = OnnxGraph(file, "fp32", (8, 32, 32), None, "hash")
    parcel = ModelParcel.pack(Checkpoint(spec, {"head": np.zeros(1, np.float32)}, graph))
    file.unlink()
    with parcel.unpack() as checkpoint:
        assert checkpoint.onnx is not None
        assert [checkpoint.onnx.file.read_bytes() for _ in range(2)] == [content, content]
        assert os.stat(checkpoint.onnx.file).st_nlink == 0


@pytest.mark.cluster
def test_where_no_cluster_answers_one_line_says_so_at_once(
    vtag: Vtag, material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    arguments = ("scan", material / "videos", "--model", material / "model", "--cluster")
    for address in (f"ray://127.0.0.1:{port}", f"127.0.0.1:{port}", "ray://nowhere.invalid:10001"):
        done = vtag(*arguments, address, timeout=60)
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.startswith(f"vtag: there is no Ray cluster at {address} (")
        assert done.stderr.count("\n") == 1
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    done = vtag(*arguments, "auto", timeout=60)
    assert done.stderr.startswith(f"vtag: there is no Ray cluster at 127.0.0.1:{port} (Connection refused)")
    monkeypatch.delenv("RAY_ADDRESS")
    if not any("gcs_server" in line for line in processes()):
        done = vtag(*arguments, "auto", timeout=60)
        # Ray keeps the address of a cluster that was killed: then the line names it
        assert done.stderr.startswith("vtag: there is no Ray cluster ") and done.stderr.count("\n") == 1


def processes() -> list[str]:
    """The command lines of all processes."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return lines


# --- with one -------------------------------------------------------------------------------------------------


@pytest.mark.cluster
@pytest.mark.parametrize("kind", ["ray://", "HOST:PORT", "auto"])
def test_each_kind_of_address_gives_the_rows_of_one_machine(
    vtag: Vtag,
    cluster: Any,
    material: Path,
    expected: Rows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    address = {"ray://": cluster.client_address, "HOST:PORT": cluster.address, "auto": "auto"}[kind]
    if kind == "auto":
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    model = ("--model", material / "model")
    db = tmp_path / "library.db"
    done = vtag("scan", material / "videos", *model, *OPTIONS, "--cluster", address, "--db", db)
    assert done.returncode == 3 and done.stdout == ""  # one of the videos cannot be read
    assert done.stderr.splitlines()[0].startswith("node ") and "broken.mp4" in done.stderr
    assert rows_of(db) == expected


@pytest.mark.cluster
def test_a_command_that_is_interrupted_or_killed_goes_on_without_a_second_inference(
    vtag: Vtag, cluster: Any, tmp_path: Path
) -> None:
    """Neither of what was stored, nor by workers that stay behind: each has all processors of its node."""
    model, videos, db = make_model(tmp_path / "model"), tmp_path / "videos", tmp_path / "library.db"
    videos.mkdir()
    for number in range(7):
        make_video(videos / f"{number}.mp4", seconds=40, fps=2, width=64, height=48, seed=number)
    arguments = ["scan", videos, "--model", model, *OPTIONS, "--json", "--db"]
    on_cluster = [*arguments, db, "--cluster", cluster.address]
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        before = stored_windows(db)
        driver = subprocess.Popen(
            [sys.executable, "-m", "vtag.app", *map(str, on_cluster)], stderr=subprocess.DEVNULL
        )
        while stored_windows(db) == before:
            assert driver.poll() is None
            time.sleep(0.05)
        driver.send_signal(number)
        assert driver.wait(30) == code
    before = stored_windows(db)
    done = vtag(*on_cluster)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["windows"] == stored_windows(db) - before > 0
    vtag(*arguments, tmp_path / "one.db")
    assert rows_of(db) == rows_of(tmp_path / "one.db")


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


@pytest.mark.cluster
@pytest.mark.usefixtures("second_node")
def test_real_videos_give_the_rows_of_one_machine(
    vtag: Vtag, cluster: Any, shared: Path, tmp_path: Path
) -> None:
    arguments = ("scan", shared / "clips", "--model", "starter", "--db")
    done = vtag(*arguments, tmp_path / "cluster.db", "--cluster", cluster.address, timeout=1200)
    assert done.returncode == 0 and done.stdout == "", done.stderr
    vtag(*arguments, tmp_path / "one.db", timeout=1200)
    assert rows_of(tmp_path / "cluster.db") == rows_of(tmp_path / "one.db")
