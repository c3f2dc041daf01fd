"""`vtag scan --shard`: parts of a scan that are disjoint, complete and about equal, whoever computes them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.scan.discover import DiscoveredFile
from vtag.engine.scan.shard import Shard, parse_shard, shard_library, take_shard

SLURM = {
    "SLURM_ARRAY_TASK_ID": "8",
    "SLURM_ARRAY_TASK_COUNT": "4",
    "SLURM_ARRAY_TASK_MIN": "2",
    "SLURM_ARRAY_TASK_MAX": "11",
}


def files_at(root: bytes, sizes: list[int]) -> list[DiscoveredFile]:
    return [
        DiscoveredFile(os.path.join(root, b"%d.mp4" % i), size, 0, i, root) for i, size in enumerate(sizes)
    ]


@given(st.lists(st.integers(0, 10**12), max_size=60), st.integers(1, 9), st.randoms())
def test_the_parts_are_disjoint_complete_and_even(sizes: list[int], count: int, random: object) -> None:
    files = files_at(b"/videos", sizes)
    parts = [take_shard(files, [b"/videos"], Shard(number + 1, count)) for number in range(count)]
    assert sorted(file for part in parts for file in part) == sorted(files)
    loads = [sum(max(1, file.size_bytes) for file in part) for part in parts]
    assert max(loads) - min(loads) <= max((max(1, size) for size in sizes), default=0)
    # another machine lists the files in another order, and mounts the folder elsewhere
    elsewhere = files_at(b"/mnt/nas/videos", sizes)
    random.shuffle(elsewhere)  # type: ignore[attr-defined]
    part = take_shard(elsewhere, [b"/mnt/nas/videos"], Shard(1, count))
    assert {os.path.basename(f.path) for f in part} == {os.path.basename(f.path) for f in parts[0]}


def test_a_job_of_slurm_or_kubernetes_knows_its_part() -> None:
    assert parse_shard("3/16", {}) == Shard(3, 16)
    assert parse_shard("auto", SLURM) == Shard(3, 4)  # 2, 5, 8, 11
    assert parse_shard("auto", {**dict.fromkeys(SLURM, "0"), "SLURM_ARRAY_TASK_COUNT": "1"}) == Shard(1, 1)
    assert parse_shard("auto/16", {"JOB_COMPLETION_INDEX": "0"}) == Shard(1, 16)


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("0/4", {}, "the first is 1/4"),
        ("5/4", {}, "the last 4/4"),
        ("three", {}, "write 3/16"),
        ("auto", {}, "SLURM_ARRAY_TASK_ID"),
        ("auto", {"JOB_COMPLETION_INDEX": "0"}, "auto/N"),
        ("auto/4", {"JOB_COMPLETION_INDEX": "4"}, "the last 4/4"),
        ("auto", {**SLURM, "SLURM_ARRAY_TASK_COUNT": "3"}, r"\$SLURM_ARRAY_TASK_ID/N"),
        ("auto/5", SLURM, r"\$SLURM_ARRAY_TASK_ID/N"),
    ],
)
def test_what_is_no_part_is_an_error_that_says_what_to_write(
    text: str, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parse_shard(text, environment)


def test_each_part_has_a_library_of_its_own() -> None:
    assert shard_library(Path("/a/b.db"), Shard(3, 16)) == Path("/a/b.shard-03-of-16.db")


def test_a_wrong_part_is_a_usage_error(
    vtag: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    run = vtag("scan", tmp_path, "--shard", "5/4")
    assert run.returncode == 2 and "4/4" in run.stderr
