"""Splits a scan into parts for jobs that know nothing of each other: Slurm arrays, indexed jobs of Kubernetes.

Each job finds all files and takes its part of them, so all jobs have to see the same files.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vtag.engine.scan.discover import DiscoveredFile

_SHARD = re.compile(r"(\d{1,6}|auto)/(\d{1,6})")


class Shard(NamedTuple):
    """Part `number`, from 1, of `total`."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


def parse_shard(text: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """The shard that `3/16`, `auto` or `auto/16` names; `auto` takes the number from the job's environment.

    Raises ValueError, whose text says what is wrong.
    """
    if text == "auto":
        return _checked(*_job(environment, None))
    match = _SHARD.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no part of a scan: write 3/16, auto or auto/16")
    count = int(match[2])
    return _checked(*(_job(environment, count) if match[1] == "auto" else (int(match[1]), count)))


def _job(environment: Mapping[str, str], count: int | None) -> tuple[int, int]:
    """Number and count of the job that this process is."""
    if "SLURM_ARRAY_TASK_ID" in environment:
        return _slurm_task(environment, count)
    if "JOB_COMPLETION_INDEX" in environment:
        if count is None:
            raise ValueError(
                "Kubernetes does not tell a job how many there are: write auto/N, N its completions"
            )
        return int(environment["JOB_COMPLETION_INDEX"]) + 1, count
    raise ValueError(
        "this is neither a task of a Slurm array (SLURM_ARRAY_TASK_ID) nor an indexed job of Kubernetes "
        "(JOB_COMPLETION_INDEX): write 3/16"
    )


def _slurm_task(environment: Mapping[str, str], count: int | None) -> tuple[int, int]:
    """Number and count of a task of a Slurm array, whose ids may begin anywhere and have a step."""
    task, tasks, first, last = (
        int(environment[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "COUNT", "MIN", "MAX")
    )
    step = (last - first) // max(1, tasks - 1) or 1
    if (last - first) != step * (tasks - 1) or (count or tasks) != tasks:
        raise ValueError(
            f"the array has {tasks} tasks from {first} to {last}, which are not all parts of a scan: "
            "write $SLURM_ARRAY_TASK_ID/N"
        )
    return (task - first) // step + 1, tasks


def _checked(number: int, count: int) -> Shard:
    if not 1 <= number <= count:
        raise ValueError(
            f"{number}/{count} is no part of a scan: the first is 1/{count}, the last {count}/{count}"
        )
    return Shard(number, count)


def shard_library(library: Path, shard: Shard) -> Path:
    """The library of a shard, beside the one that all will be merged into: jobs share no file."""
    digits = len(str(shard.total))
    return library.with_name(
        f"{library.stem}.shard-{shard.number:0{digits}}-of-{shard.total}{library.suffix}"
    )


def take_shard(files: Sequence[DiscoveredFile], roots: Sequence[bytes], shard: Shard) -> list[DiscoveredFile]:
    """The files of a shard, in their order; the shards of a list of files are disjoint and about equal in bytes.

    The largest file comes first, and each goes to the shard with the fewest bytes so far. Files are compared by their
    paths below the scanned folders, which may be mounted elsewhere on another machine.
    """
    root_numbers = {root: number for number, root in enumerate(roots)}
    ordered = sorted(
        files,
        key=lambda file: (-file.size_bytes, root_numbers[file.root], os.path.relpath(file.path, file.root)),
    )
    loads = [(0, number) for number in range(1, shard.total + 1)]
    chosen = set()
    for file in ordered:
        load, number = heapq.heappop(loads)
        heapq.heappush(loads, (load + max(1, file.size_bytes), number))
        if number == shard.number:
            chosen.add(file.path)
    return [file for file in files if file.path in chosen]
