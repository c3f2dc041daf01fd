"""The decode pool: several files at once, bounded memory, and crashes that fail only their file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.footage import make_numbered, make_video, read_numbers

from vtag.engine.errors import VideoError
from vtag.engine.video.decode.arena import Arena
from vtag.engine.video.decode.messages import ClipReady, DecodeDone, DecodeEvent, DecodeFailed, WindowsRequest
from vtag.engine.video.decode.pool import DecodePool
from vtag.engine.video.read.reader import read_clips
from vtag.engine.video.read.sampling import Sampling

USUAL = Sampling.create(32, 15.0)
CLIP_BYTES = 32 * 224 * 224 * 3
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")


def until(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # a zombie that nobody waited for yet is dead
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return True


def drain(pool: DecodePool) -> list[DecodeEvent]:
    """All events to the end; clips are released."""
    events: list[DecodeEvent] = []
    for event in pool:
        if isinstance(event, ClipReady):
            event.release()
        events.append(event)
    return events


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [make_numbered(folder / f"{i}.mp4", seconds=3 + 2 * i) for i in range(4)]


@pytest.fixture
def waiting_pool(videos: list[Path]) -> Iterator[tuple[DecodePool, ClipReady]]:
    """A pool with memory for one clip, whose worker waits until the first clip of the video is released."""
    with DecodePool(1, CLIP_BYTES) as pool:
        pool.submit(7, WindowsRequest(videos[2], USUAL))
        clip = pool.next_event()
        assert isinstance(clip, ClipReady)
        until(lambda: any(worker.is_waiting for worker in pool._workers))
        yield pool, clip


def test_the_pool_returns_the_same_clips_as_read_clips(videos: list[Path]) -> None:
    clips_by_job: dict[int, list[tuple[int, int, np.ndarray]]] = {i: [] for i in range(len(videos))}
    done: dict[int, DecodeDone] = {}
    with DecodePool(2, 4 * CLIP_BYTES) as pool:
        for i, path in enumerate(videos):
            pool.submit(i, WindowsRequest(path, USUAL))
        for event in pool:
            if isinstance(event, ClipReady):
                assert event.job_id not in done
                clips_by_job[event.job_id].append((event.start_ms, event.end_ms, event.pixels.copy()))
                event.release()
            else:
                assert isinstance(event, DecodeDone)
                done[event.job_id] = event
        assert pool.used_bytes == 0 and pool.unfinished_count == 0
    for i, path in enumerate(videos):
        reader = read_clips(path, USUAL)
        expected = [(c.start_ms, c.end_ms, c.pixels) for c in reader]
        assert [(s, e) for s, e, _ in clips_by_job[i]] == [(s, e) for s, e, _ in expected]
        assert all(np.array_equal(a[2], b[2]) for a, b in zip(clips_by_job[i], expected, strict=True))
        assert done[i] == DecodeDone(i, reader.info, 0, len(expected), 0, "")


@pytest.mark.parametrize("view", ["full", "three"])
def test_clips_may_have_any_shape(videos: list[Path], view: str) -> None:
    sampling = Sampling.create(16, 15.0, view=view)
    with DecodePool(1, 32 << 20) as pool:
        pool.submit(0, WindowsRequest(videos[0], sampling))
        event = pool.next_event()
        assert isinstance(event, ClipReady)
        assert np.array_equal(event.pixels, next(iter(read_clips(videos[0], sampling))).pixels)


def test_windows_can_be_skipped_or_selected(videos: list[Path]) -> None:
    with DecodePool(2, 4 * CLIP_BYTES) as pool:
        pool.submit(0, WindowsRequest(videos[3], USUAL, {0, 4266}))
        pool.submit(1, WindowsRequest(videos[3], USUAL, only_starts={2133, 6400}))
        events = drain(pool)
    starts = {i: [e.start_ms for e in events if isinstance(e, ClipReady) and e.job_id == i] for i in (0, 1)}
    assert starts == {0: [2133, 6400], 1: [2133, 6400]}


def test_videos_may_be_submitted_while_events_are_taken(videos: list[Path]) -> None:
    with DecodePool(1, 4 * CLIP_BYTES) as pool:
        pool.submit(0, WindowsRequest(videos[0], USUAL))
        done = []
        for event in pool:
            if isinstance(event, ClipReady):
                event.release()
            else:
                done.append(event.job_id)
                if len(done) < 4:
                    pool.submit(len(done), WindowsRequest(videos[len(done)], USUAL))
        assert done == [0, 1, 2, 3]
        assert pool.next_event(0.05) is None


def test_only_files_that_are_no_videos_fail(tmp_path: Path, videos: list[Path]) -> None:
    (tmp_path / "no.mp4").write_bytes(b"nothing of the kind")
    with DecodePool(1, 4 * CLIP_BYTES) as pool:
        for i, path in enumerate((tmp_path / "no.mp4", videos[0], tmp_path, tmp_path / "absent.mp4")):
            pool.submit(i, WindowsRequest(path, USUAL))
        events = drain(pool)
        assert len(pool.pids) == 1
    failed = {e.job_id: e for e in events if isinstance(e, DecodeFailed)}
    assert failed[0] == DecodeFailed(0, "no usable picture (not a video file that vtag reads)")
    assert failed[2].reason == "not a file" and failed[3].reason.startswith("cannot be opened")
    assert [e.job_id for e in events if isinstance(e, DecodeDone)] == [1]


# --- memory -------------------------------------------------------------------------------------------------


def test_finished_clips_never_use_more_than_the_memory_limit(videos: list[Path]) -> None:
    limit = 3 * CLIP_BYTES
    waiting: list[ClipReady] = []
    with DecodePool(3, limit) as pool:
        for i, path in enumerate(videos * 2):
            pool.submit(i, WindowsRequest(path, USUAL))
        for event in pool:
            assert pool.used_bytes <= limit
            if isinstance(event, ClipReady):
                waiting.append(event)
            if len(waiting) == 2:
                waiting.pop(0).release()
        assert [read_numbers(clip.pixels)[1] - read_numbers(clip.pixels)[0] for clip in waiting] == [2]


def test_waiting_for_memory_counts_as_no_stall(
    waiting_pool: tuple[DecodePool, ClipReady],
) -> None:
    pool, clip = waiting_pool
    with pool._lock:
        pool._enforce_limits(pool._workers[0], 1000.0)  # far longer than a worker may make no progress
    assert pool.next_event(0.5) is None
    first = read_numbers(clip.pixels)
    clip.release()
    with pytest.raises(ValueError, match="released"):
        _ = clip.pixels
    clip.release()  # a second time does nothing
    events = drain(pool)
    assert first == list(range(0, 64, 2))
    assert isinstance(events[-1], DecodeDone) and len(events) == 3


def test_a_clip_that_can_never_fit_fails_its_video(videos: list[Path]) -> None:
    with DecodePool(1, CLIP_BYTES // 2) as pool:
        pool.submit(0, WindowsRequest(videos[0], USUAL))
        pool.submit(1, WindowsRequest(videos[0], Sampling.create(8, 15.0)))
        events = drain(pool)
    assert events[0] == DecodeFailed(0, "one clip of it is larger than the memory for clips")
    assert isinstance(events[-1], DecodeDone) and len(events) > 2


def test_ranges_of_the_arena_never_overlap_and_can_all_be_freed() -> None:
    rng = np.random.default_rng(0)
    arena = Arena(1 << 20)
    allocated: dict[int, int] = {}
    for _ in range(3000):
        if allocated and rng.random() < 0.5:
            offset = int(rng.choice(list(allocated)))
            arena.free(offset)
            del allocated[offset]
        else:
            length = int(rng.integers(1, 1 << 18))
            offset_or_none = arena.allocate(length)
            if offset_or_none is not None:
                assert offset_or_none + length <= 1 << 20
                assert all(
                    offset_or_none + length <= o or o + n <= offset_or_none for o, n in allocated.items()
                )
                allocated[offset_or_none] = length
    for offset in allocated:
        arena.free(offset)
    assert arena.used_bytes == 0 and arena.allocate(1 << 20) == 0
    arena.close()


# --- processes that crash, hang, swell --------------------------------------------------------------------


@posix
@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_crash_fails_only_its_file(
    waiting_pool: tuple[DecodePool, ClipReady], videos: list[Path], signal_name: str
) -> None:
    pool, clip = waiting_pool
    (pid,) = pool.pids
    pool.submit(8, WindowsRequest(videos[0], USUAL))
    os.kill(pid, getattr(signal, signal_name))
    event = pool.next_event(180)
    assert event == DecodeFailed(7, f"the decoder crashed on it ({signal_name})", crashed=True)
    assert read_numbers(clip.pixels) == list(range(0, 64, 2))  # what was given out is still there
    clip.release()
    events = drain(pool)
    assert [type(e) for e in events] == [ClipReady, DecodeDone]
    assert pool.used_bytes == 0 and pid not in pool.pids


@posix
def test_a_process_that_hangs_is_killed_and_replaced(
    waiting_pool: tuple[DecodePool, ClipReady], videos: list[Path]
) -> None:
    pool, clip = waiting_pool
    (pid,) = pool.pids
    pool.submit(8, WindowsRequest(videos[0], USUAL))
    usual_s, pool._stall_s = pool._stall_s, 1.0
    os.kill(pid, signal.SIGSTOP)
    clip.release()  # now it could go on
    event = pool.next_event(180)
    pool._stall_s = usual_s  # a second is too little for a sound process on a busy machine
    assert event == DecodeFailed(7, "the decoder made no progress for 1 seconds", crashed=True)
    until(lambda: not exists(pid))
    assert isinstance(drain(pool)[-1], DecodeDone)
    assert pool.used_bytes == 0


@posix
def test_a_video_that_takes_too_long_for_its_duration_fails(
    waiting_pool: tuple[DecodePool, ClipReady],
) -> None:
    pool, clip = waiting_pool
    (worker,) = pool._workers
    assert worker.limit_s == 120 + 10 * 7  # a video of seven seconds
    worker.limit_s = 1.0
    os.kill(worker.process.pid, signal.SIGSTOP)
    clip.release()
    event = pool.next_event(180)
    assert event == DecodeFailed(7, "decoding it took more than 1 seconds", crashed=True)


@posix
def test_a_video_does_not_fail_if_a_worker_died_before_it_started(videos: list[Path]) -> None:
    with DecodePool(1, 4 * CLIP_BYTES) as pool:
        pool.submit(0, WindowsRequest(videos[0], USUAL))
        drain(pool)
        with pool._lock:  # nobody has noticed yet
            os.kill(pool.pids[0], signal.SIGKILL)
            pool.submit(1, WindowsRequest(videos[1], USUAL))
        assert isinstance(drain(pool)[-1], DecodeDone)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_only_the_video_that_needs_too_much_memory_fails(tmp_path: Path, videos: list[Path]) -> None:
    black = np.zeros((3600, 4800, 3), np.uint8)
    big = make_video(tmp_path / "big.mkv", seconds=1, width=4800, height=3600, draw=lambda i: black)
    with DecodePool(1, 4 * CLIP_BYTES, worker_memory_bytes=80 << 20, threads=1) as pool:
        pool.submit(0, WindowsRequest(big, USUAL))
        pool.submit(1, WindowsRequest(videos[0], USUAL))
        events = drain(pool)
    assert events[0] == DecodeFailed(0, "decoding it needs more than 80 MB of memory", crashed=True)
    assert isinstance(events[-1], DecodeDone)
    with DecodePool(1, 4 * CLIP_BYTES, threads=1) as pool:
        pool.submit(0, WindowsRequest(big, USUAL))
        assert isinstance(drain(pool)[-1], DecodeDone)  # it is not broken, only big


@posix
def test_an_idle_worker_that_dies_is_replaced_when_it_is_needed(videos: list[Path]) -> None:
    with DecodePool(1, 4 * CLIP_BYTES) as pool:
        pool.submit(0, WindowsRequest(videos[0], USUAL))
        drain(pool)
        os.kill(pool.pids[0], signal.SIGKILL)
        until(lambda: not pool.pids)
        pool.submit(1, WindowsRequest(videos[1], USUAL))
        assert isinstance(drain(pool)[-1], DecodeDone)


@posix
def test_a_named_pipe_fails_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with DecodePool(1, 4 * CLIP_BYTES) as pool:
        pool.submit(0, WindowsRequest(tmp_path / "pipe.mp4", USUAL))
        assert drain(pool) == [DecodeFailed(0, "not a file")]


def test_an_error_is_raised_if_no_process_starts(videos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nowhere")  # no interpreter starts with that
    with DecodePool(1, CLIP_BYTES) as pool:
        pool.submit(0, WindowsRequest(videos[0], USUAL))
        with pytest.raises(VideoError, match="no decoding process starts"):
            drain(pool)


def _damage(data: bytes, rng: np.random.Generator) -> bytes:
    """`data` cut off, overwritten in one place, or with some bytes changed, anywhere or in the header."""
    damaged = bytearray(data)
    kind = rng.integers(4)
    if kind == 0:
        del damaged[rng.integers(1, len(damaged)) :]
    elif kind == 1:
        offset, length = int(rng.integers(len(damaged))), int(rng.integers(1, 2000))
        damaged[offset : offset + length] = rng.bytes(min(length, len(damaged) - offset))
    else:
        reach = len(damaged) if kind == 2 else min(1500, len(damaged))
        for offset in rng.integers(0, reach, rng.integers(1, 30)):
            damaged[offset] = rng.integers(256)
    return bytes(damaged)


def test_every_damaged_file_gives_clips_or_a_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codecs = {
        "mp4": "libx264",
        "mkv": "libx264",
        "ts": "libx264",
        "avi": "mpeg4",
        "mpg": "mpeg2video",
        "mov": "libx265",
    }
    sound = {
        ending: make_numbered(
            tmp_path / f"sound.{ending}", seconds=3, codec=codec, options={"g": "15"}
        ).read_bytes()
        for ending, codec in codecs.items()
    }
    clips: dict[int, int] = {}
    with DecodePool(2, 8 * CLIP_BYTES, worker_memory_bytes=1 << 30) as pool:
        for job in range(240):
            ending = list(codecs)[job % len(codecs)]
            path = tmp_path / f"{job}.{ending}"
            path.write_bytes(_damage(sound[ending], rng))
            pool.submit(job, WindowsRequest(path, USUAL))
        for event in pool:
            if isinstance(event, ClipReady):
                clips[event.job_id] = clips.get(event.job_id, 0) + 1
                event.release()
            elif isinstance(event, DecodeDone):
                assert clips[event.job_id] == event.clips > 0
            else:
                assert "unexpected" not in event.reason, event
                assert not event.crashed or "memory" in event.reason, event
        assert pool.used_bytes == 0
    assert len(clips) > 150  # most can still be read


# --- the end --------------------------------------------------------------------------------------------------


@posix
def test_closing_in_the_middle_ends_all_processes_and_leaves_no_memory(videos: list[Path]) -> None:
    shm = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    with DecodePool(3, 4 * CLIP_BYTES) as pool:
        for i in range(12):
            pool.submit(i, WindowsRequest(videos[i % 4], USUAL))
        clip = pool.next_event()
        until(lambda: len(pool.pids) == 3)
        pids = pool.pids
        os.kill(pids[-1], signal.SIGSTOP)  # one of them cannot even hear us
        start_s = time.monotonic()
    assert time.monotonic() - start_s < 120
    assert not any(exists(pid) for pid in pids)
    assert isinstance(clip, ClipReady) and clip.pixels.shape == (
        1,
        32,
        224,
        224,
        3,
    )  # no crash for who still looks
    clip.release()
    pool.close()
    with pytest.raises(ValueError, match="closed"):
        pool.submit(0, WindowsRequest(videos[0], USUAL))
    assert pool.next_event(0.1) is None or True
    if shm:
        assert set(os.listdir("/dev/shm")) - shm == set()


_SCRIPT = """
import sys, time
from pathlib import Path
with open(sys.argv[1], "a") as log:  # runs again if a worker imports us
    log.write("run\\n")
from vtag.engine.video.decode.messages import ClipReady, WindowsRequest
from vtag.engine.video.decode.pool import DecodePool
from vtag.engine.video.read.sampling import Sampling

pool = DecodePool(2, 2 * 32 * 224 * 224 * 3, stall_s=5.0)
with pool:
    for i, path in enumerate(sys.argv[3:]):
        pool.submit(i, WindowsRequest(path, Sampling.create(32, 15.0)))
    while len(pool.pids) < 2 or not all(w.is_ready for w in pool._workers):
        time.sleep(0.01)
    print(*pool.pids, flush=True)
    if sys.argv[2] == "hold":
        time.sleep(1000)
    for event in pool:
        if isinstance(event, ClipReady):
            time.sleep(0.05)
            event.release()
        else:
            print(type(event).__name__, flush=True)
"""


def _start_program(tmp_path: Path, mode: str, videos: list[Path]) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a program without a `__main__` guard that uses a pool; its process, and the ids of its workers."""
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(_SCRIPT))
    command = [sys.executable, str(script), str(tmp_path / "log"), mode, *map(str, videos)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    return process, [int(pid) for pid in process.stdout.readline().split()]


@posix
def test_the_callers_main_program_does_not_run_again(tmp_path: Path, videos: list[Path]) -> None:
    process, pids = _start_program(tmp_path, "run", videos)
    out, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    assert out.split() == ["DecodeDone"] * 4 and errors == ""
    assert (tmp_path / "log").read_text() == "run\n"
    assert not any(exists(pid) for pid in pids)


@posix
def test_workers_end_if_the_parent_is_killed(tmp_path: Path, videos: list[Path]) -> None:
    process, pids = _start_program(tmp_path, "hold", videos)
    assert len(pids) == 2 and all(exists(pid) for pid in pids)
    process.kill()
    process.communicate()
    until(lambda: not any(exists(pid) for pid in pids))


@posix
def test_ctrl_c_ends_everything_within_seconds(tmp_path: Path, videos: list[Path]) -> None:
    process, pids = _start_program(tmp_path, "run", videos * 20)
    start_s = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, errors = process.communicate(timeout=180)
    assert time.monotonic() - start_s < 120
    assert errors.strip().endswith("KeyboardInterrupt")
    assert not any(exists(pid) for pid in pids)


@posix
def test_a_program_continues_after_it_was_stopped(tmp_path: Path, videos: list[Path]) -> None:
    """No video fails because everything paused: a laptop that slept, a scan that was stopped."""
    process, _ = _start_program(tmp_path, "run", videos)
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(7)
    os.killpg(process.pid, signal.SIGCONT)
    out, errors = process.communicate(timeout=180)
    assert out.split() == ["DecodeDone"] * 4, errors


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")
def test_workers_load_no_model(videos: list[Path]) -> None:
    with DecodePool(1, CLIP_BYTES) as pool:
        pool.submit(0, WindowsRequest(videos[2], USUAL))
        assert isinstance(pool.next_event(), ClipReady)
        maps = Path(f"/proc/{pool.pids[0]}/maps").read_text()
    assert "libavcodec" in maps
    assert not any(name in maps for name in ("torch", "onnxruntime", "gradio", "pandas"))
