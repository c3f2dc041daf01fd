"""What the page asks every second or two: what runs, whether the library changed, and what can be undone."""

from __future__ import annotations

import sqlite3
from typing import Any

from fastapi import APIRouter

from vtag.app.ui.api.context import PageContext
from vtag.app.ui.api.jobs_json import jobs_as_json
from vtag.app.ui.change_texts import describe_change
from vtag.engine.library import page_queries
from vtag.engine.library.annotations import undo_redo
from vtag.engine.library.annotations.annotation_log import AnnotationChange
from vtag.engine.library.store.runs import recent_runs

_RUNS = 20


def build_router(context: PageContext) -> APIRouter:
    """The route `api/state`."""
    router = APIRouter(prefix="/api")

    @router.get("/state")
    def state() -> dict[str, Any]:
        """The revision of the library, its jobs, and the changes that Undo and Redo would act on."""
        with context.reader() as reader:
            runs = recent_runs(reader, _RUNS)
            undoable = undo_redo.undoable_change(reader)
            redoable = undo_redo.redoable_change(reader)
            return {
                "revision": page_queries.revision(reader),
                "is_empty": page_queries.is_empty(reader),
                "was_scanned": any(run.kind == "scan" for run in runs),
                "jobs": jobs_as_json(context.queue, runs, context.activities),
                "undo": _change_as_json(reader, undoable),
                "redo": _change_as_json(reader, redoable),
            }

    return router


def _change_as_json(reader: sqlite3.Connection, change: AnnotationChange | None) -> dict[str, Any] | None:
    return {"id": change.id, "text": describe_change(reader, change)} if change else None
