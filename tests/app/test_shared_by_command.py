"""Every shared file that goes wrong in a way of its own, through the command line as a user meets it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.small_model import make_model

Run = Callable[..., subprocess.CompletedProcess[str]]
MARKER = Path("/tmp/vtag_hostile_marker")
COMMITTED = Path(__file__).parents[1] / "data" / "hostile"
FEW = ("bomb_deep_nesting.pdparams", "bare_tensor.pth")
# an import in an address space of 12 GB, most of it torch's; what it really uses is printed in kB
_BOUNDED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
sys.argv = ["vtag", "models", "import", sys.argv[1], "--name", "stranger"]
from vtag.app.cli import main
try:
    main()
finally:
    # not ru_maxrss, which begins with what the process that started this one had
    print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


def import_file(file: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _BOUNDED, str(file)], capture_output=True, text=True, timeout=120
    )
    assert not MARKER.exists(), file
    if file.name.startswith(("control_ok", "index_out_of_range", "key_extra", "model_labels_control_chars")):
        assert run.returncode in (0, 1), (file, run.stderr)
    else:
        assert run.returncode == 1, (file, run.stderr)
    assert len(run.stderr.splitlines()) == 1 and "unexpected" not in run.stderr, (file, run.stderr)
    assert run.stderr.rstrip("\n").isprintable(), file
    assert int(run.stdout.splitlines()[-1]) < 1000 * 1024, file


@pytest.mark.parametrize("name", FEW)
def test_a_hostile_model_is_refused_in_one_line(name: str) -> None:
    import_file(COMMITTED / name)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_hostile_model_is_refused_in_one_line(vtag: Run, shared: Path) -> None:
    files = [
        f for f in sorted((shared / "hostile").iterdir()) if f.name not in ("README.md", "manifest.json")
    ]
    assert len(files) > 80
    for file in files:
        subprocess.run(
            [sys.executable, "-m", "vtag.app", "models", "remove", "stranger", "--yes"], capture_output=True
        )
        import_file(file)


def told(readme: Path) -> dict[str, str]:
    """What the table says of each file."""
    rows = re.findall(
        r"(?m)^\| `([^`]+)` \| [^|]* \| [^|]* \| ([^|]*) \|", readme.read_text(encoding="utf-8")
    )
    return dict(rows)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_awkward_video_does_what_is_said_of_it(vtag: Run, shared: Path, tmp_path: Path) -> None:
    folder = shared / "awkward"
    expected = {n: what for n, what in told(folder / "README.md").items() if (folder / n).is_file()}
    assert len(expected) > 50
    model = make_model(tmp_path / "model")
    files = [folder / name for name in expected]
    run = vtag("scan", "--model", model, "--json", "--", *files, timeout=1500)
    assert run.returncode == 3, run.stderr
    assert "Traceback" not in run.stderr
    done = json.loads(run.stdout)
    failed = {Path(f["path"]).name: f["error"] for f in done["failed"]}
    for name, what in expected.items():
        if what.startswith("report"):
            assert name in failed, (name, what)
        elif what.startswith("process") and " report " not in what:
            assert name not in failed, (name, what, failed[name])
    assert "crash" not in " ".join(failed.values())
    again = json.loads(vtag("scan", "--json", "--", *files, timeout=300).stdout)
    assert (again["scanned"], again["failed"]) == (0, [])
