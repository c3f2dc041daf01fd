"""No character of a stranger steers a terminal: names of files and what files say, over all that vtag prints."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.footage import make_video
from helpers.zygote import Zygote
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(0)]
PART = "Names"
QUERY = 'archery OR "riding a bike" OR yoga'
# what terminals obey: CSI, OSC 0, 8 and 52, DCS, APC, a reset, C1, bells, backspaces, lines, directions of text
ESCAPES = (
    *("\x1b[2J", "\x1b[6n", "\x1b[?1049h", "\x1b]0;owned\x07", "\x1b]8;;mailto:owned\x1b\\"),
    *("\x1b]52;c;ZXZpbA==\x07", "\x1bP$qm\x1b\\", "\x1b_evil\x1b\\", "\x1bc", "\x9b31m", "\x9d0;owned\x9c"),
    *("\x90q\x9c", "\x07", "\x08\x08", "\x7f", "\n", "\r", "\t", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"),
    *("\u202e", "\u2066", "\u200f", "\ufeff", "\udc9b", "\udcff"),
)
PIECES = st.one_of(st.sampled_from(ESCAPES), st.text(st.characters(exclude_characters="/\x00"), max_size=4))
TEXTS = st.lists(PIECES, min_size=1, max_size=6).map("".join)
# what vtag itself sends to a terminal: colours, moves and clears of lines, the cursor
OWN = re.compile(r"\x1b\[[0-9;]*[mKABCDGHJ]|\x1b\[\?25[hl]|\r?\n|\r")


def unsafe(text: str, *, is_terminal: bool = False) -> list[str]:
    """The characters that could steer a terminal, but those that vtag itself sends."""
    rest = OWN.sub("", text) if is_terminal else text.replace("\n", "")
    return [c for c in rest if c != "\u200d" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def run_in_terminal(*arguments: str | Path) -> str:
    """What a command writes to a terminal, with its progress."""
    screen, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
    process = subprocess.Popen(
        [sys.executable, "-m", "vtag.app", *map(os.fspath, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        env=environment,
    )
    os.close(terminal)
    output = b""
    try:
        while chunk := os.read(screen, 1 << 16):
            output += chunk
    except OSError as error:  # so Linux says that the terminal is closed
        assert error.errno == errno.EIO
    os.close(screen)
    process.wait(60)
    return output.decode("utf-8", "surrogateescape")


def encode_name(text: str, number: int) -> bytes:
    """A file's name with that text: at most 255 bytes, as a file system allows."""
    return text.encode("utf-8", "surrogateescape")[:230] + f" {number}.mkv".encode()


def test_nothing_of_a_stranger_steers_the_terminal(
    model: Path, zygote: Zygote, tmp_path: Path, is_long: bool, record: Callable
) -> None:
    """Names and metadata of videos, of broken files, and of what is asked for, in each command that prints them."""
    counts = {"texts": 0, "outputs": 0}

    @settings(
        max_examples=10 if is_long else 1,
        derandomize=not is_long,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(TEXTS, min_size=3, max_size=3, unique=True))
    def check(texts: list[str]) -> None:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        counts["outputs"] += check_commands(
            model, zygote, folder, [*texts, "".join(ESCAPES[:9]), "".join(ESCAPES[9:])]
        )
        counts["texts"] += len(texts) + 2

    check()
    happened = f"in {counts['outputs']} outputs, none reached the terminal or a log as it was"
    tried = "escape sequences, control characters and directions of text in names and metadata of videos"
    record(PART, tried, counts["texts"], happened)


def make_hostile_video(path: bytes, folder: Path, text: str, seed: int) -> None:
    """A video named and tagged by a stranger."""
    shown = text.encode("utf-8", "replace").decode().replace("\x00", "")
    tags = {
        name: shown
        for name in ("title", "artist", "comment", "encoder", "description", "creation_time", "language")
    }
    made = make_video(
        folder / "made.mkv",
        seconds=2,
        fps=8,
        width=64,
        height=48,
        seed=seed,
        metadata={**tags, shown or "x": shown},
    )
    os.rename(made, path)


def check_commands(model: Path, zygote: Zygote, folder: Path, texts: list[str]) -> int:
    """Scan videos with these texts, and hold what each command prints of them; how many outputs there were."""
    clips, library, log = folder / "clips", folder / "library.db", folder / "log.jsonl"
    clips.mkdir()
    paths = [os.path.join(os.fsencode(clips), encode_name(text, i)) for i, text in enumerate(texts)]
    for seed, (path, text) in enumerate(zip(paths, texts, strict=True)):
        make_hostile_video(path, folder, text, seed)
    broken = os.path.join(os.fsencode(clips), encode_name(texts[0], 99))
    Path(os.fsdecode(broken)).write_bytes(b"\x1aE\xdf\xa3" + os.fsencode(texts[0]) * 50)
    outputs = [
        run_in_terminal(
            "scan", clips, "--model", model, "--threshold", "0.01", "--db", library, "--log-file", log
        )
    ]
    assert not unsafe(outputs[0], is_terminal=True), unsafe(outputs[0], is_terminal=True)
    named = os.fsdecode(paths[-1])
    asked = "".join(texts[:3]).replace("\x00", "")
    for command in hostile_commands(folder, model, named, asked):
        if "\x00" in "".join(map(str, command)):
            continue
        ran = zygote.run(*command, "--db", library)
        for output in (ran.stdout, ran.stderr):
            assert not unsafe(output), (command, unsafe(output), output[-2000:])
            assert "Traceback" not in output, (command, output)
        outputs += [ran.stdout, ran.stderr]
        if "--json" in command and ran.returncode == 0:
            json.loads(ran.stdout)
    for line in log.read_text("utf-8").splitlines():
        assert not unsafe(line) and json.loads(line)
    return len(outputs) + 1


def hostile_commands(folder: Path, model: Path, named: str, asked: str) -> list[list[str | Path]]:
    """Commands that print the names of the library's videos, or `asked`, which is wrong in most places."""
    missing = f"{named}{asked}"
    return [
        *(["search", QUERY, "--limit", "50"], ["search", QUERY, "--json"], ["search", asked]),
        *(
            ["search", f'path:"{asked}"'],
            ["search", f"{asked}:1"],
            ["show", named],
            ["show", named, "--json"],
        ),
        *(
            ["show", missing],
            ["scan", missing],
            ["scan", folder / "clips", "--model", model],
            ["similar", named],
        ),
        *(["labels"], ["stats"], ["library", "info"], ["library", "check"], ["doctor"], [asked], ["clean"]),
        *(["tag", "add", named, asked], ["tag", "log"], ["labels"], ["search", asked], ["forget", named]),
        *(["cut", QUERY, "-o", folder / "cut"], ["cut", QUERY, "--reencode", "-o", folder / "cut2"]),
        *(["export", QUERY, "--format", asked], ["models", "show", asked], ["words", "import", missing]),
    ]
