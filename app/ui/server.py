"""The page's server: routes, guard and Gradio in one application. It listens on this machine only by default."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from vtag.app.ui.gradio_environment import isolated_environment

with isolated_environment():
    import gradio as gr

import uvicorn
from fastapi import FastAPI

from vtag.app.ui.api.all_routes import add_api
from vtag.app.ui.api.context import PageContext
from vtag.app.ui.gradio_events import startup_script
from vtag.app.ui.guard import Guard, session_secret
from vtag.app.ui.html_page import page_routes
from vtag.app.ui.media import PlayRoutes
from vtag.app.ui.page import build_page
from vtag.app.ui.routes import media_routes
from vtag.assets import asset
from vtag.engine.errors import VtagError
from vtag.engine.jobs.job_queue import JobQueue
from vtag.engine.jobs.model_downloads import ModelDownloads
from vtag.engine.library.database import Library
from vtag.engine.video.write.picture_cache import PictureCache
from vtag.engine.video.write.render_pool import RenderPool

_QUEUE_INTERVAL_S = 2.0  # how often the queue starts a waiting job
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def build_application(library: Path, *, pictures: Path, password: str | None) -> FastAPI:
    """The page as an ASGI application. `password` is that of Guard."""
    pool, queue = RenderPool(), JobQueue(library)
    play = PlayRoutes(library, pool)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with play.streams:
            queue_task = asyncio.create_task(_run_queue(queue))
            yield
            queue_task.cancel()
        pool.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.router.routes += [*media_routes(library, PictureCache(pictures, pool)), *play.routes]
    downloads = ModelDownloads()
    # beside the old page, until the new one can do all that the old one does
    app.router.routes += page_routes("/next")
    add_api(app, PageContext(library, queue, downloads, pictures))
    page = build_page(library, queue, downloads, pictures)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=True,
        enable_monitoring=False,
        mcp_server=False,
        theme=_theme(),
        css=asset("page", "page.css").read_text(encoding="utf-8"),
        js=startup_script(page),
    )
    secret = session_secret(library.parent / "session.key")
    app.add_middleware(Guard, secret=secret, password=password)
    return app


async def _run_queue(queue: JobQueue) -> None:
    """Start waiting jobs, also while no browser shows the page."""
    while True:
        await asyncio.sleep(_QUEUE_INTERVAL_S)
        with contextlib.suppress(VtagError, sqlite3.Error, OSError):  # retried in the next round
            await asyncio.to_thread(queue.start_next)


def _theme() -> gr.themes.Base:
    """Fonts of the machine, so that none is downloaded, and colours with a contrast of at least 4.5 to 1."""
    return gr.themes.Default(
        primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    ).set(
        color_accent="*primary_600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_text_color="white",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_600",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
    )


def serve(
    library: Path, cache: Path, *, host: str, port: int, password: str | None, on_ready: Callable[[str], None]
) -> None:
    """Serve the page until Ctrl-C, and call `on_ready` with its address once it answers. Raises VtagError."""
    if host not in LOOPBACK and not password:
        raise VtagError(
            f"--host {host} lets others on the network see the library: set a password with --auth, or with "
            "VTAG_UI_PASSWORD"
        )
    Library.open(library).close()  # creates or migrates it before the first reader
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
        app = build_application(library, pictures=cache, password=password)
        server = _Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
        server.on_ready = lambda: on_ready(f"http://{url_host}:{port}/")
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    on_ready: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.on_ready()
