"""Whatever date a file system tells of a file: it is scanned, found and shown, and stops nothing."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from helpers.footage import make_video
from helpers.library_factory import fill_library
from helpers.small_model import make_model
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from vtag.app.ui.routes import media_routes
from vtag.engine.library.analysis.history import history
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search.moments import search
from vtag.engine.library.store import files
from vtag.engine.library.store.file_stat import date_of, file_stat
from vtag.engine.video.write.picture_cache import PictureCache
from vtag.engine.video.write.render_pool import RenderPool

Vtag = Callable[..., subprocess.CompletedProcess[str]]

# seconds since 1970: the zero of NTFS, of HFS+, one before 1970, 2300, year 9999 and beyond what datetime knows
DATES = [-11644473600, -2082844800, -1, 10413792000, 253402300799, 253402300800, 2**55, -(2**55)]


def dated(file: Path, seconds: int) -> None:
    """Give a file a date; the test is skipped if its file system cannot keep it."""
    os.utime(file, (seconds, seconds))
    if file.stat().st_mtime_ns != seconds * 10**9:
        pytest.skip(f"this file system cannot keep {seconds} s")


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder in memory, where a file may have any date."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no file system in memory")
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="vtag-test-") as folder:
        yield Path(folder)


def dated_video(library: LibraryWriter, folder: Path, seconds: int) -> int:
    """A library of one video of this date, with moments; the video's content id."""
    fill_library(library, folder, 1)
    dated(folder / "0.mp4", seconds)
    return files.register_file(library, os.fsencode(folder / "0.mp4"))


@pytest.mark.parametrize("seconds", [DATES[0], 2**55])
def test_a_file_of_any_date_is_scanned_beside_others(vtag: Vtag, in_memory: Path, seconds: int) -> None:
    model = make_model(in_memory / "model")
    for number, name in enumerate(("a.mp4", "b.mp4")):
        make_video(in_memory / name, seconds=1, seed=number, width=64, height=48)
    dated(in_memory / "a.mp4", seconds)
    for scanned in ("2 videos to look at", "2 known and unchanged"):
        done = vtag("scan", in_memory, "--model", model, "--threshold", "0.01")
        assert done.returncode == 0 and scanned in done.stderr, done.stderr
    assert vtag("stats", "--json").returncode == 0


@pytest.mark.parametrize("seconds", DATES)
def test_a_video_of_any_date_is_searched_and_drawn_over_time(
    library: LibraryWriter, in_memory: Path, seconds: int
) -> None:
    content = dated_video(library, in_memory, seconds)
    assert files.register_file(library, os.fsencode(in_memory / "0.mp4")) == content
    annotation_log.add(library, content, "wave")
    for query in ("wave", "wave after:1900", "wave before:2100", "wave after:2299-12-31 before:2300-01-03"):
        search(library.connection, query, sort="date")
    drawn = history(library.connection, "wave")
    years = {-2082844800: {"1903", "1904"}, -1: {"1969", "1970"}}.get(seconds, set())  # by the zone
    assert {period[:4] for period in drawn.periods} <= years
    assert (len(drawn.periods), drawn.undated) == ((1, 0) if years else (0, 1))


@pytest.mark.parametrize("seconds", DATES)
def test_a_video_of_any_date_is_played_by_the_page(
    library: LibraryWriter, in_memory: Path, seconds: int
) -> None:
    content = dated_video(library, in_memory, seconds)
    files.add_roots(library, [os.fsencode(in_memory)])
    app = Starlette(routes=media_routes(library.path, PictureCache(in_memory / "cache", RenderPool(1))))
    with TestClient(app) as client:
        assert client.get(f"/media/{content}").content == (in_memory / "0.mp4").read_bytes()


@given(st.integers(), st.integers(), st.integers())
def test_whatever_is_told_of_a_file_can_be_kept(size: int, mtime_ns: int, inode: int) -> None:
    told = SimpleNamespace(st_size=size, st_mtime_ns=mtime_ns, st_ino=inode)
    kept = file_stat(cast(os.stat_result, told))
    assert all(-(2**63) <= number < 2**63 for number in kept)
    assert date_of(kept.mtime_ns) is None or kept.mtime_ns == mtime_ns
