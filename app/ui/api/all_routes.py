"""All JSON routes and all long calls of the page."""

from __future__ import annotations

from fastapi import FastAPI

from vtag.app.ui.api import (
    corrections,
    library,
    moment_files,
    moments,
    overview,
    scan,
    state,
    teach,
    tools,
    videos,
)
from vtag.app.ui.api.context import PageContext
from vtag.app.ui.api.errors import add_error_handlers
from vtag.app.ui.long_calls import mount_long_calls

_ROUTERS = (corrections, library, moment_files, moments, overview, scan, state, teach, videos)
_LONG_CALLS = (moment_files, scan, teach, tools)


def add_api(app: FastAPI, context: PageContext) -> None:
    """Add the routes below `api/`, the long calls, and the answers to errors."""
    add_error_handlers(app)
    for module in _ROUTERS:
        app.include_router(module.build_router(context))
    mount_long_calls(
        app, [call for module in _LONG_CALLS for call in module.long_calls(context)], context.activities
    )
