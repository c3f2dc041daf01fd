"""Disks that are full, read-only, shared or slow, clocks that go back, folders that vanish, permissions that lack."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from helpers.disks import mounted, remount, share, small_disk
from helpers.footage import make_video
from helpers.undisturbed import Outcome, integrity, read_outcome, start_vtag
from helpers.zygote import Ran, Zygote

from vtag.engine.library.database import LibraryWriter
from vtag.engine.video.decode.messages import ProbeRequest, VideoProbed
from vtag.engine.video.decode.pool import DecodePool

pytestmark = pytest.mark.reliability
PART = "Surroundings"
SCAN = ("--threshold", "0.05", "--precision", "fp32")
WITHOUT_ROOT = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


def wait_for_rows(library: Path, sql: str) -> None:
    """Wait until a query of a library, which may not be there yet, has a row."""
    for _ in range(1200):
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"{library.as_uri()}?mode=ro", uri=True)) as db:
            if db.execute(sql).fetchone():
                return
        time.sleep(0.05)
    raise AssertionError(f"no row in a minute: {sql}")


def wait_until_asked(pid: int) -> None:
    """Wait until a thread of a process waits for an answer of a FUSE server."""
    for _ in range(1200):
        with suppress(OSError):
            if any(
                task.read_text() == "request_wait_answer"
                for task in Path(f"/proc/{pid}/task").glob("*/wchan")
            ):
                return
        time.sleep(0.05)
    raise AssertionError("it asked nothing in a minute")


def one_line(ran: Ran, *parts: str) -> None:
    """Hold that a command failed with one line that has these parts."""
    lines = [line for line in ran.stderr.splitlines() if line.startswith("vtag: ")]
    assert ran.returncode == 1 and len(lines) == 1, ran.stderr
    assert all(part in lines[0] for part in parts), lines
    assert "Traceback" not in ran.stderr


def test_a_full_disk(
    videos: Path,
    model: Path,
    zygote: Zygote,
    undisturbed: Outcome,
    tmp_path: Path,
    is_long: bool,
    record: Callable,
) -> None:
    sizes = range(100, 560, 20) if is_long else (260, 420)
    refused = 0
    for size_kb in sizes:
        with small_disk(tmp_path / f"disk{size_kb}", f"{size_kb}k") as disk:
            library = disk / "library.db"
            ran = zygote.run(
                "scan", videos, "--model", model, *SCAN, "--db", library, VTAG_HOME=str(tmp_path / "home")
            )
            assert "Traceback" not in ran.stderr and "unexpected" not in ran.stderr, ran.stderr
            if ran.returncode == 1:
                refused += 1
                one_line(ran, "is full")
            remount(disk, "size=50m")
            again = zygote.run(
                "scan", videos, "--model", model, *SCAN, "--db", library, VTAG_HOME=str(tmp_path / "home")
            )
            assert again.returncode == 0, again.stderr
            assert undisturbed.differences(read_outcome(library)) == []
            assert set(integrity(library)) == {"ok"}
    assert refused
    record(
        PART,
        "a scan onto a disk that fills up",
        len(sizes),
        f"{refused} said that it is full; with room, the same result",
    )


def test_a_full_disk_under_other_commands(
    videos: Path, model: Path, zygote: Zygote, tmp_path: Path, record: Callable
) -> None:
    library = tmp_path / "library.db"
    assert zygote.run("scan", videos, "--model", model, *SCAN, "--db", library).returncode == 0
    commands = {
        "export": ("export", "archery OR yoga", "--format", "json", "-o", "out.json", "--db", library),
        "cut": ("cut", "archery OR yoga", "-o", "clips", "--db", library),
        "backup": ("library", "backup", "backup.db", "--db", library),
        "words": ("words", "export", "words.jsonl", "--db", library),
    }
    for name, command in commands.items():
        with small_disk(tmp_path / f"disk-{name}", "4k") as disk:
            (disk / "filler").write_bytes(b"x" * 4096)
            places = ("out.json", "clips", "backup.db", "words.jsonl")
            ran = zygote.run(*(disk / part if part in places else part for part in command))
            assert ran.returncode in (0, 1, 3) and "Traceback" not in ran.stderr, ran.stderr
            assert "unexpected" not in ran.stderr, ran.stderr
            left = [path.name for path in disk.rglob("*") if path.is_file() and path.name != "filler"]
            assert (
                all(".part" in file or (disk / file).stat().st_size == 0 for file in left)
                or ran.returncode == 0
            )
    record(
        PART,
        "export, cut, backup and words onto a full disk",
        len(commands),
        "each said so in one line; no torn file",
    )


def test_a_read_only_disk(
    videos: Path, model: Path, zygote: Zygote, tmp_path: Path, record: Callable
) -> None:
    with small_disk(tmp_path / "disk", "20m") as disk:
        library = disk / "library.db"
        assert zygote.run("scan", videos, "--model", model, *SCAN, "--db", library).returncode == 0
        found = zygote.run("search", "archery", "--json", "--db", library).stdout
        remount(disk, "ro")
        assert zygote.run("search", "archery", "--json", "--db", library).stdout == found
        assert zygote.run("library", "check", "--db", library).returncode in (0, 1)
        for command in (
            ("scan", videos, "--model", model),
            ("tag", "confirm", "1"),
            ("retag",),
            ("tag", "undo"),
        ):
            one_line(zygote.run(*command, "--db", library), "cannot be written")
    record(PART, "a library on a read-only disk", 6, "searches work; what writes says that it cannot")


def test_a_disk_without_shared_memory(
    videos: Path, model: Path, zygote: Zygote, undisturbed: Outcome, tmp_path: Path, record: Callable
) -> None:
    """As on some network shares: SQLite cannot have a write-ahead log there. Also one that comes with the file."""
    ready = tmp_path / "ready" / "library.db"
    assert zygote.run("scan", videos, "--model", model, *SCAN, "--db", ready).returncode == 0
    (tmp_path / "source").mkdir()
    for file in ready.parent.iterdir():
        shutil.copy(file, tmp_path / "source")
    with share(tmp_path / "share", tmp_path / "source"):
        moved = tmp_path / "share" / "library.db"
        assert zygote.run("search", "archery", "--json", "--db", moved).returncode == 0
        new = tmp_path / "share" / "new" / "library.db"
        both = [start_vtag("scan", videos, "--model", model, *SCAN, "--db", new) for _ in range(2)]
        for process in both:
            _, stderr = process.communicate(timeout=240)
            assert process.returncode == 0, stderr
        for library in (moved, new):
            assert undisturbed.differences(read_outcome(library)) == []
            assert zygote.run("retag", "--db", library).returncode == 0
            assert set(integrity(library)) == {"ok"}
    record(
        PART,
        "a library on a disk that cannot have a write-ahead log",
        2,
        "a rollback journal takes its place; two scans share",
    )


def test_a_share_that_stalls(
    videos: Path, model: Path, zygote: Zygote, undisturbed: Outcome, tmp_path: Path, record: Callable
) -> None:
    """The videos' share stops answering in the middle of a scan, and goes on after a while."""
    shutil.copytree(videos, tmp_path / "source")
    with share(tmp_path / "share", tmp_path / "source", "ro,attr_timeout=0,entry_timeout=0") as server:
        library = tmp_path / "library.db"
        server.send_signal(signal.SIGSTOP)
        scan = start_vtag("scan", tmp_path / "share", "--model", model, *SCAN, "--db", library)
        wait_until_asked(scan.pid)
        time.sleep(1.5)  # it waits for an answer for a second
        server.send_signal(signal.SIGCONT)
        wait_for_rows(library, "SELECT 1 FROM segments")
        server.send_signal(signal.SIGSTOP)
        searching = start_vtag("search", "path:*", "--db", library)
        cleaning = start_vtag("clean", "--yes", "--db", library)
        found, warnings = searching.communicate(timeout=60)
        assert searching.returncode == 0 and "not there now" in found, found
        assert "does not answer" in warnings
        _, stderr = cleaning.communicate(timeout=60)
        assert cleaning.returncode == 0, stderr
        server.send_signal(signal.SIGCONT)
        _, stderr = scan.communicate(timeout=240)
        assert scan.returncode == 0, stderr
        assert f"the disk or share at {tmp_path / 'share'} does not answer" in stderr
        assert "not there now" not in zygote.run("search", "path:*", "--db", library).stdout
    features = read_outcome(library).features
    assert features.keys() == undisturbed.features.keys()
    record(
        PART,
        "the videos' share stalls during a scan",
        1,
        "the scan waits, and goes on with it; searches go on",
    )


def test_a_stall_is_not_the_decoders_fault(tmp_path: Path, record: Callable) -> None:
    """A decoder that gets no bytes makes no progress, and is not given up for it."""
    (tmp_path / "source").mkdir()
    video = make_video(tmp_path / "source" / "a.mp4", seconds=6, fps=4, width=64, height=48, seed=1)
    with (
        share(tmp_path / "share", tmp_path / "source", "ro,attr_timeout=0,entry_timeout=0") as server,
        DecodePool(1, 2 * 32 * 224 * 224 * 3, stall_s=2.0) as pool,
    ):
        server.send_signal(signal.SIGSTOP)
        pool.submit(1, ProbeRequest(os.fsencode(tmp_path / "share" / video.name)))
        assert pool.next_event(6.0) is None
        server.send_signal(signal.SIGCONT)
        event = pool.next_event(60.0)
        assert isinstance(event, VideoProbed) and event.job_id == 1, event
    record(PART, "a share that stalls for longer than a decoder may hang", 1, "its video is not given up")


def test_a_holder_of_the_lock_that_stalls(
    videos: Path, model: Path, zygote: Zygote, tmp_path: Path, is_long: bool, record: Callable
) -> None:
    library = tmp_path / "library.db"
    assert zygote.run("scan", videos, "--model", model, *SCAN, "--db", library).returncode == 0
    code = f"import sqlite3, time; c = sqlite3.connect({str(library)!r}, isolation_level=None); "
    code += "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    holder.send_signal(signal.SIGSTOP)
    try:
        assert zygote.run("search", "archery", "--db", library).returncode == 0
        if is_long:  # half a minute is waited for it
            one_line(zygote.run("tag", "confirm", "1", "--db", library), "in use by another program")
    finally:
        holder.kill()
        holder.wait()
    assert zygote.run("tag", "confirm", "1", "--db", library).returncode == 0
    record(
        PART,
        "a program stalls while it writes to the library",
        1,
        "searches go on; a tag waits, then says who to wait for",
    )


def test_a_clock_that_goes_back(
    videos: Path, model: Path, zygote: Zygote, tmp_path: Path, record: Callable
) -> None:
    """What was said later counts, though its clock says earlier."""
    if not shutil.which("faketime"):
        pytest.skip("no faketime here")
    library = tmp_path / "library.db"
    command = [sys.executable, "-m", "vtag.app"]

    def at(when: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                "faketime",
                "--exclude-monotonic",
                "-f",
                when,
                *command,
                *map(str, arguments),
                "--db",
                str(library),
            ],
            capture_output=True,
            text=True,
            timeout=100,
        )

    assert zygote.run("scan", videos, "--model", model, *SCAN, "--db", library).returncode == 0
    for day, arguments in (
        ("+0d", ("tag", "confirm", "1")),
        ("-400d", ("tag", "reject", "1")),
        ("-800d", ("retag",)),
    ):
        ran = at(day, *arguments)
        assert ran.returncode == 0, ran.stderr
    again = zygote.run("scan", videos, "--force", "--model", model, *SCAN, "--db", library)
    assert again.returncode == 0, again.stderr
    outcome = read_outcome(library)
    assert [row[4] for row in outcome.rows["words"]] == ["rejected"]
    assert zygote.run("tag", "undo", "--db", library).returncode == 0
    assert [row[4] for row in read_outcome(library).rows["words"]] == ["confirmed"]
    record(
        PART,
        "a clock that goes back by years between commands",
        4,
        "the last thing said counts, and is undone first",
    )


def test_a_folder_that_vanishes_during_a_scan(
    model: Path, zygote: Zygote, tmp_path: Path, times: Callable, record: Callable
) -> None:
    rounds = times(1, 10)
    for number in range(rounds):
        folder = tmp_path / str(number)
        for seed in range(6):
            (folder / "v" / f"{seed % 2}").mkdir(parents=True, exist_ok=True)
            make_video(
                folder / "v" / f"{seed % 2}" / f"{seed}.mp4",
                seconds=20,
                fps=2,
                width=64,
                height=48,
                seed=seed,
            )
        library = folder / "library.db"
        arguments = ("scan", folder / "v", "--model", model, *SCAN, "--stride", "0.3", "--db", library)
        scan = start_vtag(*arguments)
        time.sleep(3 + 0.3 * number)
        (folder / "v").rename(folder / "away")
        _, stderr = scan.communicate(timeout=240)
        assert scan.returncode in (0, 1, 3) and "Traceback" not in stderr and "unexpected" not in stderr, (
            stderr
        )
        (folder / "away").rename(folder / "v")
        again = zygote.run(*arguments)
        assert again.returncode == 0, again.stderr
        assert len(read_outcome(library).features) == 6
        assert not any(
            row[8] for row in read_outcome(library).rows["contents"]
        )  # no video is known as unreadable
    record(
        PART,
        "the folder vanishes during a scan",
        rounds,
        "what was read is kept; when it is back, the rest is scanned",
    )


def test_permissions_that_lack(model: Path, zygote: Zygote, tmp_path: Path, record: Callable) -> None:
    """As root without the right to ignore them."""
    if not shutil.which("setpriv") or os.geteuid():
        pytest.skip("only root can give up rights here")
    folder = tmp_path / "v"
    for name in ("open", "closed"):
        (folder / name).mkdir(parents=True)
        make_video(folder / name / "a.mp4", seconds=2, fps=4, width=64, height=48, seed=len(name))
    make_video(folder / "secret.mp4", seconds=2, fps=4, width=64, height=48, seed=3)
    (folder / "secret.mp4").chmod(0)
    (folder / "closed").chmod(0)
    library = tmp_path / "library.db"
    command = [
        *WITHOUT_ROOT,
        sys.executable,
        "-m",
        "vtag.app",
        "scan",
        folder,
        "--model",
        model,
        "--db",
        library,
    ]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 3, ran.stderr
    assert ran.stderr.count("Permission denied") == 2, ran.stderr
    (folder / "secret.mp4").chmod(0o600)
    (folder / "closed").chmod(0o700)
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert len(read_outcome(library).features) == 3
    record(
        PART,
        "a file and a folder that must not be read",
        2,
        "both are named; with permission, they are scanned",
    )


def test_a_second_connection_keeps_the_locks_of_the_first(tmp_path: Path) -> None:
    """A process that closes any descriptor of a file loses its locks on it; SQLite's locks guard the log."""
    library = tmp_path / "library.db"
    with LibraryWriter.open(library) as first:
        first.connection.execute("SELECT count(*) FROM files").fetchone()
        LibraryWriter.open(library).close()
        shared = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0x40000002, 510, 0)
        code = "import fcntl, struct, sys; file = open(sys.argv[1], 'r+b'); "
        code += f"print(struct.unpack('hhqqi', fcntl.fcntl(file, fcntl.F_GETLK, {shared!r}))[4])"
        holder = subprocess.run([sys.executable, "-c", code, library], capture_output=True, text=True).stdout
    assert int(holder) == os.getpid()


def test_a_mount_over_the_library(videos: Path, model: Path, zygote: Zygote, tmp_path: Path) -> None:
    """A library whose disk went away is missing, not empty."""
    (tmp_path / "disk").mkdir()
    with mounted(tmp_path / "disk", "mount", "-t", "tmpfs", "none", str(tmp_path / "disk")):
        assert (
            zygote.run("scan", videos, "--model", model, *SCAN, "--db", tmp_path / "disk" / "l.db").returncode
            == 0
        )
    one_line(zygote.run("search", "archery", "--db", tmp_path / "disk" / "l.db"), "no library")
