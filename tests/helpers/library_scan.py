"""A scan as a library call, and a file that a tagger rewrote."""

from __future__ import annotations

import os
from pathlib import Path

import av

from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.library.database import LibraryWriter
from vtag.engine.scan.events import ScanFinished
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.scan import scan


def run_scan(library: LibraryWriter, model: Path, *paths: Path) -> ScanFinished:
    checkpoint = load_checkpoint(model)
    register_model(library, checkpoint, str(model))
    events = list(scan(library, [os.fsencode(p) for p in paths], checkpoint, ScanOptions(threshold=0.05)))
    done = events[-1]
    assert isinstance(done, ScanFinished) and not done.failed
    return done


def rewrite_metadata(path: Path, title: str) -> None:
    """What a tagger does: the same packets in a new container with other metadata, under the same name."""
    new = path.with_name(f"tagged-{path.name}")
    with av.open(str(path)) as source, av.open(str(new), "w") as target:
        target.metadata["title"] = title
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    new.replace(path)
