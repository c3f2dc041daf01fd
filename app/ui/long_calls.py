"""Work that takes seconds or more: Gradio's queue runs it, and streams what it yields to the page.

The page has its own front end; of Gradio it uses the API engine alone. `POST long/gradio_api/call/NAME` puts a call
into the queue, `GET long/gradio_api/call/NAME/EVENT` streams its values as server-sent events. Nothing else of Gradio
can be reached.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from vtag.app.ui.gradio_environment import isolated_environment

with isolated_environment():
    import gradio as gr

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vtag.app.ui.activities import Activities
from vtag.app.ui.api.errors import error_as_json, invalid_value
from vtag.engine.errors import VtagError

PATH = "/long"
STOPPED = "Stopped. What was done stays, and it can go on from there."
_CALLS = "/gradio_api/call/"
_MAX_CALL_BYTES = 1 << 20  # 20,000 ids, the most of any call, take a third of it


@dataclass(frozen=True)
class LongCall:
    """A function that yields its progress, and its result last, each as a JSON object.

    Args:
        body: what the browser sends.
        group: calls of one group wait for each other; others run side by side.
        title: what the bar of jobs calls it while it says how far it is; it can be stopped there.
    """

    name: str
    body: type[BaseModel]
    run: Callable[[Any], Generator[dict[str, Any], None, None]]
    group: str = ""
    title: str = ""


def mount_long_calls(app: FastAPI, calls: Iterable[LongCall], activities: Activities) -> None:
    """Serve `calls` below PATH. An error is the last value, `{"error": SENTENCE}`."""
    calls = list(calls)
    with gr.Blocks(title="vtag", analytics_enabled=False) as blocks:
        for call in calls:
            gr.api(
                _guarded(call, activities),
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
    app.router.routes[-1] = Mount(PATH, _CallsOnly(route.app, {call.name for call in calls}))


def _guarded(call: LongCall, activities: Activities) -> Callable[[dict[str, Any]], Iterator[dict[str, Any]]]:
    """`call.run` as Gradio wants it: checked input, and no exception for what a person can act on."""

    def run(body: dict) -> Iterator[dict]:  # Gradio reads these types, and knows no others
        try:
            with activities.begin(call.title) as activity:
                for value in _in_one_thread(call.run(call.body.model_validate(body))):
                    if call.title and value.get("of"):
                        activity.done, activity.of, activity.what = value["done"], value["of"], value["what"]
                    yield value
                    if activity.is_stopped:
                        yield {"sentence": STOPPED, "is_stopped": True}
                        return
        except ValidationError as error:
            yield invalid_value(error.errors())
        except (VtagError, sqlite3.Error) as error:
            yield error_as_json(error)

    run.__annotations__ = {"body": dict, "return": dict}
    return run


def _in_one_thread(values: Generator[dict[str, Any], None, None]) -> Iterator[dict[str, Any]]:
    """`values`, each made in the same thread, whichever thread asks for it.

    Gradio asks for each value in any thread of its pool. A connection to the library belongs to one thread.
    """
    with ThreadPoolExecutor(max_workers=1) as executor:
        try:
            while (value := executor.submit(next, values, None).result()) is not None:
                yield value
        finally:
            executor.submit(values.close).result()


class _CallsOnly:
    """Gradio's application without its own page, uploads, files and configuration.

    What Gradio answers with an error of the server stays outside, too: a name that is none of `names`, and a
    request whose body does not have the form `{"data": [OBJECT]}`.
    """

    def __init__(self, app: ASGIApp, names: set[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        is_call = path.startswith(_CALLS) and path.removeprefix(_CALLS).split("/")[0] in self._names
        if scope["type"] == "http" and not is_call:
            await PlainTextResponse("there is nothing here\n", 404)(scope, receive, send)
            return
        if scope["type"] == "http" and scope["method"] == "POST":
            body = await _read_call(Request(scope, receive))
            if body is None:
                await JSONResponse(
                    {"error": "the request is not one that this page makes: load the page again"}, 422
                )(scope, receive, send)
                return
            receive = _replay(body, receive)
        try:
            await self._app(scope, receive, send)
        except RuntimeError as error:
            if not isinstance(error.__cause__, HTTPException):
                raise
            # no such event: Gradio finds out when its answer has begun
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _read_call(request: Request) -> bytes | None:
    """The JSON of a call, `{"data": [OBJECT]}`, with nothing else; None if it is something else, or too long."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_CALL_BYTES:
                return None
        match json.loads(body):
            case {"data": [{**arguments}]}:
                return json.dumps({"data": [arguments]}, allow_nan=False).encode()
    except (ValueError, RecursionError, ClientDisconnect):
        pass
    return None


def _replay(body: bytes, receive: Receive) -> Receive:
    """`receive` of a request whose body was read already."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
