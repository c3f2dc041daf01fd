"""The scan: discovers, plans, decodes, looks and keeps; yields events and prints nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vtag.engine.checkpoints.load import Checkpoint
from vtag.engine.errors import ModelError
from vtag.engine.library.database import Library
from vtag.engine.library.store import runs
from vtag.engine.scan.discover import Discovery, discover
from vtag.engine.scan.estimate import Lengths, measured_speed
from vtag.engine.scan.events import Event, Finished, Planned
from vtag.engine.scan.ignore import Only
from vtag.engine.scan.plan import Plan, make_plan
from vtag.engine.scan.runner import (
    DECODE_MEMORY_BYTES,
    Looking,
    ScanOptions,
    looked_by,
    opened,
    planned,
    views_at_once,
)
from vtag.engine.swin.config import ModelSpec
from vtag.engine.system.clock import active_seconds
from vtag.engine.video.decode.pool import DecodePool
from vtag.engine.video.read.sampling import Sampling

_EFFORTS = {"fast": (2.0, "center"), "normal": (None, "center"), "thorough": (0.5, "full")}  # lengths, view


def sampling_of(spec: ModelSpec, options: ScanOptions) -> Sampling:
    """Which instants and pixels a scan with `options` looks at for a model. Raises ModelError."""
    lengths, view = _EFFORTS[options.effort]
    stride_s = options.stride_s
    if stride_s is None and lengths is not None:
        stride_s = lengths * spec.frames / spec.rate
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


def scan(
    library: Library, paths: list[bytes], checkpoint: Checkpoint, options: ScanOptions
) -> Iterator[Event]:
    """Look at all videos below `paths` that the library has not seen with this backbone and sampling.

    `checkpoint` has to be remembered by the library (`choice.remember`). Each video is one transaction: what an
    interruption leaves is whole. Raises VtagError where the scan as such cannot run; a video that cannot be read
    is an event.
    """
    started = active_seconds()
    spec = checkpoint.spec
    sampling = sampling_of(spec, options)
    found = discover(paths, Only(options.include, options.exclude), options.leave)
    plan = make_plan(
        library,
        found,
        backbone_hash=spec.backbone_hash,
        sampling_key=sampling.key(),
        force=options.force,
        retry_failed=options.retry_failed,
        record=not options.dry_run,
    )
    if options.dry_run:
        yield _only_planned(library, plan, found, checkpoint, options)
        yield _nothing_done(plan, found, started)
        return
    running = Looking(library, checkpoint, options, sampling, plan, found, started)
    if plan.tasks or not options.watching:
        running.run_id = runs.start(library, "scan", b" ".join(paths).decode("utf-8", "backslashreplace"))
    state = "failed"
    try:
        yield from running.run()
        state = "done"
    except (KeyboardInterrupt, GeneratorExit):
        state = "interrupted"
        raise
    finally:
        running.report()
        runs.finish(library, running.run_id, state)
    yield running.sum()  # when the row says so, too: whoever asked may stop listening here


def _only_planned(
    library: Library, plan: Plan, found: Discovery, checkpoint: Checkpoint, o: ScanOptions
) -> Planned:
    """What there is to do where it will not be done; a model whose speed nobody knows is timed on blank clips."""
    lengths, speed = Lengths(plan.tasks), None
    if plan.tasks:
        sampling = sampling_of(checkpoint.spec, o)
        speed = runs.last_speed(library, looked_by(checkpoint.spec, sampling))
        with DecodePool(workers=os.cpu_count() or 1, memory_bytes=DECODE_MEMORY_BYTES) as pool:
            lengths.ask(pool)
            if speed is None:
                backend = opened(checkpoint, o, sampling)
                speed = measured_speed(
                    backend, sampling, max(1, views_at_once(backend) // sampling.view_count)
                )
            lengths.wait(pool)
    return planned(plan, found, lengths.total_ms, speed)


def _nothing_done(plan: Plan, found: Discovery, started: float) -> Finished:
    return Finished(
        scanned=0,
        skipped=plan.skipped,
        known_failed=plan.known_failed,
        failed=tuple(plan.unreadable),
        windows=0,
        video_ms=0,
        wall_s=active_seconds() - started,
        left_out=tuple(found.left_out),
    )
