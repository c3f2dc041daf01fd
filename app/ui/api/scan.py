"""Scans: choosing folders, the cost before, starting, pausing and cancelling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from vtag.app.ui.api.context import PageContext
from vtag.app.ui.long_calls import LongCall
from vtag.app.ui.subprocess_command import run_for_json
from vtag.engine.jobs.job_queue import scan_arguments

_ESTIMATE_TIMEOUT_S = 120.0
_TOO_LONG = "these are so many files that counting them takes minutes: the scan shows its progress"


class ScanForm(BaseModel):
    """What a scan is asked for."""

    folders: list[str] = Field(max_length=100)
    model: str = Field("", max_length=1024)  # empty for the library's model
    stride_s: float | None = Field(None, ge=0.1, le=3600)
    view: Literal["center", "full", "three"] = "center"
    retry_failed: bool = False
    force: bool = False

    @property
    def paths(self) -> list[str]:
        """The folders, with the home folder in place of `~`."""
        return [str(Path(folder.strip()).expanduser()) for folder in self.folders if folder.strip()]

    def arguments(self, library: Path, *options: str) -> list[str]:
        """The arguments of `vtag` for this scan. Raises VtagError if a folder cannot be scanned."""
        arguments = [*options]
        if self.model:
            arguments += ["--model", self.model]
        if self.stride_s:
            arguments += ["--stride", str(self.stride_s)]
        if self.view != "center":
            arguments += ["--view", self.view]
        arguments += ["--retry-failed"] * self.retry_failed + ["--force"] * self.force
        return scan_arguments(library, self.paths, *arguments)


def long_calls(context: PageContext) -> list[LongCall]:
    """The calls about scans that take seconds."""

    def estimate(form: ScanForm) -> Iterator[dict[str, Any]]:
        arguments = form.arguments(context.library, "--dry-run", "--json")
        output = run_for_json(arguments, timeout_s=_ESTIMATE_TIMEOUT_S, timeout_message=_TOO_LONG)
        yield {"plan": output["plan"]}

    return [LongCall("estimate_scan", ScanForm, estimate)]
