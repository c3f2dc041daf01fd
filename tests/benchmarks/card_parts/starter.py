"""The starter's recipe on the card for some minutes, on what its stage `pack` made.

    python -m vtag.trainer.recipes.starter pack --shared DIR --work WORK       # where the footage is
    python tests/benchmarks/card.py --prepare card-starter --starter           # the teacher, where there is a network
    cp WORK/stage1.zip card-starter/starter/
    python tests/benchmarks/card.py --packages card-starter --part check,h --minutes 6 --out OUT

The result, `imitate.pt`, comes in pieces, since machines give back small files. Join them where the footage is, with
`cat OUT/imitate.pt.* > WORK/imitate.pt`. Stages `head` and `release` go on with it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from card_parts.packages import REPOSITORY
from card_parts.report import Report, Scale

_ARCHIVE, _RESULT = "stage1.zip", "imitate.pt"
_BATCH_SCALE = 8  # times the batch that a processor learns from
_LEAST_MINUTES = 0.5
_PIECE_BYTES = 15_000_000
_SHOWN_LINES = 12


def run_h(report: Report, scale: Scale, *, minutes: float, packed: Path | None, out: Path | None) -> None:
    """Run the recipe's first stages, or say what is missing. All of it takes `minutes`."""
    archive = packed / _ARCHIVE if packed else None
    if archive is None or not archive.is_file():
        report.say(
            f"nothing is packed: stage `pack` of the starter's recipe makes starter/{_ARCHIVE} for --packages"
        )
        return
    if minutes < _LEAST_MINUTES or not scale.has_card:
        report.say("give --minutes on a card to run the starter's recipe")
        return
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        shutil.copy(archive, work)
        _run_stages(report, work, scale, "unpack", "views")
        report.say(f"unpacked and seen by the teacher after {time.monotonic() - started:.0f} s")
        left = max(_LEAST_MINUTES, minutes - (time.monotonic() - started) / 60)
        _run_stages(report, work, scale, "imitate", "--imitate-minutes", f"{left:.2f}")
        if out is not None:
            pieces = split_file(work / _RESULT, out)
            report.say(f"{_RESULT} in {len(pieces)} pieces: {', '.join(piece.name for piece in pieces)}")


def _run_stages(report: Report, work: Path, scale: Scale, *arguments: str) -> None:
    """Run stages of the recipe; what they log last is reported as it comes."""
    command = [sys.executable, "-m", "vtag.trainer.recipes.starter", *arguments]
    command += [
        "--shared",
        str(work / "shared"),
        "--work",
        str(work),
        "--begin",
        str(REPOSITORY / "assets" / "starter"),
    ]
    command += ["--device", scale.device, "--scale", str(_BATCH_SCALE)]
    lines: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line.rstrip())
            if "cosine" in line:
                report.say(line.rstrip())
    if process.returncode:
        raise SystemExit("\n".join(lines[-_SHOWN_LINES:]))


def split_file(path: Path, folder: Path, piece_bytes: int = _PIECE_BYTES) -> list[Path]:
    """Copy a file in pieces NAME.00, NAME.01 ... into `folder`; returns their paths."""
    pieces: list[Path] = []
    with path.open("rb") as file:
        while content := file.read(piece_bytes):
            pieces.append(folder / f"{path.name}.{len(pieces):02}")
            pieces[-1].write_bytes(content)
    return pieces
