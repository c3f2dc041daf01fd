"""Video, models, backends, checkpoints, the library and the scan. Imports assets; never app or trainer.

The public names are imported when they are first used, so reading the library imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtag.engine.backends.factory import open_backend
    from vtag.engine.backends.protocol import Backend, Output
    from vtag.engine.swin.config import ModelSpec

__all__ = ["Backend", "ModelSpec", "Output", "open_backend"]

_MODULES = {
    "Backend": "vtag.engine.backends.protocol",
    "ModelSpec": "vtag.engine.swin.config",
    "Output": "vtag.engine.backends.protocol",
    "open_backend": "vtag.engine.backends.factory",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
