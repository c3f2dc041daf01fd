"""The shell: completions in real shells, the manual page, and the recipes of docs/shell.md."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from helpers.film_library import Film, make_film_library
from helpers.footage import make_video
from helpers.programs import run_program

from vtag.app.cli import app

Run = Callable[..., subprocess.CompletedProcess[str]]
DOCS = (Path(__file__).parents[2] / "docs" / "shell.md").read_text(encoding="utf-8")
RECIPES = [
    line for block in re.findall(r"^```sh\n(.*?)^```", DOCS, re.M | re.S) for line in block.splitlines()
]
LABELS = ("archery", "riding a bike", "running", "jumping", "yoga")
HEAVY = ("torch", "av", "numpy", "sqlite_utils", "onnxruntime", "gradio")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's folder: videos with odd names, their library, and `vtag` and `mpv` (without a window)."""
    home = tmp_path_factory.mktemp("shell")

    def make_file(path: Path, film: Film, seed: int) -> None:
        make_video(path, seconds=film.seconds, width=64, height=48, seed=seed)

    films = {
        "a b\n'c'.mp4": Film([("archery", 4), ("yoga", 4)]),
        "run.mp4": Film([("running", 3), ("jumping", 3)]),
    }
    make_film_library(home, films, LABELS, make_file)
    (home / "yoga").mkdir()
    (home / "bin").mkdir()
    program = home / "bin" / "vtag"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m vtag.app "$@"\n')
    program.chmod(0o755)
    if mpv := shutil.which("mpv"):
        (home / "bin" / "mpv").write_text(
            f'#!/bin/sh\nexec {mpv} --no-config --vo=null --ao=null --untimed "$@"\n'
        )
        (home / "bin" / "mpv").chmod(0o755)
    return home


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "HOME": str(folder), "VTAG_HOME": str(folder / "home"), "PATH": path}


def in_bash(environment: dict[str, str], folder: Path, line: str) -> list[str]:
    """What bash offers for the last word of a line, by the script that vtag installs."""
    script = run_program("vtag", "--show-completion", "bash", env=environment).stdout
    words = shlex.split(line.replace("\\ ", "\\\\ "), posix=False) + ([""] if line.endswith(" ") else [])
    test = f"{script}\nCOMP_WORDS=({' '.join(map(shlex.quote, words))})\nCOMP_CWORD={len(words) - 1}\n"
    test += '_vtag_completion vtag; printf "%s\\n" "${COMPREPLY[@]}"\n'
    run = run_program("bash", "--norc", "-c", test, env=environment, cwd=folder)
    return [reply for reply in run.stdout.splitlines() if reply]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vtag search ru", ["running"]),  # of labels that have moments
        ("vtag search yoga sc", ["score>"]),
        ("vtag export yoga --format m", ["mpv", "m3u8", "matroska"]),
        ("vtag labels set ri", ["riding\\ a\\ bike"]),
        ("vtag scan . --model st", ["starter"]),
        ("vtag search yoga --model s", ["swin3d-t"]),
        ("vtag library p", ["path"]),
    ],
)
def test_bash_completes(environment: dict[str, str], folder: Path, line: str, expected: list[str]) -> None:
    assert in_bash(environment, folder, line) == expected


@pytest.mark.parametrize(
    ("shell", "request_"),
    [
        ("zsh", {"_VTAG_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "vtag labels set ri"}),
        ("fish", {"_VTAG_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args",
                  "_TYPER_COMPLETE_ARGS": "vtag labels set ri"}),
    ],
)  # fmt: skip
def test_zsh_and_fish_quote_labels_themselves(
    environment: dict[str, str], shell: str, request_: dict[str, str]
) -> None:
    assert "riding a bike" in run_program("vtag", env=environment | request_).stdout


def test_a_completion_is_quick_and_never_an_error(
    folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    code = (
        "import sys\nfrom vtag.app.cli import app\n"
        "try: app(prog_name='vtag')\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    (tmp_path / "library.db").write_text("no database")
    for line, home, start in (
        ("vtag search ru", folder / "home", "running"),
        ("vtag labels set ri", folder / "home", "riding"),
        ("vtag search ru", tmp_path / "none", ""),
        ("vtag labels set ri", tmp_path, ""),
    ):
        words = {
            "_VTAG_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split()) - 1),
        }
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=environment | words | {"VTAG_HOME": str(home)},
            capture_output=True,
            text=True,
        )
        assert run.stdout.startswith(start) and bool(run.stdout.strip()) == bool(start)
        assert run.stderr == "[]\n"


def test_the_manual_page_has_every_command_and_no_mistake(
    environment: dict[str, str], tmp_path: Path
) -> None:
    page = run_program("vtag", "--man", env=environment).stdout
    text = re.sub(r"\\\(ti|\\&", "", page).replace("\\-", "-")
    names = vars(typer.main.get_command(app))["commands"]
    assert all(f".SS vtag {name}" in text for name in names)
    assert ".SS vtag models export" in text and "--sensitivity" in text and "mkvpropedit" in text
    (tmp_path / "vtag.1").write_text(page, encoding="utf-8")
    run = run_program("groff", "-man", "-Tutf8", "-ww", tmp_path / "vtag.1")
    assert run.stderr == "" and len(run.stdout.splitlines()) > 300


@pytest.mark.programs
@pytest.mark.parametrize("line", RECIPES, ids=range(len(RECIPES)))
def test_a_recipe_runs(line: str, folder: Path, environment: dict[str, str]) -> None:
    program = next((name for name in ("tar", "mpv") if f"{name} " in line), "sh")
    if program == "mpv" and not shutil.which("mpv"):
        pytest.skip("mpv is not installed")
    line = line.replace("vtag scan", "vtag scan --model starter")  # that of this library is only drawn
    run = run_program(
        "sh", "-c", line.replace("tar --null -T", "tar -P --null -T"), env=environment, cwd=folder
    )
    if "cp -t" in line:
        assert [path.name for path in (folder / "yoga").iterdir()] == ["a b\n'c'.mp4"]
    elif program == "tar":
        listed = run_program("tar", "-tf", folder / "archery.tar", "--quoting-style=literal").stdout
        assert listed.strip().endswith("a b\n'c'.mp4")
    elif "json" in line:
        assert float(run.stdout.split()[0]) > 0
    elif "csv" in line:
        assert (folder / "moments.csv").read_text().startswith("id,path,label")
