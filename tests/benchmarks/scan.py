"""Scanning from end to end: 1080p beside a plain loop, coarse first, and memory; Markdown on stdout.

    python tests/benchmarks/scan.py [--part whole,efforts,coarse,memory] [--seconds 60] [--videos 200]

Every scan is the command line in a process and a home of its own. Swin-T has random weights: they take as long.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from machine import facts, median_s, print_table, torchvision_swin3d
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.footage import disc_frame, make_video

from vtag.engine.backends.factory import open_backend
from vtag.engine.checkpoints.checkpoint import with_hashes
from vtag.engine.checkpoints.load import save_model_folder
from vtag.engine.models.registry import STARTER
from vtag.engine.swin.architecture import VideoSwin
from vtag.engine.swin.config import IMAGENET_MEAN, IMAGENET_STD, ModelSpec, SwinSizes
from vtag.engine.video.read.reader import read_clips
from vtag.engine.video.read.sampling import Sampling

SWIN_T = SwinSizes(96, (2, 2, 6, 2), (3, 6, 12, 24), 400)


class Scan:
    """A `vtag scan` that ran: what it said, how long it took, the most memory of its processes together."""

    def __init__(self, home: Path, *arguments: str | float | Path) -> None:
        self._environment = {**os.environ, "VTAG_HOME": str(home)}
        command = self._command("scan", *arguments, "--json", "--profile", "--no-nice")
        self.peak_mb, started = 0.0, time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._environment
        ) as process:
            watcher = threading.Thread(target=self._watch, args=(process,))
            watcher.start()
            out, self.said = process.communicate()
            watcher.join()
        self.wall_s = time.perf_counter() - started
        if process.returncode not in (0, 3):
            raise SystemExit(self.said)
        self.sum: dict[str, Any] = json.loads(out)
        self.profile = next((line for line in self.said.splitlines() if line.startswith("of ")), "")

    @property
    def looking_s(self) -> float:
        """Seconds from the first clip to the last: without starting, loading and planning."""
        return _seconds(self.profile[3 : self.profile.index(":")])

    def moments(self, query: str) -> list[dict[str, Any]]:
        """What a search finds now."""
        command = self._command("search", query, "--json", "--limit", "100000")
        found = subprocess.run(command, capture_output=True, text=True, env=self._environment)
        return list(json.loads(found.stdout or "[]"))

    def _command(self, *arguments: str | float | Path) -> list[str]:
        return [sys.executable, "-m", "vtag.app", *map(str, arguments)]

    def _watch(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None:
            self.peak_mb = max(self.peak_mb, _resident_mb(process.pid))
            time.sleep(0.5)


def _resident_mb(pid: int) -> float:
    """Of a process and its children; what several share is divided among them."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    own = next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return own / 1024 + sum(_resident_mb(int(child)) for child in children)


def make_swin_t(folder: Path) -> Path:
    spec = ModelSpec("swin-t-random", SWIN_T, tuple(f"class {i}" for i in range(400)), 32, 15.0)
    save_model_folder(with_hashes(spec, VideoSwin(SWIN_T).arrays()), folder)
    return folder


def as_plain_loop(file: Path) -> tuple[str, float]:
    """The plain loop's model, and its seconds a window: in a process of its own, without our settings of malloc."""
    run = subprocess.run(
        [sys.executable, __file__, "--plain", file], capture_output=True, text=True, check=True
    )
    told = json.loads(run.stdout)
    return told["model"], told["seconds"] / max(1, told["windows"])


def measure_plain_loop(file: Path) -> None:
    peer = torchvision_swin3d("swin3d_t") or VideoSwin(SWIN_T).eval()
    is_theirs = not isinstance(peer, VideoSwin)
    work = peer if is_theirs else lambda clip: peer(clip.permute(0, 2, 3, 4, 1))
    started = time.perf_counter()
    windows = plain_loop(file, work)
    seconds = time.perf_counter() - started
    model = "torchvision" if is_theirs else "vtag's plain module"
    print(json.dumps({"model": model, "windows": windows, "seconds": seconds}))


def plain_loop(file: Path, model: Any) -> int:
    """What a person writes first: PyAV, every frame to RGB, torchvision's preset, a clip at a time."""
    frames, clips = [], 0
    mean = torch.tensor(IMAGENET_MEAN)[:, None, None, None]
    std = torch.tensor(IMAGENET_STD)[:, None, None, None]
    with av.open(str(file)) as container, torch.inference_mode():
        for number, frame in enumerate(container.decode(video=0)):
            if number % 2 == 0:
                frames.append(torch.from_numpy(frame.to_ndarray(format="rgb24")))
            if len(frames) == 32:
                clip = torch.stack(frames).permute(0, 3, 1, 2).float()
                height, width = clip.shape[2:]
                size = (256, round(width * 256 / height))
                clip = F.interpolate(clip, size=size, mode="bilinear", antialias=True)
                left = (size[1] - 224) // 2
                clip = clip[:, :, 16:240, left : left + 224].permute(1, 0, 2, 3)
                model(((clip - mean) / std)[None])
                frames, clips = [], clips + 1
    return clips


def whole(folder: Path, seconds: float) -> None:
    """1080p from end to end, beside what the model and decoding take alone, and beside the plain loop."""
    videos = folder / "videos"
    videos.mkdir()
    options = {"preset": "veryfast", "crf": "30"}
    drawn = [disc_frame(t / 30, 1920, 1080) for t in range(30)]  # the same second again and again
    files = [
        make_video(
            videos / f"{i}.mp4",
            seconds=seconds / 2,
            width=1920,
            height=1080,
            draw=lambda n, i=i: drawn[(n + i) % len(drawn)],
            options=options,
        )
        for i in range(2)
    ]
    model = make_swin_t(folder / "model")
    scan = Scan(folder / "home", videos, "--model", model)
    backend = open_backend(model, device="auto")
    some = np.zeros((os.cpu_count() or 1, 32, 224, 224, 3), np.uint8)
    clip_s = median_s(lambda: backend.run(some), 5) / len(some)
    sampling = Sampling.create(32, 15.0)
    started = time.process_time()
    clips = sum(sum(1 for _ in read_clips(os.fsencode(file), sampling)) for file in files)
    decode_s = time.process_time() - started
    cores = os.cpu_count() or 1
    ideal_s = clips * clip_s + (decode_s / cores if backend.device == "cpu" else 0)
    looking_s = scan.looking_s
    theirs, peer_s = as_plain_loop(files[0])
    length = f"{seconds:.0f} s of 1080p, {clips} windows"
    print_table(
        [f"{length}, {backend.device}, {backend.precision}", "seconds", "a window"],
        [
            ["model alone", f"{clips * clip_s:.1f}", f"{clip_s:.2f}"],
            [
                f"decoding, processor time ({cores} cores share it)",
                f"{decode_s:.1f}",
                f"{decode_s / clips:.2f}",
            ],
            ["model + decoding / cores", f"{ideal_s:.1f}", f"{ideal_s / clips:.2f}"],
            ["`vtag scan`, looking", f"{looking_s:.1f}", f"{looking_s / clips:.2f}"],
            ["share of the possible", f"{ideal_s / looking_s:.0%}", ""],
            ["`vtag scan`, the whole command", f"{scan.wall_s:.1f}", f"{scan.wall_s / clips:.2f}"],
            [f"plain loop (PyAV, {theirs}, as installed)", "", f"{peer_s:.2f}"],
            ["times as fast as the plain loop", f"{peer_s * clips / looking_s:.1f}", ""],
        ],
    )
    print(f"{scan.profile}; peak memory of all processes {scan.peak_mb:.0f} MB\n")


def _seconds(span: str) -> float:
    """`1 min 02 s` or `3.4 s`."""
    factors = {"h": 3600, "min": 60, "s": 1}
    words = span.split()
    return sum(float(n) * factors[unit] for n, unit in zip(words[::2], words[1::2], strict=True))


def efforts(folder: Path, seconds: float) -> None:
    """What each effort costs: 1080p through Swin-T."""
    drawn = [disc_frame(t / 30, 1920, 1080) for t in range(30)]
    file = make_video(
        folder / "efforts.mp4",
        seconds=seconds,
        width=1920,
        height=1080,
        draw=lambda n: drawn[n % len(drawn)],
        options={"preset": "veryfast", "crf": "30"},
    )
    model = make_swin_t(folder / "model for efforts")
    scans = {
        effort: Scan(folder / f"home {effort}", file, "--model", model, "--effort", effort)
        for effort in ("normal", "fast", "thorough")
    }
    usual_s = scans["normal"].looking_s
    print_table(
        [f"Swin-T, {seconds:.0f} s of 1080p", "windows", "looking, seconds", "times the cost of normal"],
        [
            [name, scan.sum["windows"], f"{scan.looking_s:.1f}", f"{scan.looking_s / usual_s:.2f}"]
            for name, scan in scans.items()
        ],
    )


def coarse(folder: Path, videos: int, clips: Path | None) -> None:
    """Time until everything can be searched, and how much of the full scan's moments the first pass finds."""
    generated = folder / "generated"
    generated.mkdir()
    lengths = np.random.default_rng(0).lognormal(3.2, 1.0, videos).clip(3, 300)
    for i, seconds in enumerate(lengths):
        draw = scenes(float(seconds), fps=8, seed=i)
        make_video(generated / f"{i}.mp4", seconds=float(seconds), width=160, height=120, fps=8, draw=draw)
    rows = []
    # drawn footage shows no action: only a low threshold makes moments of it
    places = (("real clips", clips, 0.3), (f"{videos} generated videos", generated, 0.1))
    for name, place, threshold in places:
        if place is None or not place.is_dir():
            rows.append([name, "not measured: not here", "", "", "", ""])
            continue
        home = folder / f"home {name}"
        first = Scan(home, place, "--model", STARTER, "--threshold", threshold, "--passes", "1")
        labels = " OR ".join(f'"{label}"' for label in open_backend(STARTER).spec.labels[:-1])
        soon = first.moments(labels)
        rest = Scan(home, place)
        found = rest.moments(labels)
        windows = first.sum["windows"] + rest.sum["windows"]
        rows.append(
            [
                name,
                f"{first.wall_s:.0f} s",
                f"{first.wall_s + rest.wall_s:.0f} s",
                f"{first.sum['windows']} of {windows}",
                f"{sum(any(_same(m, s) for s in soon) for m in found)} of {len(found)}",
                f"{len({m['path'] for m in soon} & {m['path'] for m in found})} of {len({m['path'] for m in found})}",
            ]
        )
    head = [
        "starter model",
        "searchable after",
        "seen whole after",
        "windows",
        "moments found by then",
        "videos found by then",
    ]
    print_table(head, rows)


def scenes(seconds: float, *, fps: int, seed: int) -> Callable[[int], np.ndarray]:
    """The frames of a video that is cut to another picture every few seconds."""
    rng = np.random.default_rng(seed)
    cuts = rng.exponential(8.0, 2 + int(seconds)).cumsum()
    return lambda i: disc_frame(i / fps, 160, 120, seed=1000 * seed + int(np.searchsorted(cuts, i / fps)))


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    overlap = min(one["end_ms"], other["end_ms"]) - max(one["start_ms"], other["start_ms"])
    return one["path"] == other["path"] and one["label"] == other["label"] and overlap > 0


def memory(folder: Path) -> None:
    """The most memory of scans of a minute, five and an hour of 1080p at a low rate, with Swin-T."""
    model = make_swin_t(folder / "model for memory")
    rows = []
    for name, seconds in (("a minute", 60), ("5 minutes", 300), ("an hour", 3600)):
        still = np.zeros((1080, 1920, 3), np.uint8)
        file = make_video(
            folder / f"{seconds}.mp4",
            seconds=seconds,
            fps=2,
            width=1920,
            height=1080,
            draw=lambda _, s=still: s,
        )
        scan = Scan(folder / f"home {seconds}", file, "--model", model)
        rows.append([name, scan.sum["windows"], f"{scan.peak_mb:.0f} MB"])
    print_table(["Swin-T, 1080p, looked at whole", "windows", "peak of all processes together"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", default="whole,efforts,coarse,memory")
    parser.add_argument("--seconds", type=float, default=60.0, help="of 1080p video")
    parser.add_argument("--videos", type=int, default=200)
    shared = os.environ.get("VTAG_SHARED", str(Path(__file__).parents[3] / "shared"))
    parser.add_argument("--clips", type=Path, default=Path(shared) / "clips")
    parser.add_argument("--plain", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        measure_plain_loop(options.plain)
        return
    print(facts(), end="\n\n")
    with tempfile.TemporaryDirectory(prefix="vtag-scan-") as temporary:
        folder = Path(temporary)
        if "whole" in options.part:
            whole(folder, options.seconds)
        if "efforts" in options.part:
            efforts(folder, options.seconds / 4)
        if "coarse" in options.part:
            coarse(folder, options.videos, options.clips)
        if "memory" in options.part:
            memory(folder)


if __name__ == "__main__":
    main()
