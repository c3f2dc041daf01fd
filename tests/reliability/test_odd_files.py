"""Files that are no sound videos go through the whole scan: no crash, no hang, no row lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from helpers.file_reads import ReadWatch
from helpers.footage import make_video
from helpers.mutants import mutate
from helpers.undisturbed import integrity, read_outcome, run_vtag
from helpers.warm_process import WarmProcess
from helpers.zygote import Zygote

from vtag.engine.library.database import open_reader
from vtag.engine.scan.discover import EXTENSIONS

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(0)]
PART = "Videos"
SCAN = ("--threshold", "0.05", "--precision", "fp32")
BATCH = 100
LONGEST_SEED_BYTES = 800_000


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Small videos of many containers and codecs, to mutate."""
    folder = tmp_path_factory.mktemp("seeds")
    made = [
        ("a.mp4", {}),
        ("b.mkv", {"codec": "libvpx-vp9"}),
        ("c.avi", {"codec": "mpeg4"}),
        ("d.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
        ("e.ts", {"codec": "mpeg2video", "fps": 25}),
        ("f.mp4", {"codec": "libx265"}),
        ("g.webm", {"codec": "libvpx"}),
        ("h.flv", {"codec": "flv"}),
    ]
    for number, (name, options) in enumerate(made):
        make_video(
            folder / name, **{"seconds": 2, "fps": 8, "width": 64, "height": 48, "seed": number, **options}
        )
    return sorted(folder.iterdir())


def fates(library: Path) -> dict[bytes, str]:
    """Of each file that the library knows: "scanned", or why it cannot be read."""
    with closing(open_reader(library)) as reader:
        rows = reader.execute(
            "SELECT f.path, c.error, EXISTS (SELECT 1 FROM derivations d WHERE d.content_id = c.id) "
            "FROM files f JOIN contents c ON c.id = f.content_id"
        ).fetchall()
    return {
        os.path.basename(path): error or ("scanned" if is_scanned else "nothing")
        for path, error, is_scanned in rows
    }


def test_mutated_videos(
    seeds: list[Path],
    model: Path,
    zygote: Zygote,
    tmp_path: Path,
    times: Callable,
    record: Callable,
    is_long: bool,
) -> None:
    count = times(100, 2000)
    shared = Path(os.environ.get("VTAG_SHARED", Path(__file__).parents[3] / "shared"))
    if is_long and shared.is_dir():
        seeds = seeds + [
            path
            for folder in ("awkward", "clips")
            for path in sorted((shared / folder).rglob("*"))
            if path.suffix.lower().encode() in EXTENSIONS and 0 < path.stat().st_size < LONGEST_SEED_BYTES
        ]
    total: Counter[str] = Counter()
    slowest_s = 0.0
    for first in range(0, count, BATCH):
        folder = tmp_path / "batch"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "v").mkdir(parents=True)
        for number in range(first, min(first + BATCH, count)):
            seed = seeds[number % len(seeds)]
            (folder / "v" / f"{number}{seed.suffix}").write_bytes(mutate(seed.read_bytes(), number))
        library = folder / "library.db"
        started = time.monotonic()
        ran = zygote.run("scan", folder / "v", "--model", model, *SCAN, "--json", "--db", library)
        slowest_s = max(slowest_s, time.monotonic() - started)
        assert ran.returncode in (0, 3), ran.stderr[-2000:]
        assert "Traceback" not in ran.stderr and "unexpected" not in ran.stderr, ran.stderr[-2000:]
        found = fates(library)
        missing = {os.fsencode(path.name) for path in (folder / "v").iterdir()} - found.keys()
        assert all(b".ts" in name for name in missing), (
            missing
        )  # one that is none any more is taken for TypeScript
        assert "nothing" not in found.values()
        assert set(integrity(library)) == {"ok"}
        total.update("scanned" if fate == "scanned" else "refused" for fate in found.values())
        total["left out"] += len(missing)
        crashes = sum("crashed" in fate or "no progress" in fate for fate in found.values())
        total["lost with their decoder"] += crashes
        again = zygote.run("scan", folder / "v", "--model", model, *SCAN, "--json", "--db", library)
        assert again.returncode == 0 and '"scanned": 0' in again.stdout, again.stderr
    record(
        PART,
        "mutated videos: flipped bits, cut ends, moved boxes, absurd sizes",
        count,
        ", ".join(f"{number:,} {name}" for name, number in sorted(total.items()))
        + "; no scan crashed, hung or lost a row",
    )


def test_files_that_are_no_files(model: Path, zygote: Zygote, tmp_path: Path, record: Callable) -> None:
    videos = tmp_path / "v"
    videos.mkdir()
    make_video(videos / "a.mp4", seconds=2, fps=4, width=64, height=48)
    os.link(videos / "a.mp4", videos / "hard.mp4")
    (videos / "loop").symlink_to(videos, target_is_directory=True)
    (videos / "self.mp4").symlink_to(videos / "self.mp4")
    (videos / "dangling.mp4").symlink_to(videos / "nowhere.mp4")
    os.mkfifo(videos / "pipe.mp4")
    (videos / "device.mp4").symlink_to("/dev/zero")
    (videos / "folder.mp4").mkdir()
    (videos / "empty.mp4").touch()
    with open(videos / "sparse.mp4", "wb") as file:
        file.truncate(3_000_000_000)
    library = tmp_path / "library.db"
    ran = zygote.run("scan", videos, "--model", model, *SCAN, "--json", "--db", library)
    assert ran.returncode == 3 and "Traceback" not in ran.stderr, ran.stderr
    assert {name: fate == "scanned" for name, fate in fates(library).items()} == {
        b"a.mp4": True,
        b"hard.mp4": True,
        b"empty.mp4": False,
        b"sparse.mp4": False,
    }
    for name in ("pipe.mp4", "device.mp4", "self.mp4", "dangling.mp4"):  # named, they are refused at once
        one = zygote.run("scan", videos / name, "--model", model, "--db", library)
        assert one.returncode == 1 and len(one.stderr.splitlines()) == 1, one.stderr
    record(
        PART,
        "a named pipe, a device, links in a circle, a hard link, an empty file, a sparse one of 3 GB",
        9,
        "none is waited for; the links count once",
    )


def disturb(
    scan: WarmProcess, grown: Path, data: bytes, replaced: Path, other: Path, at_read: int
) -> subprocess.CompletedProcess[str]:
    """Add a part of `data` to a file after each read of it, and replace another at one of its reads."""
    size = grown.stat().st_size
    with ReadWatch(grown) as grown_reads, ReadWatch(replaced) as replaced_reads:
        while scan.poll() is None:
            if grown_reads.was_read(0.005) and grown.stat().st_size < len(data):
                append(grown, data, size)
            at_read -= replaced_reads.was_read(0.005)
            if at_read == 0 and other.exists():
                os.replace(other, replaced)
    assert grown.stat().st_size > size and not other.exists(), (
        "the scan was over before: it needs longer footage"
    )
    append(grown, data, len(data))
    assert scan.returncode is not None
    return subprocess.CompletedProcess("vtag", scan.returncode, *scan.communicate())


def append(file: Path, data: bytes, size: int) -> None:
    """Let a file have so many bytes more of `data`, which it begins with."""
    begin = file.stat().st_size
    with open(file, "ab") as out:
        out.write(data[begin : begin + size])


def test_a_file_that_grows_and_one_that_is_replaced(
    model: Path, tmp_path: Path, times: Callable, record: Callable
) -> None:
    """Whatever the scan saw of them, the next one has all of what is there in the end."""
    rounds = times(2, 20)
    for number in range(rounds):
        folder = tmp_path / str(number)
        (folder / "v").mkdir(parents=True)
        whole = make_video(
            folder / "whole.ts", seconds=30, fps=8, width=64, height=48, codec="mpeg2video", seed=1
        )
        other = make_video(folder / "other.mp4", seconds=20, fps=4, width=64, height=48, seed=2)
        make_video(folder / "v" / "replaced.mp4", seconds=60, fps=4, width=64, height=48, seed=3)
        data, grown = whole.read_bytes(), folder / "v" / "grown.ts"
        grown.write_bytes(data[: len(data) // 8])
        library = folder / "library.db"
        arguments = ("scan", folder / "v", "--model", model, *SCAN, "--stride", "0.3", "--db", library)
        ran = disturb(
            WarmProcess(*arguments), grown, data, folder / "v" / "replaced.mp4", other, 1 + number % 2
        )
        assert ran.returncode in (0, 3) and "Traceback" not in ran.stderr, ran.stderr
        last = run_vtag(*arguments, "--retry-failed")
        assert last.returncode == 0, last.stderr
        rows = {row[1]: row for row in read_outcome(library).rows["files"] if row[5] == "present"}
        lengths = {row[0]: row[2] for row in read_outcome(library).rows["contents"]}
        durations = {os.path.basename(path): lengths[row[4]] for path, row in rows.items()}
        assert abs(durations[b"grown.ts"] - 30_000) < 500 and abs(durations[b"replaced.mp4"] - 20_000) < 500
        assert grown.stat().st_size == len(data)
    record(
        PART,
        "a file that grows and one that is replaced while they are read",
        rounds,
        "the next scan has them whole",
    )
