"""What strangers hand to `vtag finetune`: hostile files as a base, videos that go wrong as a tag."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.striped_clips import make_clips
from typer.testing import CliRunner

from vtag.app.cli import app
from vtag.engine.errors import VtagError

Run = Callable[..., "subprocess.CompletedProcess[str]"]
MARKER = Path("/tmp/vtag_hostile_marker")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    make_clips(folder / "red", "red", 1, seconds=1)
    make_clips(folder / "green", "green", 1, seconds=1)
    return folder


def one_sentence(labelled: Path, out: Path, base: Path) -> str:
    """What `finetune` says of a base that it refuses."""
    run = CliRunner().invoke(app, ["finetune", str(labelled), "--base", str(base), "-o", str(out)])
    assert run.exit_code == 1 and isinstance(run.exception, VtagError), (base.name, run.exception)
    message = str(run.exception)
    assert "\n" not in message and message.isprintable()
    assert not out.exists()
    return message


def test_hostile_files_as_a_base_are_a_sentence_each(shared: Path, labelled: Path, tmp_path: Path) -> None:
    files = [f for f in sorted((shared / "hostile").iterdir()) if f.name.startswith(("exec_", "bomb_"))]
    assert len(files) > 20
    for file in files:
        assert file.name[:20] in one_sentence(labelled, tmp_path / "m", file) or file.is_dir(), file.name
    assert not MARKER.exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x04cos\nsystem\n(S'true'\ntR.", b"<html>", bytes(range(64))])
def test_what_is_no_model_is_a_sentence(labelled: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "base.pth").write_bytes(content)
    assert "base.pth" in one_sentence(labelled, tmp_path / "m", tmp_path / "base.pth")


@pytest.mark.slow
def test_videos_that_go_wrong_cost_a_line_each(vtag: Run, shared: Path, tmp_path: Path) -> None:
    make_clips(tmp_path / "data" / "red", "red", 3, seconds=1)
    (tmp_path / "data" / "odd").symlink_to(shared / "awkward")
    run = vtag("finetune", tmp_path / "data", "--base", "starter", "-o", tmp_path / "m", timeout=900)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr and "\x1b" not in run.stderr
    failed = [line for line in run.stderr.splitlines() if line.startswith("failed: ")]
    assert failed and len(failed) == len(set(failed))
