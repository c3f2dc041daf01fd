"""Video, models, backends, checkpoints, the library and the scan. Imports assets; never app or trainer.

The names below are for other programs (docs/python.md). They are imported when they are first used, so that importing
this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtag.engine.backends.factory import open_backend
    from vtag.engine.backends.protocol import Backend, Output
    from vtag.engine.clips import read_clips
    from vtag.engine.errors import VtagError
    from vtag.engine.library.search.moments import Moment
    from vtag.engine.python_library import Library, VideoFeatures
    from vtag.engine.scan.events import ScanEvent, ScanFinished, ScanProgress, VideoScanFailed, VideoScanned
    from vtag.engine.scan.options import ScanOptions
    from vtag.engine.swin.config import ModelSpec
    from vtag.engine.video.read.reader import Clip

__all__ = [
    "Backend",
    "Clip",
    "Library",
    "ModelSpec",
    "Moment",
    "Output",
    "ScanEvent",
    "ScanFinished",
    "ScanOptions",
    "ScanProgress",
    "VideoFeatures",
    "VideoScanFailed",
    "VideoScanned",
    "VtagError",
    "open_backend",
    "read_clips",
]

_MODULES = {
    "Backend": "vtag.engine.backends.protocol",
    "Clip": "vtag.engine.video.read.reader",
    "Library": "vtag.engine.python_library",
    "ModelSpec": "vtag.engine.swin.config",
    "Moment": "vtag.engine.library.search.moments",
    "Output": "vtag.engine.backends.protocol",
    "ScanEvent": "vtag.engine.scan.events",
    "ScanFinished": "vtag.engine.scan.events",
    "ScanOptions": "vtag.engine.scan.options",
    "ScanProgress": "vtag.engine.scan.events",
    "VideoFeatures": "vtag.engine.python_library",
    "VideoScanFailed": "vtag.engine.scan.events",
    "VideoScanned": "vtag.engine.scan.events",
    "VtagError": "vtag.engine.errors",
    "open_backend": "vtag.engine.backends.factory",
    "read_clips": "vtag.engine.clips",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted((*globals(), *__all__))
