"""The page's server: page, routes and guard in one application. It listens on this machine only by default."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from vtag.app.ui.api.all_routes import add_api
from vtag.app.ui.api.context import PageContext
from vtag.app.ui.guard import Guard, session_secret
from vtag.app.ui.html_page import page_routes
from vtag.app.ui.media import PlayRoutes
from vtag.app.ui.public_api import API_PATH, build_public_api
from vtag.app.ui.routes import media_routes
from vtag.engine.errors import VtagError
from vtag.engine.jobs.job_queue import JobQueue
from vtag.engine.jobs.model_downloads import ModelDownloads
from vtag.engine.library.database import LibraryWriter
from vtag.engine.system.allocator import limit_arenas
from vtag.engine.video.write.picture_cache import PictureCache
from vtag.engine.video.write.render_pool import RenderPool

_HEAPS = 2  # of all threads together: with one each, the server takes 15 to 40 MB more
_QUEUE_INTERVAL_S = 2.0  # how often the queue starts a waiting job
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def build_application(library: Path, *, pictures: Path, password: str | None, has_api: bool) -> FastAPI:
    """The page as an ASGI application, with the API for programs if `has_api`. `password` is that of Guard."""
    pool, queue = RenderPool(), JobQueue(library)
    play = PlayRoutes(library, pool)
    context = PageContext(library, queue, ModelDownloads(), pictures, pool)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with play.streams:
            tasks = [asyncio.create_task(_run_queue(queue)), asyncio.create_task(_prepare_lists(context))]
            yield
            for task in tasks:
                task.cancel()
        pool.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.router.routes += [*media_routes(library, PictureCache(pictures, pool)), *play.routes]
    app.router.routes += page_routes()
    add_api(app, context)
    if has_api:
        app.mount(API_PATH, build_public_api(context))
    secret = session_secret(library.parent / "session.key")
    app.add_middleware(Guard, secret=secret, password=password)
    return app


async def _run_queue(queue: JobQueue) -> None:
    """Start waiting jobs, also while no browser shows the page."""
    while True:
        await asyncio.sleep(_QUEUE_INTERVAL_S)
        with contextlib.suppress(VtagError, sqlite3.Error, OSError):  # retried in the next round
            await asyncio.to_thread(queue.start_next)


async def _prepare_lists(context: PageContext) -> None:
    """Read the list of all videos before a person asks for it: with 100,000 it takes half a second."""

    def prepare() -> None:
        with context.reader() as reader:
            context.video_lists.prepare(reader)

    with contextlib.suppress(VtagError, sqlite3.Error, OSError):  # whoever asks for the list is told
        await asyncio.to_thread(prepare)


def serve(
    library: Path,
    cache: Path,
    *,
    host: str,
    port: int,
    password: str | None,
    has_api: bool,
    on_ready: Callable[[str], None],
) -> None:
    """Serve the page until Ctrl-C, and call `on_ready` with its address once it answers. Raises VtagError."""
    if host not in LOOPBACK and not password:
        raise VtagError(
            f"--host {host} lets others on the network see the library: set a password with --auth, or with "
            "VTAG_UI_PASSWORD"
        )
    limit_arenas(_HEAPS)  # before there are threads
    LibraryWriter.open(library).close()  # creates or migrates it before the first reader
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise VtagError(
            f"{host} port {port} cannot be used ({error.strerror}): choose another --port"
        ) from error
    with listener:
        port = listener.getsockname()[1]
        url_host = f"[{host}]" if ":" in host else host
        app = build_application(library, pictures=cache, password=password, has_api=has_api)
        server = _Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
        server.on_ready = lambda: on_ready(f"http://{url_host}:{port}/")
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    on_ready: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.on_ready()
