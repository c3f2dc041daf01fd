"""The page itself: one HTML file, and its scripts and styles below an address that changes with their content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from vtag.assets import asset

_INDEX = "index.html"
_FOREVER = "private, max-age=31536000, immutable"


def page_routes() -> list[BaseRoute]:
    """The routes of the page and its files."""
    folder = Path(str(asset("page")))
    version = _version(folder)
    scripts = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.js"))
    preloads = "\n".join(f'<link rel="modulepreload" href="page/{version}/{name}">' for name in scripts)
    html = (folder / _INDEX).read_text(encoding="utf-8").replace("{version}", version)
    html = html.replace("<!-- preloads -->", preloads)

    def index(_: Request) -> Response:
        return HTMLResponse(html, headers={"cache-control": "no-store"})

    return [Route("/", index), Mount(f"/page/{version}", _PageFiles(directory=folder))]


class _PageFiles(StaticFiles):
    """Files that browsers may keep: another version has another address."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["cache-control"] = _FOREVER
        return response


def _version(folder: Path) -> str:
    """A hash of all files in `folder`."""
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
