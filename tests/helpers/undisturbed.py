"""What a library has after a scan, to compare one that was disturbed with one that was not."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers.library_rows import Rows, facts
from helpers.zygote import shared_zygote
from vtag.engine.library.database import LibraryWriter, observations_path

ROUNDING = 2e-3  # features are halves, and batches of other sizes round in another way
_ROUNDED = {"segments": (5, 6)}  # columns that follow from features


class Outcome(NamedTuple):
    """The rows of a library without dates, and its features by content, backbone and sampling."""

    rows: Rows
    features: dict[tuple[str, ...], np.ndarray]

    def differences(self, other: Outcome) -> list[str]:
        """The names of the tables in which the two are not the same."""
        names = [name for name, rows in self.rows.items() if not _same(name, rows, other.rows[name])]
        if self.features.keys() != other.features.keys() or not all(
            np.allclose(mine, other.features[key], rtol=ROUNDING, atol=ROUNDING)
            for key, mine in self.features.items()
        ):
            names.append("features")
        return names


def _same(name: str, mine: Sequence[tuple], others: Sequence[tuple]) -> bool:
    rounded = _ROUNDED.get(name, ())
    if len(mine) != len(others):
        return False
    return all(
        abs(a - b) < ROUNDING if column in rounded else a == b
        for row, other in zip(mine, others, strict=True)
        for column, (a, b) in enumerate(zip(row, other, strict=True))
    )


def read_outcome(library: Path) -> Outcome:
    """What the library at `library` has."""
    with LibraryWriter.open(library) as opened:
        rows = facts(opened)
    observed = rows.pop("observations")
    rows["windows"] = [row[:-1] for row in observed]
    return Outcome(rows, {row[:3]: np.frombuffer(row[-1], "<f2").astype(np.float32) for row in observed})


def integrity(library: Path) -> list[str]:
    """SQLite's own verdict on both files of a library."""
    verdicts = []
    for path in (library, observations_path(library)):
        if path.exists():
            with closing(sqlite3.connect(path)) as connection:
                verdicts += [row[0] for row in connection.execute("PRAGMA integrity_check")]
                verdicts += [str(row) for row in connection.execute("PRAGMA foreign_key_check")]
    return verdicts


def start_vtag(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """The command line as a process that was started, in a new interpreter."""
    command = [sys.executable, "-m", "vtag.app", *map(os.fspath, arguments)]
    return subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_vtag(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line as a process that ended, a child of one that has imported it."""
    ran = shared_zygote().run(*arguments, timeout=600, **environment)
    return subprocess.CompletedProcess(["vtag", *arguments], ran.returncode, ran.stdout, ran.stderr)
