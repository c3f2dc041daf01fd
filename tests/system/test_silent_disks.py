"""What happens when a file system stops answering: who waits, for how long, and what is said."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vtag.engine.system.silent_disks import ask_in_time, describe_error, exists_in_time

ELSEWHERE = b"/proc/self/stat"  # on another file system than temporary folders


@pytest.fixture
def silent_path(tmp_path: Path) -> Iterator[tuple[bytes, threading.Event]]:
    """A path whose file system has not answered a question, which the event lets it answer."""
    path, answer = os.fsencode(tmp_path / "video.mp4"), threading.Event()
    with pytest.raises(TimeoutError, match="does not answer"):
        ask_in_time(lambda _: answer.wait(60), path, limit_s=0.2)
    yield path, answer
    answer.set()
    wait_until_it_answers(path)


def wait_until_it_answers(path: bytes) -> None:
    """Wait until the file system of a path answers again."""
    for _ in range(1000):
        try:
            ask_in_time(os.path.lexists, path)
        except TimeoutError:
            time.sleep(0.01)
        else:
            return
    raise AssertionError("it stays silent")


def test_an_answer_or_an_error_comes_back(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "a")
    assert not exists_in_time(path)
    with pytest.raises(FileNotFoundError):
        ask_in_time(os.stat, path)
    (tmp_path / "a").write_bytes(b"12")
    assert exists_in_time(path) and ask_in_time(os.stat, path).st_size == 2
    assert not exists_in_time(b"a\0b")


def test_a_silent_file_system_is_waited_for_once(silent_path: tuple[bytes, threading.Event]) -> None:
    path, answer = silent_path
    Path(os.fsdecode(path)).write_bytes(b"")
    start_s = time.monotonic()
    assert not any(exists_in_time(path) for _ in range(200))
    assert time.monotonic() - start_s < 0.9  # less than the wait for one
    answer.set()
    wait_until_it_answers(path)
    assert exists_in_time(path)


@pytest.mark.skipif(not os.path.exists(ELSEWHERE), reason="no other file system here")
@pytest.mark.usefixtures("silent_path")
def test_other_file_systems_answer_meanwhile() -> None:
    assert exists_in_time(ELSEWHERE)


@pytest.mark.skipif(not os.path.exists(ELSEWHERE), reason="no table of mounts here")
def test_the_folder_of_a_mount_is_on_what_is_mounted(caplog: pytest.LogCaptureFixture) -> None:
    """And a warning names it."""
    answer = threading.Event()
    with pytest.raises(TimeoutError):
        ask_in_time(lambda _: answer.wait(60), b"/proc", limit_s=0.2)
    assert not exists_in_time(ELSEWHERE) and exists_in_time(b"/")
    assert [record.getMessage() for record in caplog.records] == [
        "the disk or share at /proc does not answer"
    ]
    answer.set()
    wait_until_it_answers(ELSEWHERE)


def test_a_disk_that_needs_a_while_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As one that sleeps; a line says so."""
    assert ask_in_time(lambda _: time.sleep(1.3) or 7, os.fsencode(tmp_path)) == 7
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("waiting for the disk or share at /")


def test_many_threads_ask_at_the_same_time(tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(40)]
    for file in files[::2]:
        file.write_bytes(b"")
    found: dict[int, list[bool]] = {}

    def ask(number: int) -> None:
        found[number] = [exists_in_time(os.fsencode(file)) for file in files]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [[True, False] * 20] * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_asks_with_threads_of_its_own(tmp_path: Path) -> None:
    assert exists_in_time(os.fsencode(tmp_path))
    child = os.fork()
    if not child:
        os._exit(0 if exists_in_time(os.fsencode(tmp_path)) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_an_error_of_a_lost_disk_names_the_disk() -> None:
    for code in (errno.ENOTCONN, errno.EIO, errno.ESTALE):
        error = OSError(code, os.strerror(code))
        said = describe_error(error, ELSEWHERE)
        assert said == f"the disk or share at /proc does not answer ({os.strerror(code)})"
    missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    assert describe_error(missing, ELSEWHERE) == os.strerror(errno.ENOENT)
