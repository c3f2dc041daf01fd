"""Odd names of files come back unchanged from the database, JSON, CSV and `--print0`, and escaped at a terminal."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.odd_names import NAMES, make_odd_video
from helpers.undisturbed import read_outcome
from helpers.zygote import Zygote

pytestmark = pytest.mark.reliability
QUERY = 'archery OR "riding a bike" OR yoga'


def test_names_come_back(model: Path, zygote: Zygote, tmp_path: Path, record: Callable) -> None:
    folder = tmp_path / "v"
    folder.mkdir()
    paths = {os.path.join(os.fsencode(folder), name) for name in NAMES.values()}
    for seed, path in enumerate(paths):
        make_odd_video(Path(os.fsdecode(path)), 1, seed)
    library = tmp_path / "library.db"

    def vtag(*arguments: str | Path) -> str:
        ran = zygote.run(*arguments, "--db", library)
        assert ran.returncode == 0, ran.stderr
        assert "\x1b" not in ran.stderr and "\u202e" not in ran.stderr
        return ran.stdout

    vtag("scan", folder, "--model", model, "--threshold", "0.01")
    assert {os.path.basename(row[1]) for row in read_outcome(library).rows["files"]} == set(NAMES.values())
    vtag("search", QUERY, "--paths-only", "--print0", "--limit", "1000")
    assert {path for path in zygote.stdout_bytes().split(b"\0") if path} == paths
    readable = {path.decode() for path in paths if is_text(path)}
    rows = json.loads(vtag("search", QUERY, "--json", "--limit", "1000"))
    assert readable <= {row["path"] for row in rows}
    table = csv.DictReader(io.StringIO(vtag("search", QUERY, "--csv", "--limit", "1000"), newline=""))
    assert readable <= {row["path"] for row in table}
    plain = vtag("search", QUERY, "--limit", "1000")
    assert "\x1b" not in plain and "\u202e" not in plain and plain.count("\n") == len(plain.splitlines())
    vtag("export", QUERY, "--format", "srt", "-o", tmp_path / "subtitles" / "")
    assert len(os.listdir(tmp_path / "subtitles")) == len(NAMES)
    assert json.loads(vtag("scan", folder, "--json"))["skipped"] == len(NAMES)  # each is known again
    record(
        "Names",
        f"on the command line: {', '.join(NAMES)}",
        len(NAMES),
        "unchanged in the database, `--print0`, JSON and CSV; escaped at a terminal; a file each in an export",
    )


def is_text(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True
