"""No character of a stranger steers a terminal: names of files and what files say, over all that vtag prints."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.assistant import Assistant
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
PIECES = st.one_of(
    st.sampled_from(ESCAPES),
    st.text(st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), max_size=4),
)
TEXTS = st.lists(PIECES, min_size=1, max_size=6).map("".join)
# what vtag itself sends to a terminal: colours, moves and clears of lines, the cursor
OWN = re.compile(r"\x1b\[[0-9;]*[mKABCDGHJ]|\x1b\[\?25[hl]|\r?\n|\r")


def unsafe(text: str, *, is_terminal: bool = False) -> list[str]:
    """The characters that could steer a terminal, but those that vtag itself sends."""
    rest = OWN.sub("", text) if is_terminal else text.replace("\n", "")
    return [c for c in rest if c != "\u200d" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


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
    library, log = folder / "library.db", folder / "log.jsonl"
    clips = folder / os.fsdecode(encode_name("".join(ESCAPES[9:]), 0))
    clips.mkdir()
    paths = [os.path.join(os.fsencode(clips), encode_name(text, i)) for i, text in enumerate(texts)]
    for seed, (path, text) in enumerate(zip(paths, texts, strict=True)):
        make_hostile_video(path, folder, text, seed)
    broken = os.path.join(os.fsencode(clips), encode_name(texts[0], 99))
    Path(os.fsdecode(broken)).write_bytes(b"\x1aE\xdf\xa3" + os.fsencode(texts[0]) * 50)
    outputs = 0

    def check(*command: str | Path, at_terminal: bool = False) -> str:
        nonlocal outputs
        if "\x00" in "".join(map(str, command)):
            return ""
        ran = zygote.run(*command, "--db", library, at_terminal=at_terminal)
        for output in (ran.stdout, ran.stderr):
            steering = unsafe(output, is_terminal=at_terminal)
            assert not steering, (command, steering, output[-2000:])
            assert "Traceback" not in output, (command, output)
        outputs += 1 if at_terminal else 2
        return ran.stdout

    check("scan", clips, "--model", model, "--threshold", "0.01", "--log-file", log, at_terminal=True)
    check_data(zygote, library, set(paths))
    named = os.fsdecode(paths[-1])
    asked = "".join(texts[:3]).replace("\x00", "")
    for command in shown_commands(named):
        check(*command, at_terminal=True)
    outputs += check_assistant(library, paths, asked)
    for command in hostile_commands(clips, model, named, asked):
        printed = check(*command)
        assert "--json" not in command or json.loads(printed)
    os.unlink(paths[0])
    assert "gone: " in check("clean", at_terminal=True)
    clips.rename(folder / "elsewhere")
    assert "gone as a whole" in check("clean", at_terminal=True)
    for line in log.read_text("utf-8").splitlines():
        assert not unsafe(line) and json.loads(line)
    return outputs


def check_data(zygote: Zygote, library: Path, paths: set[bytes]) -> None:
    """What programs read has each path as it is, byte for byte where the format can say it."""

    def search(*form: str) -> bytes:
        assert zygote.run("search", QUERY, *form, "--limit", "1000", "--db", library).returncode == 0
        return zygote.stdout_bytes()

    assert set(search("--paths-only", "--print0").removesuffix(b"\0").split(b"\0")) == paths
    assert search("--paths-only") == b"".join(path + b"\n" for path in search("--print0").split(b"\0")[:-1])
    rows = json.loads(search("--json"))
    assert {read_path(row) for row in rows} == paths
    table = csv.DictReader(io.StringIO(search("--csv").decode(), newline=""))
    assert [row["path"] for row in table] == [row["path"] for row in rows]


def read_path(row: dict[str, str]) -> bytes:
    """The exact path that a row of JSON names."""
    return base64.b64decode(row["path_bytes"]) if "path_bytes" in row else row["path"].encode()


def check_assistant(library: Path, paths: list[bytes], asked: str) -> int:
    """Texts of `vtag mcp` steer no terminal, and its data name each video; how many answers there were."""
    count = 0
    asked = asked.encode("utf-8", "replace").decode()
    with Assistant("--db", library, "--allow-write") as assistant:

        def call(tool: str, **arguments: Any) -> dict[str, Any]:
            nonlocal count
            count += 1
            result = assistant.call(tool, **arguments)
            for text in strings(result["content"]):
                assert not unsafe(text), (tool, arguments, unsafe(text), text[-2000:])
            data: dict[str, Any] = result.get("structuredContent", {})
            assert not data or json.loads(result["content"][0]["text"]) == data
            return data

        moments = call("search", query=QUERY, limit=200, less_sure="all")["moments"]
        assert {read_path(moment) for moment in moments} == set(paths)
        for moment in {moment["path"]: moment for moment in moments}.values():
            file = {name: moment[name] for name in ("path", "path_bytes") if name in moment}
            shown = call("show", **file)
            assert read_path(shown) == read_path(moment) and shown["moments"]
            assert call("similar", **file)["moments"] is not None
            assert call("annotate", **file, label="a dog")["is_new"]
        assert call("scanned")["videos"] == len(paths)
        for tool in ("show", "similar"):
            call(tool, path=asked)
        call("annotate", path=asked, label=asked)
        call("annotate", **file, label=asked)
        call("show", path="x", path_bytes=asked)
        for wrong in ({"query": asked}, {"query": f'"{asked}'}, {"sort": asked}):
            call("search", **wrong)
        call("labels", containing=asked)
        for number in (
            -1,
            -(2**63) - 1,
            2**53 - 1,
            2**63,
            10**400,
        ):  # an error of its own would be in `messages`
            call("similar", **file, at_ms=number)
            call("annotate", **file, label="a dog", start_ms=0, end_ms=number)
            call("search", limit=number)
    assert not unsafe(assistant.messages), assistant.messages
    return count


def strings(value: Any) -> Iterator[str]:
    """All texts in a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def shown_commands(named: str) -> list[list[str | Path]]:
    """Commands whose answer is data in a pipe, and text at a terminal."""
    search: list[str | Path] = ["search", QUERY, "--limit", "50"]
    return [
        *([*search, form] for form in ("--json", "--csv", "--paths-only", "--print0", "--group=video")),
        *(["export", QUERY, "--format", form] for form in ("csv", "json", "kdenlive", "otio")),
        *(["show", named], ["similar", named], ["library", "backup", named]),
    ]


def hostile_commands(clips: Path, model: Path, named: str, asked: str) -> list[list[str | Path]]:
    """Commands that print the names of the library's videos, or `asked`, which is wrong in most places."""
    missing = f"{named}{asked}"
    folder = clips.parent
    return [
        *(["search", QUERY, "--limit", "50"], ["search", QUERY, "--json"], ["search", asked]),
        *(["search", f'path:"{asked}"'], ["search", f"{asked}:1"], ["show", named, "--json"]),
        *(["show", missing], ["scan", missing], ["scan", clips, "--model", model]),
        *(["labels"], ["stats"], ["library", "info"], ["library", "check"], ["doctor"], [asked], ["clean"]),
        *(["tag", "add", named, asked], ["tag", "log"], ["words", "list"], ["labels"], ["search", asked]),
        *(["cut", QUERY, "-o", folder / "cut"], ["cut", QUERY, "--reencode", "-o", folder / "cut2"]),
        *(["export", QUERY, "--format", asked], ["models", "show", asked], ["words", "import", missing]),
        ["forget", named],
    ]
