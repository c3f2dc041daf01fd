"""Work that takes seconds or more: Gradio's queue runs it, and streams what it yields to the page.

The page has its own front end; of Gradio it uses the API engine alone. `POST long/gradio_api/call/NAME` puts a call
into the queue, `GET long/gradio_api/call/NAME/EVENT` streams its values as server-sent events. Nothing else of Gradio
can be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from vtag.app.ui.gradio_environment import isolated_environment

with isolated_environment():
    import gradio as gr

from fastapi import FastAPI
from pydantic import BaseModel, ValidationError
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from vtag.app.ui.api.errors import FieldError
from vtag.engine.errors import VtagError

PATH = "/long"
_CALLS = "/gradio_api/call/"


@dataclass(frozen=True)
class LongCall:
    """A function that yields its progress, and its result last, each as a JSON object.

    Args:
        body: what the browser sends.
        group: calls of one group wait for each other; others run side by side.
    """

    name: str
    body: type[BaseModel]
    run: Callable[[Any], Iterator[dict[str, Any]]]
    group: str = ""


def mount_long_calls(app: FastAPI, calls: Iterable[LongCall]) -> None:
    """Serve `calls` below PATH. An error is the last value, `{"error": SENTENCE}`."""
    with gr.Blocks(title="vtag", analytics_enabled=False) as blocks:
        for call in calls:
            gr.api(
                _guarded(call),
                api_name=call.name,
                concurrency_limit=1,
                concurrency_id=call.group or call.name,
            )
    gr.mount_gradio_app(
        app,
        blocks,
        path=PATH,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=True,
        enable_monitoring=False,
        mcp_server=False,
    )
    route = app.router.routes[-1]
    assert isinstance(route, Mount)
    app.router.routes[-1] = Mount(PATH, _CallsOnly(route.app))


def _guarded(call: LongCall) -> Callable[[dict[str, Any]], Iterator[dict[str, Any]]]:
    """`call.run` as Gradio wants it: checked input, and no exception for what a person can act on."""

    def run(body: dict) -> Iterator[dict]:  # Gradio reads these types, and knows no others
        try:
            yield from call.run(call.body.model_validate(body))
        except FieldError as error:
            yield {"error": str(error), "field": error.field}
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            yield {"error": f"{field}: {first['msg']}", "field": field}
        except VtagError as error:
            yield {"error": str(error)}

    run.__annotations__ = {"body": dict, "return": dict}
    return run


class _CallsOnly:
    """Gradio's application without its own page, uploads, files and configuration."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] == "http" and not path.startswith(_CALLS):
            await PlainTextResponse("there is nothing here\n", 404)(scope, receive, send)
            return
        await self._app(scope, receive, send)
