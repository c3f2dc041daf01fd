"""Scans videos: finds them, plans, decodes, runs the model and stores. Yields events and prints nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vtag.engine.backends.batch_size import batch_size
from vtag.engine.checkpoints.load import Checkpoint
from vtag.engine.errors import LibraryError
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import heads, runs
from vtag.engine.scan.discover import Discovery, discover
from vtag.engine.scan.estimate import VideoLengths, measure_speed, speed_key
from vtag.engine.scan.events import ScanEvent, ScanFinished, ScanPlanned
from vtag.engine.scan.ignore import PathFilter
from vtag.engine.scan.options import ScanOptions, scan_sampling
from vtag.engine.scan.pipeline import (
    DECODE_MEMORY_BYTES,
    OpenPipeline,
    open_backends_for_scan,
    open_local_pipeline,
)
from vtag.engine.scan.plan import ScanPlan, make_plan, planned_event
from vtag.engine.scan.runner import ScanRunner
from vtag.engine.scan.shard import take_shard
from vtag.engine.system.clock import active_seconds
from vtag.engine.video.decode.pool import DecodePool


def scan(
    library: LibraryWriter,
    paths: list[bytes],
    checkpoint: Checkpoint,
    options: ScanOptions,
    open_pipeline: OpenPipeline = open_local_pipeline,
) -> Iterator[ScanEvent]:
    """Scan all videos at and below `paths` that were not scanned with this backbone and sampling.

    `checkpoint` has to be registered in the library (`model_selection.register_model`). A video is stored in one
    transaction, so an interrupted scan leaves only complete results. Raises VtagError if the scan as a whole cannot
    run; a video that cannot be read is an event.
    """
    started = active_seconds()
    spec = checkpoint.spec
    sampling = scan_sampling(spec, options)
    discovery = discover(paths, PathFilter(options.include, options.exclude), options.postpone)
    if options.shard:
        discovery.files = take_shard(discovery.files, discovery.roots, options.shard)
    plan = make_plan(
        library,
        discovery,
        backbone_hash=spec.backbone_hash,
        sampling_key=sampling.key(),
        force=options.force,
        retry_failed=options.retry_failed,
        record=not options.dry_run,
    )
    if options.dry_run:
        yield _estimate(library, plan, discovery, checkpoint, options)
        yield _finished_dry_run(plan, discovery, started)
        return
    head = _use_head(library, checkpoint, options)
    runner = ScanRunner(library, checkpoint, head, options, sampling, plan, discovery, started, open_pipeline)
    if plan.tasks or not options.is_watch:
        runner.run_id = runs.start(library, "scan", b" ".join(paths).decode("utf-8", "backslashreplace"))
    state = "failed"
    try:
        yield from runner.run()
        state = "done"
    except (KeyboardInterrupt, GeneratorExit):
        state = "interrupted"
        raise
    finally:
        runner.report()
        runs.finish(library, runner.run_id, state)
    yield runner.summary()  # after the row is finished, since the caller may stop iterating here


def _use_head(library: LibraryWriter, checkpoint: Checkpoint, options: ScanOptions) -> heads.Head:
    """Make the model the library's own, with the threshold of `options`; returns its head.

    Raises LibraryError if the model is not registered.
    """
    model_id = heads.find_model_by_hashes(library, checkpoint.spec.backbone_hash, checkpoint.spec.head_hash)
    if model_id is None:
        raise LibraryError("the model is not registered in this library")
    if options.threshold is not None:
        heads.set_model_threshold(
            library, model_id, None if options.threshold == "auto" else options.threshold
        )
    heads.use_model(library, model_id)
    return heads.load_head(library, model_id)


def _estimate(
    library: LibraryWriter, plan: ScanPlan, discovery: Discovery, checkpoint: Checkpoint, options: ScanOptions
) -> ScanPlanned:
    """The plan of a dry run. If the model's speed is unknown, it is timed on blank clips."""
    lengths, speed = VideoLengths(plan.tasks), None
    if plan.tasks:
        sampling = scan_sampling(checkpoint.spec, options)
        speed = runs.last_speed(library, speed_key(checkpoint.spec, sampling))
        with DecodePool(workers=os.cpu_count() or 1, memory_bytes=DECODE_MEMORY_BYTES) as pool:
            lengths.request(pool)
            if speed is None:
                backends = open_backends_for_scan(checkpoint, options, sampling)
                clips = max(1, batch_size(backends[0].device, "scan") // sampling.view_count)
                speed = measure_speed(backends[0], sampling, clips) * len(backends)
            lengths.wait(pool)
    return planned_event(plan, discovery, lengths.total_ms, speed)


def _finished_dry_run(plan: ScanPlan, discovery: Discovery, started: float) -> ScanFinished:
    return ScanFinished(
        scanned=0,
        skipped=plan.skipped,
        known_failed=plan.known_failed,
        failed=tuple(plan.unreadable),
        windows=0,
        video_ms=0,
        wall_s=active_seconds() - started,
        excluded=tuple(discovery.excluded),
    )
