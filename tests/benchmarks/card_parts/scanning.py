"""`vtag scan` from end to end on generated 1080p: hours of video an hour, and which part is the limit."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from scan import Scan

from card_parts.footage import make_videos
from card_parts.report import Report, Scale
from vtag.engine.backends.cuda_forward import FORWARD_VARIABLE
from vtag.engine.checkpoints.model_folder import save_model_folder
from vtag.engine.video.read.card_decoder import DECODER_VARIABLE

_SIZES = ("t", "b")
_WAYS = {  # the most telling first: the time limit may end the rest
    "as it is": {},
    "decoded on the card": {DECODER_VARIABLE: "cuda"},
    "decoded on the card, CUDA graphs": {DECODER_VARIABLE: "cuda", FORWARD_VARIABLE: "graphs"},
}


def run_e(report: Report, scale: Scale) -> None:
    """Every way with Swin-T, then the last one with Swin-B. Each scan has a library of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        videos = folder / "videos"
        make_videos(videos, scale, codec="libx264", count=scale.videos, seconds=scale.video_s)
        video_s = scale.videos * scale.video_s
        width, height = scale.picture
        table = report.table(
            f"{scale.videos} videos of {scale.video_s:.0f} s, {width} x {height}",
            *("windows", "seconds", "hours of video an hour", "the whole command, seconds", "profile"),
        )
        for size in _SIZES if scale.has_card else _SIZES[:1]:
            model = folder / f"model-{size}"
            save_model_folder(scale.checkpoint(size), model)
            for name, variables in _ways(size, scale):
                os.environ.update(variables)
                home = folder / f"home {size} {name}"
                options = ("--model", model, "--device", scale.device, "--precision", scale.precision)
                scan = Scan(home, videos, *options)
                for variable in variables:
                    del os.environ[variable]
                table.add(
                    f"Swin-{size.upper()}, {name}",
                    scan.sum["windows"],
                    f"{scan.looking_s:.1f}",
                    f"{video_s / max(scan.looking_s, 1e-3):.0f}",
                    f"{scan.wall_s:.1f}",
                    scan.profile,
                )


def _ways(size: str, scale: Scale) -> list[tuple[str, dict[str, str]]]:
    """The ways that are measured; in a dry run one, which falls back."""
    ways = list(_WAYS.items())
    if not scale.has_card:
        return ways[-1:]
    return ways if size == "t" else ways[-1:]
