"""The engine: video reading, the model and its backends, checkpoints, the catalogue, the library, the scan.

The public names are looked up when they are first used, so that reading the library imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtag.engine.backends.factory import open_backend
    from vtag.engine.backends.protocol import Backend, Output
    from vtag.engine.swin.config import ModelSpec

__all__ = ["Backend", "ModelSpec", "Output", "open_backend"]

_HOMES = {
    "Backend": "vtag.engine.backends.protocol",
    "ModelSpec": "vtag.engine.swin.config",
    "Output": "vtag.engine.backends.protocol",
    "open_backend": "vtag.engine.backends.factory",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
