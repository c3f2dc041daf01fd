"""The addresses of playing: how a video can be played, and streams of what a browser cannot play itself.

- `GET /media/CONTENT/plan`: JSON of `PlayPlan`, with `url` for each of its `ways`, `stream_offset_s`, and where the
  parts of the video's clock begin in a stream and for players (`stream_starts_ms`, `player_starts_ms`). The player
  takes the first way whose `type` its browser supports. 404 with the reason as text if the video cannot be played.
- `GET /media/CONTENT/stream?way=copy|convert&from=SECONDS&player=ID[&side=PIXELS]`: fragmented MP4 from `from` (or
  the key frame before it) to the end, as fast as the reader takes it. Its times are those of the library, which begin
  with the first picture, plus `stream_offset_s`; `from` is one, too. The next stream of a player replaces its last
  one. 422 with the reason if nothing can be streamed, 503 if too many videos are converted already.
- `GET /media/CONTENT`: the file itself, with ranges (routes.py).

`assets/page/player.js` is the player for these addresses. Nothing is written to disk. The process of a stream ends
with the request, or after IDLE_S in which nobody takes its bytes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import closing, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from vtag.app.ui.routes import find_file, require_path
from vtag.engine.errors import VideoError
from vtag.engine.library.database import open_reader
from vtag.engine.library.page_queries import PlayableVideo
from vtag.engine.library.store.clocks import content_clock
from vtag.engine.video.play.plan import CONVERTED_SIDE, STREAM_OFFSET_S, PlayPlan, Way, make_plan
from vtag.engine.video.play.stream_pool import StreamError, StreamPool, StreamRequest, VideoStream
from vtag.engine.video.write.render_pool import Priority, RenderPool

_KEPT_PLANS = 256
_MAX_PLAYER_ID = 64  # characters
_SIDES = range(144, CONVERTED_SIDE + 1)


class PlayRoutes:
    """`routes` of plans and streams. `pool` renders plans; `streams` is entered by the server."""

    def __init__(self, library: Path, pool: RenderPool) -> None:
        self.streams = StreamPool()
        self.routes = [
            Route("/media/{content:whole}/plan", self._plan),
            Route("/media/{content:whole}/stream", self._stream),
        ]
        self._library = library
        self._pool = pool
        self._plans: OrderedDict[tuple[str, bytes], PlayPlan] = OrderedDict()

    def _plan(self, request: Request) -> Response:
        video = find_file(self._library, request.path_params["content"])
        if isinstance(video, Response):
            return video
        try:
            plan = self._get_plan(video)
        except VideoError as error:
            return PlainTextResponse(f"{error}\n", 404)
        with closing(open_reader(self._library)) as reader:
            library_starts, player_starts = content_clock(reader, video.id).starts_ms
        answer = {
            **asdict(plan),
            "content": video.id,
            "stream_offset_s": STREAM_OFFSET_S,
            "stream_starts_ms": library_starts,
            "player_starts_ms": player_starts,
            "ways": [{**asdict(way), "url": _url(video.id, way.way)} for way in plan.ways],
        }
        return JSONResponse(answer, headers={"cache-control": "no-store"})

    def _get_plan(self, video: PlayableVideo) -> PlayPlan:
        key = video.key, require_path(video)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._pool.run(partial(make_plan, require_path(video)), Priority.PLAN)
            self._plans[key] = plan
            while len(self._plans) > _KEPT_PLANS:
                with suppress(KeyError):  # another thread was faster
                    self._plans.popitem(last=False)
        return plan

    async def _stream(self, request: Request) -> Response:
        options = _parse_options(request)
        if options is None:
            return PlainTextResponse("no such stream\n", 404)
        video = await asyncio.to_thread(find_file, self._library, request.path_params["content"])
        if isinstance(video, Response):
            return video
        if options.start_ms > video.duration_ms:
            return PlainTextResponse("the video is not that long\n", 404)
        stream_request = StreamRequest(require_path(video), *options)
        try:
            return _StreamResponse(await self.streams.open(stream_request))
        except StreamError as error:
            return PlainTextResponse(f"{error}\n", 503 if error.is_busy else 422)


class _StreamOptions(NamedTuple):
    """What the address of a stream asks for, in the order of StreamRequest."""

    way: Way
    start_ms: int
    player: str
    short_side: int


def _parse_options(request: Request) -> _StreamOptions | None:
    """The options of a stream's address; None if one is not valid."""
    query = request.query_params
    try:
        way = Way(query.get("way", Way.CONVERT))
        start_ms = round(1000 * max(0.0, min(float(query.get("from", "0")), 1e9)))
        short_side = int(query.get("side", CONVERTED_SIDE))
    except ValueError:
        return None
    if way is Way.FILE or short_side not in _SIDES:
        return None
    return _StreamOptions(way, start_ms, query.get("player", "")[:_MAX_PLAYER_ID], short_side)


def _url(content: int, way: Way) -> str:
    return f"/media/{content}" if way == Way.FILE else f"/media/{content}/stream?way={way}"


class _StreamResponse(Response):
    """Sends a stream as fast as the reader takes it; ends its process with the request."""

    def __init__(self, stream: VideoStream) -> None:
        super().__init__(media_type="video/mp4", headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_wait_for_disconnect(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stream.close()
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        while chunk := await self._stream.read():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
