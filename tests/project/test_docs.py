"""Every command in README and docs exists, and runs if it needs neither network nor a data set of thousands."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from helpers.footage import make_video
from helpers.small_model import make_model

from vtag.app.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LABELS = ("archery", "riding a bike", "skateboarding", "running", "high jump", "beach ball", "yoga")
# What a test cannot run: downloads, a server that stays, trainings on data sets that are not here
NOT_RUN = (
    "vtag models pull",
    "vtag ui",
    "vtag mcp",
    "vtag --install-completion",
    "vtag train",
    "vtag data",
    "vtag eval k400",
    "vtag models export",
    "vtag relocate",
)
NOT_RUN_WITH = (
    "--model swin-onnx",
    "--backend onnx",
    "swin3d-t",
    "--train stages",
    "--cluster",
    "--shard auto",
)  # covered by tests/backends, tests/trainer


def command_lines(page: Path) -> Iterator[str]:
    """The command lines of a page: in shell blocks, and in indented blocks."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    outside = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    blocks += re.findall(r"^((?:    \S.*\n)+)", outside, re.M)
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|(?![^']*'(?:[^']*'[^']*')*[^']*$)", line):
                yield part.strip()


COMMANDS = [(page.name, line) for page in PAGES for line in command_lines(page)]
VTAG = [(page, line) for page, line in COMMANDS if line.startswith("vtag ")]


def test_the_pages_have_commands() -> None:
    assert len(VTAG) > 50


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_named_file_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)#]+)", text) if "://" not in t]
    named = re.findall(r"`((?:app|engine|trainer|assets|tests)/[\w/.-]*)`", text)
    missing = [t for t in targets if not (page.parent / t).exists()]
    missing += [n for n in named if not (ROOT / n).exists()]
    scripts = [
        line.split()[1] for name, line in COMMANDS if name == page.name and re.match(r"python \S+\.py", line)
    ]
    assert missing + [s for s in scripts if not (ROOT / s).is_file()] == []


@pytest.mark.parametrize(("page", "line"), VTAG, ids=lambda text: text[:60])
def test_a_command_of_the_docs_exists_with_its_options(page: str, line: str) -> None:
    arguments = shlex.split(line, comments=True)[1:]
    command: Any = typer.main.get_command(app)
    if "--log-file" in arguments:  # an option of vtag itself, which is taken anywhere
        place = arguments.index("--log-file")
        del arguments[place : place + 2]
    context, name = None, "vtag"
    while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
        if arguments[0] not in command.commands and name == "labels":
            break  # `vtag labels WORD` lists
        assert arguments[0] in command.commands, f"{page}: {line}"
        context = command.make_context(name, [arguments[0]], parent=context, resilient_parsing=True)
        name = arguments.pop(0)
        command = command.commands[name]
    if name == "vtag":  # an option that acts at once, such as --man
        assert {option for parameter in command.params for option in parameter.opts} >= set(arguments)
    else:
        command.make_context(name, arguments, parent=context)  # raises UsageError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder for the docs' commands: videos, labelled clips, a checkpoint, a scanned library."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("Videos", "somewhere", "labelled/waving", "labelled/juggling"):
        (folder / name).mkdir(parents=True)
    make_video(folder / "Videos" / "holiday.mp4", seconds=100, fps=2, width=64, height=48)
    make_video(folder / "somewhere" / "clip.mov", seconds=4, width=64, height=48)
    shutil.copy(folder / "somewhere" / "clip.mov", folder / "clip.avi")
    for label in ("waving", "juggling"):
        for number in range(3):
            path = folder / "labelled" / label / f"{label}{number}.mp4"
            make_video(path, seconds=3, width=64, height=48, seed=number)
    shutil.copy(ROOT / "tests" / "data" / "golden" / "small_swin.pth", folder / "checkpoint.pth")
    model = make_model(folder / "model", labels=LABELS)
    run = vtag(folder, ["scan", str(folder / "Videos"), "--model", str(model), "--threshold", "0.01"])
    assert run.returncode == 0, run.stderr
    return folder


def vtag(home: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(home), "VTAG_HOME": str(home / "vtag-home"), "PATH": str(home)}
    return subprocess.run(
        [sys.executable, "-m", "vtag.app", *arguments],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        stdin=subprocess.DEVNULL,
    )


def local_argument(home: Path, argument: str) -> str:
    """An argument of the docs as this home has it: a path below `~`, or the id of a moment that exists."""
    if argument.isdigit():
        moments = json.loads(vtag(home, ["search", "score>0", "--json"]).stdout)
        return str(moments[int(argument) % len(moments)]["id"])
    return str(home / argument[2:]) if argument.startswith("~/") else argument


def is_run(line: str) -> bool:
    return not line.startswith(NOT_RUN) and not any(part in line for part in NOT_RUN_WITH)


@pytest.mark.parametrize("page", [page.name for page in PAGES if page.name != "shell.md"])  # test_shell.py
def test_the_commands_of_a_page_run_one_after_the_other(page: str, home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "home"
    shutil.copytree(home, copy)
    for name, line in VTAG:
        if name == page and is_run(line):
            run = vtag(copy, [local_argument(copy, part) for part in shlex.split(line, comments=True)[1:]])
            assert run.returncode in (0, 3), f"{line}\n{run.stdout}{run.stderr}"
            assert "Traceback" not in run.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")])
def test_the_python_examples_of_a_page_run(page: Path, home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "home"
    shutil.copytree(home, copy)
    examples = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    environment = {**os.environ, "HOME": str(copy), "VTAG_HOME": str(copy / "vtag-home"), "MPLBACKEND": "agg"}
    code = "import json, sys\nfor example in json.loads(sys.argv[1]): exec(example, {})"
    run = subprocess.run(
        [sys.executable, "-c", code, json.dumps(examples)],
        cwd=copy,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
