"""A share whose server dies while its videos are scanned: a real FUSE server that is killed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.disks import share
from helpers.undisturbed import read_outcome, start_vtag
from helpers.zygote import Zygote

pytestmark = pytest.mark.reliability


def test_a_share_that_dies_is_named(
    videos: Path, model: Path, zygote: Zygote, tmp_path: Path, record: Callable
) -> None:
    shutil.copytree(videos, tmp_path / "source")
    mount, library = tmp_path / "share", tmp_path / "library.db"
    command = ("scan", mount, "--model", model, "--threshold", "0.05", "--precision", "fp32", "--db", library)
    said = f"the disk or share at {mount} does not answer"
    with share(mount, tmp_path / "source", "ro,attr_timeout=0,entry_timeout=0") as server:
        scan = start_vtag(*command)
        assert scan.stderr is not None
        for line in scan.stderr:
            if "to look at" in line:
                break
        server.kill()
        server.wait()
        _, stderr = scan.communicate(timeout=240)
        failed = [line for line in stderr.splitlines() if line.startswith("failed: ")]
        assert scan.returncode == 3 and failed, stderr
        assert all(said in line for line in failed), failed
        gone = zygote.run(*command)
        assert gone.returncode == 1 and said in gone.stderr, gone.stderr
    with share(mount, tmp_path / "source", "ro"):
        again = zygote.run(*command)
        assert again.returncode == 0 and "known to be unreadable" not in again.stderr, again.stderr
    assert len(read_outcome(library).features) == 6
    record(
        "Surroundings",
        "the server of a share dies during a scan",
        1,
        "it is named; later the rest is scanned",
    )
