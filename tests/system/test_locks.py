"""Claims of names between processes."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from vtag.engine.system.locks import ClaimFile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it removes no open file")


def close_slowly(path: Path, barrier: Barrier) -> None:
    """Open the claim file and close it, with a rest before the system hears that it is closed."""
    file = ClaimFile(path)
    barrier.wait(60)  # both have it
    close = os.close

    def rest(descriptor: int) -> None:
        barrier.wait(60)  # the other begins to close it
        barrier.wait(60)  # the other has closed it
        close(descriptor)

    os.close = rest
    file.close()


def test_the_last_of_two_that_close_a_claim_file_together_removes_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    path, barrier = tmp_path / "library.db.scans", context.Barrier(2)
    other = context.Process(target=close_slowly, args=(path, barrier))
    other.start()
    file = ClaimFile(path)
    barrier.wait(60)
    barrier.wait(60)
    file.close()
    barrier.wait(60)
    other.join(60)
    assert other.exitcode == 0
    assert not path.exists()
