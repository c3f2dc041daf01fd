"""Odd names of files come back unchanged from the database, JSON, CSV and `--print0`, and escaped at a terminal."""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.footage import make_video
from helpers.undisturbed import read_outcome
from helpers.zygote import Zygote

pytestmark = pytest.mark.reliability
QUERY = 'archery OR "riding a bike" OR yoga'
NAMES = {
    "not UTF-8": b"\xff\xfe caf\xe9.mp4",
    "255 bytes": b"n" * 251 + b".mp4",
    "a newline": b"two\nlines.mp4",
    "a leading dash": b"-rf.mp4",
    "right-to-left marks": "a\u202egpj\u202c.mp4".encode(),
    "emoji": "🏹 family 👩‍👩‍👧.mp4".encode(),
    "composed": unicodedata.normalize("NFC", "café.mp4").encode(),
    "decomposed": unicodedata.normalize("NFD", "café.mp4").encode(),
    "reserved in Windows": b"con.mp4",
    "characters that Windows has not": b'a<b>c:d"e|f?g*.mp4',
    "escape sequences": b"\x1b[2J\x1b]0;title\x07.mp4",
    "quotes and a tab": b'it\'s "50%" &\t$HOME `id`.mp4',
    "blanks at both ends": b"  padded .mp4",
}


def test_names_come_back(model: Path, zygote: Zygote, tmp_path: Path, record: Callable) -> None:
    folder = tmp_path / "v"
    folder.mkdir()
    for seed, name in enumerate(NAMES.values()):
        made = make_video(tmp_path / "made.mp4", seconds=1, fps=8, width=64, height=48, seed=seed)
        os.rename(made, os.path.join(os.fsencode(folder), name))
    paths = {os.path.join(os.fsencode(folder), name) for name in NAMES.values()}
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
        ", ".join(NAMES),
        len(NAMES),
        "unchanged in the database, `--print0`, JSON and CSV; escaped at a terminal; a file each in an export",
    )


def is_text(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True
