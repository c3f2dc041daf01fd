"""Everything that is to be measured on a CUDA card, in one command of at most eight minutes.

    python tests/benchmarks/card.py --prepare card-packages            # where there is a network
    python tests/benchmarks/card.py --packages card-packages --out OUT # on the machine with the card
    python tests/benchmarks/card.py --dry                              # on a processor: tiny, no calls of CUDA

The machine with the card needs this repository, the folder of wheels that `--prepare` filled, and a Python with torch
for CUDA; no network. Every part is a process of its own, which is killed at its time limit (`--list`). What it found
until then is kept. After every part all results are in OUT/card.json, and the part's are printed as Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from card_parts import packages  # noqa: E402  # needs nothing but Python

_TOTAL_S = 480
_KEPT_LINES = 30  # of what a part writes to stderr
_NO_CARD = "finds no CUDA card"  # of `run_check`; nothing else makes sense then
_NOISE = "USDT:"  # torch's profiler


@dataclass(frozen=True)
class Part:
    """One part: the module of `card_parts` with a function `run_NAME`, and the seconds after which it is killed."""

    module: str
    limit_s: int
    measures: str


PARTS = {
    "check": Part("machine_check", 40, "what is there: torch, card, driver, PyAV, cores, disk"),
    "a": Part("equality", 45, "T, S, B in fp32, bf16, fp16 on the card against fp32 on the processor"),
    "b": Part(
        "speed", 90, "clips a second at batch 1 to 64: torchvision, vtag, CUDA graphs; attention's kernel"
    ),
    "c": Part("transfer", 20, "clips to the card: pageable, pinned, registered, with a copy stream"),
    "d": Part("decoding", 60, "1080p in H.264 and HEVC on the card and on the processor, one file and eight"),
    "e": Part(
        "scanning", 85, "`vtag scan` of 1080p from end to end: hours of video an hour, and what limits it"
    ),
    "f": Part("memory", 25, "too little memory on purpose"),
    "g": Part("training", 50, "a training step of T and B beside torchvision's module"),
    "compile": Part("speed", 60, "the same as b, compiled"),
    "h": Part("starter", 30, "the starter's recipe for --minutes"),
}  # in the order in which they run


def run_part(name: str, results: Path, options: argparse.Namespace) -> None:
    """Run a part in this process; its report is written to `results`."""
    from card_parts.report import CARD, TINY, Report

    module = importlib.import_module(f"card_parts.{PARTS[name].module}")
    report = Report(results)
    arguments: dict[str, Any] = {}
    if name == "h":
        packed = Path(options.packages) / "starter" if options.packages else None
        out = Path(options.out) if options.out else None
        arguments = {"minutes": options.minutes, "packed": packed, "out": out}
    getattr(module, f"run_{name}")(report, TINY if options.dry else CARD, **arguments)
    report.finish("done")


def run_child(name: str, results: Path, limit_s: float, environment: dict[str, str], *options: str) -> None:
    """Run a part in a process of its own, which is killed after `limit_s`. Its report says how it ended."""
    command = [sys.executable, __file__, "--run-part", name, "--results", str(results), *options]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, env=environment, stderr=errors, process_group=0)
        try:
            status = _status_text(process.wait(limit_s))
        except subprocess.TimeoutExpired:
            status = f"killed at its limit of {limit_s:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started, too
            process.wait()
        errors.seek(0)
        lines = [line for line in errors.read().splitlines() if not line.startswith(_NOISE)]
    ended = {"status": status, "seconds": time.monotonic() - started, "errors": lines[-_KEPT_LINES:]}
    results.write_text(json.dumps({**read_report(results), **ended}))


def _status_text(code: int) -> str:
    return "done" if code == 0 else f"failed, exit status {code}"


def read_report(results: Path) -> dict[str, Any]:
    """What a part reported so far."""
    empty: dict[str, Any] = {"status": "no report", "seconds": 0.0, "lines": [], "tables": [], "errors": []}
    return {**empty, **(json.loads(results.read_text()) if results.exists() else {})}


def print_report(name: str, report: dict[str, Any]) -> None:
    """A part's report as Markdown."""
    print(f"\n## {name}: {PARTS[name].measures} ({report['status']}, {report['seconds']:.0f} s)\n")
    for line in report["lines"]:
        print(f"- {line}")
    for table in report["tables"]:
        print(f"\n| {' | '.join(table['head'])} |\n|{'---|' * len(table['head'])}")
        for row in table["rows"]:
            print(f"| {' | '.join(map(str, row))} |")
    for line in report["errors"] if report["status"] != "done" else report["errors"][-3:]:
        print(f"> {line}")
    sys.stdout.flush()


def run_all(names: list[str], options: argparse.Namespace, work: Path) -> dict[str, dict[str, Any]]:
    """Run the parts one after the other; returns their reports. All of them together stay below the time limit."""
    started = time.monotonic()
    reports: dict[str, dict[str, Any]] = {}
    is_installed = options.dry and not options.packages
    environment = dict(os.environ) if is_installed else packages.install(options.packages, work)
    flags = ["--minutes", str(options.minutes), *(["--dry"] if options.dry else [])]
    for option in ("packages", "out"):
        if folder := getattr(options, option):
            flags += [f"--{option}", str(Path(folder).absolute())]
    if options.out:
        Path(options.out).mkdir(parents=True, exist_ok=True)
    if options.dry:
        print("A dry run: tiny sizes on the processor. No number says anything about a card.")
    for name in names:
        results = work / f"{name}.json"
        left_s = options.total + 60 * options.minutes - (time.monotonic() - started)
        extra_s = 60 * options.minutes if name == "h" else 0
        if options.dry and not options.children:
            run_part(name, results, options)
        elif left_s > 1:
            limit_s = min(PARTS[name].limit_s + extra_s, left_s)
            run_child(name, results, limit_s, environment, *flags)
        reports[name] = read_report(results)
        print_report(name, reports[name])
        if options.out:
            (Path(options.out) / "card.json").write_text(json.dumps(reports, indent=1))
        if any(_NO_CARD in line for line in reports[name]["errors"]):
            break
    print(f"\n{time.monotonic() - started:.0f} s in all")
    return reports


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--prepare", metavar="FOLDER", type=Path, help="fill a folder with the wheels, and end"
    )
    parser.add_argument("--python", default="3.12", help="of the machine with the card, for --prepare")
    parser.add_argument(
        "--starter", action="store_true", help="with --prepare: what part h needs, not the rest"
    )
    parser.add_argument(
        "--list", action="store_true", help="what is measured and how long it may take, and end"
    )
    parser.add_argument("--packages", metavar="FOLDER", help="what --prepare filled")
    parser.add_argument("--part", default=",".join(PARTS), help="of: %(default)s")
    parser.add_argument("--out", metavar="FOLDER", help="for card.json")
    parser.add_argument("--total", type=float, default=_TOTAL_S, help="seconds for all parts but h")
    parser.add_argument("--minutes", type=float, default=0.0, help="of the starter's recipe, in part h")
    parser.add_argument("--dry", action="store_true", help="tiny, on the processor")
    parser.add_argument(
        "--children", action="store_true", help="with --dry: each part in a process of its own"
    )
    parser.add_argument("--run-part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.part.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    if options.packages and not Path(options.packages).is_dir():
        parser.error(f"there is no folder {options.packages}: --prepare makes it")
    if options.dry:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of tiny work only wait for each other
    if options.prepare:
        packages.prepare(options.prepare, options.python, starter=options.starter)
    elif options.list:
        print("| part | seconds at most | what |\n|---|---|---|")
        for name, part in PARTS.items():
            limit = f"{part.limit_s}{' + --minutes' if name == 'h' else ''}"
            print(f"| {name} | {limit} | {part.measures} |")
        print(f"\nAll together end after {_TOTAL_S} s (--total), but for the minutes of h.")
    elif options.run_part:
        run_part(options.run_part, options.results, options)
    else:
        with tempfile.TemporaryDirectory(prefix="vtag-card-") as work:
            reports = run_all(names, options, Path(work))
        return 0 if all(report["status"] == "done" for report in reports.values()) else 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
