"""The options of a scan, and the sampling that follows from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vtag.engine.errors import ModelError
from vtag.engine.scan.discover import DiscoveredFile
from vtag.engine.scan.shard import Shard
from vtag.engine.swin.config import ModelSpec
from vtag.engine.video.read.sampling import Sampling

# the stride as a multiple of the window's length (None: the sampling's default), and the view
_EFFORTS = {"fast": (2.0, "center"), "normal": (None, "center"), "thorough": (0.5, "full")}


@dataclass(frozen=True)
class ScanOptions:
    """How to scan. If a value is None or "auto", the model and the machine decide."""

    backend: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    stride_s: float | None = None
    view: str | None = None
    threshold: float | Literal["auto"] | None = None  # auto: the model's own again; None: leave it as it is
    force: bool = False  # scan again what was scanned before
    retry_failed: bool = False
    dry_run: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    postpone: Callable[[DiscoveredFile], bool] = lambda _: False  # files that are still being written
    is_watch: bool = False  # a watch adds a row to `runs` only if there is something to scan
    effort: str = "normal"  # fast, normal or thorough: the stride and the view, unless they are given
    passes: int | None = None  # stop after this many; None: three for an hour of video or more, else one
    skip_static: bool = False  # skip windows in which the picture does not change
    nice: bool = False  # on a CPU, lower the process's priority
    shard: Shard | None = None  # scan only this part of the files


def scan_sampling(spec: ModelSpec, options: ScanOptions) -> Sampling:
    """Which windows and pixels a scan with `options` gives to a model. Raises ModelError if they do not fit."""
    window_lengths, view = _EFFORTS[options.effort]
    stride_s = options.stride_s
    if stride_s is None and window_lengths is not None:
        stride_s = window_lengths * spec.frames / spec.rate
    try:
        return Sampling.create(
            spec.frames,
            spec.rate,
            stride_s=stride_s,
            view=options.view or view,
            short_side=spec.short_side,
            crop=spec.crop,
        )
    except ValueError as error:
        raise ModelError(str(error)) from error
