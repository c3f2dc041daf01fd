"""The tools that `vtag mcp` offers to an assistant, by the official SDK of the Model Context Protocol.

A tool's name, docstring and parameters are what the assistant reads. An assistant may be misled by what it reads
elsewhere, so it can only read the library, and with permission add annotations, which can be undone, and write clips
into one folder. It cannot start a scan, name a folder, or have a video opened that was not scanned.
"""

from __future__ import annotations

import base64
import functools
import os
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field

from vtag.engine import Library
from vtag.engine.errors import VtagError
from vtag.engine.library import page_queries
from vtag.engine.library.database import open_reader
from vtag.engine.library.exports.json import moment_as_json, path_as_json
from vtag.engine.library.ranges import END_OF_TIME_MS
from vtag.engine.library.search.contents import require_content
from vtag.engine.library.search.moments import everyday_terms
from vtag.engine.library.store.runs import recent_runs
from vtag.engine.text import display_path, printable, to_json

_INSTRUCTIONS = (
    "vtag knows what happens in the videos on this machine: moments, each with a label, a time range and a score "
    "from 0 to 1. Times are milliseconds as a player shows them. Moments that are not `sure` are guesses. Scores and "
    "labels come from a model and may be wrong."
)
_MAX_MOMENTS = 200
_MAX_CLIPS = 50
_READ = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_WRITE = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)

Limit = Annotated[int, Field(ge=1, le=_MAX_MOMENTS, description="Maximum number of results.")]
VideoPath = Annotated[str, Field(description="Absolute path of a video, as other tools return it.")]
TimeMs = Annotated[int, Field(ge=0, lt=END_OF_TIME_MS)]
MomentId = Annotated[int, Field(ge=0, lt=1 << 53)]
PathBytes = Annotated[
    str | None, Field(description="`path_bytes` of the video, if other tools return it beside its path.")
]
Answer = dict[str, Any]
_P = ParamSpec("_P")


def build_server(db: Path | None, *, allow_write: bool, clips: Path | None) -> MCPServer[Any]:
    """The server; with `allow_write` it has tools that write, and clips go into the folder `clips`."""
    library = Library.open(db)
    server: MCPServer[Any] = MCPServer(
        "vtag", instructions=_INSTRUCTIONS, version=version("vtag"), log_level="WARNING"
    )
    reading = _ReadingTools(library)
    for tool in (reading.search, reading.show, reading.similar, reading.labels, reading.scanned):
        server.add_tool(_with_safe_text(tool), annotations=_READ)
    for tool in _writing_tools(library, clips) if allow_write else []:
        server.add_tool(_with_safe_text(tool), annotations=_WRITE)
    return server


def _with_safe_text(tool: Callable[_P, Answer]) -> Callable[_P, CallToolResult]:
    """A tool whose answer is data and, beside it, text in which nothing steers a terminal.

    The assistant can read its VtagErrors; it sees no text of another exception.
    """

    @functools.wraps(tool)  # the annotations, too, from which the SDK makes the schemas
    def call(*arguments: _P.args, **options: _P.kwargs) -> CallToolResult:
        try:
            answer = tool(*arguments, **options)
        except VtagError as error:
            raise ToolError(printable(str(error))) from error
        text = TextContent(type="text", text=to_json(answer, indent=2))
        return CallToolResult(content=[text], structured_content=answer)

    return call


def _exact_path(path: str, path_bytes: str | None) -> str:
    """The path that other tools returned as these two fields. Raises VtagError if the second is no base64."""
    if path_bytes is None:
        return path
    try:
        return os.fsdecode(base64.b64decode(path_bytes, validate=True))
    except ValueError:
        raise VtagError(
            "path_bytes is no base64: leave it out, or give it as other tools return it"
        ) from None


class _ReadingTools:
    """What an assistant may do in any case."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def search(
        self,
        query: Annotated[
            str,
            Field(
                description='Words of a label or an everyday phrase; "exact words"; AND, OR, NOT, THEN; filters '
                "such as score>0.6, after:2023-06, path:*holiday*, longer:5s. Empty: the best moment of each label."
            ),
        ] = "",
        limit: Limit = 20,
        sort: Literal["score", "date", "length"] = "score",
        less_sure: Annotated[
            Literal["none", "fill", "all"],
            Field(description="Guesses to add: none, up to ten moments in all (fill), or all."),
        ] = "fill",
    ) -> Answer:
        """Find moments in all videos, the sure ones first, best first."""
        moments = self._library.search(query, limit=limit, sort=sort, less_sure=less_sure)
        with closing(open_reader(self._library.path)) as reader:
            meanings = dict(everyday_terms(reader, query))
        return {"moments": [moment_as_json(moment) for moment in moments], "searched_as": meanings}

    def show(self, path: VideoPath, path_bytes: PathBytes = None) -> Answer:
        """The timeline of one video: all its moments by time."""
        file = _exact_path(path, path_bytes)
        moments = self._library.moments(file, less_sure="fill")
        return {**path_as_json(os.fsencode(file)), "moments": [moment_as_json(moment) for moment in moments]}

    def similar(
        self,
        path: VideoPath,
        at_ms: Annotated[
            TimeMs | None, Field(description="Time in the video; without it, the whole video.")
        ] = None,
        limit: Limit = 20,
        path_bytes: PathBytes = None,
    ) -> Answer:
        """Find moments that look like a moment of a scanned video, most similar first."""
        file = _exact_path(path, path_bytes)
        with closing(open_reader(self._library.path)) as reader:
            require_content(reader, os.path.abspath(os.fsencode(file)))  # else the video would be decoded
        return {
            "moments": [
                {
                    **path_as_json(moment.path),
                    "label": moment.label,
                    "start_ms": moment.start_ms,
                    "end_ms": moment.end_ms,
                    "similarity": round(moment.score, 4),
                }
                for moment in self._library.similar(file, at_ms, limit=limit)
            ]
        }

    def labels(
        self,
        containing: Annotated[str, Field(description="Part of a label; empty: all.")] = "",
    ) -> Answer:
        """The labels that the library knows, with their numbers of sure moments, most first."""
        counts = self._library.labels()
        return {"labels": {name: n for name, n in counts.items() if containing.casefold() in name.casefold()}}

    def scanned(self) -> Answer:
        """What the library covers: folders, number and length of the videos, models, and what is running now."""
        with closing(open_reader(self._library.path)) as reader:
            size = page_queries.library_size(reader)
            return {
                "videos": size.videos,
                "hours": round(size.video_ms / 3_600_000, 2),
                "unreadable": size.failed,
                "folders": [display_path(root) for root in page_queries.roots(reader)],
                "models": page_queries.models(reader),
                "running": [run.kind for run in recent_runs(reader) if run.state in ("running", "paused")],
            }


def _writing_tools(library: Library, clips: Path | None) -> list[Callable[..., Answer]]:
    def annotate(
        path: VideoPath,
        label: Annotated[str, Field(max_length=200)],
        verdict: Annotated[
            Literal["added", "confirmed", "rejected"],
            Field(description="added: the video shows the label; rejected: it does not."),
        ] = "added",
        start_ms: Annotated[TimeMs | None, Field(description="Without it, from the beginning.")] = None,
        end_ms: Annotated[TimeMs | None, Field(description="Without it, to the end.")] = None,
        path_bytes: PathBytes = None,
    ) -> Answer:
        """Record what a person says of a scanned video. It overrules the model. Only on a person's word."""
        file = _exact_path(path, path_bytes)
        with closing(open_reader(library.path)) as reader:
            require_content(reader, os.path.abspath(os.fsencode(file)))
        return {"is_new": library.annotate(file, label, start_ms, end_ms, verdict=verdict)}

    def undo() -> Answer:
        """Take back the latest annotation."""
        library.undo()
        return {"is_undone": True}

    def cut(
        moment_ids: Annotated[
            list[MomentId],
            Field(min_length=1, max_length=_MAX_CLIPS, description="`id` of moments."),
        ],
        is_exact: Annotated[
            bool, Field(description="Encode again for exact ends, instead of copying from a key frame.")
        ] = False,
    ) -> Answer:
        """Write moments as video files into the folder that the person allowed; returns their paths."""
        assert clips is not None
        moments = library.moments_with_ids(moment_ids)
        if len(moments) < len(set(moment_ids)):
            raise VtagError("some of these moments are gone: search again")
        files = library.cut(moments, clips, reencode=is_exact)
        return {"files": [display_path(os.fsencode(file)) for file in files]}

    return [annotate, undo, *([cut] if clips is not None else [])]
