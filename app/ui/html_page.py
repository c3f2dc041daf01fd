"""The page itself: one HTML file, and its scripts and styles below an address that changes with their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from vtag.assets import asset

_INDEX = "index.html"
_FOREVER = "private, max-age=31536000, immutable"
# Scripts and styles are files of this server, so that text which a stranger wrote can never run.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; manifest-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
)


def page_routes(path: str = "/") -> list[BaseRoute]:
    """The routes of the page and its files, with the page at `path`."""
    folder = Path(str(asset("page")))
    version = _version(folder)
    scripts = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.js"))
    preloads = "\n".join(f'<link rel="modulepreload" href="page/{version}/{name}">' for name in scripts)
    html = (folder / _INDEX).read_text(encoding="utf-8").replace("{version}", version)
    html = html.replace("<!-- preloads -->", preloads)

    def index(_: Request) -> Response:
        return HTMLResponse(
            html, headers={"cache-control": "no-store", "content-security-policy": PAGE_POLICY}
        )

    return [Route(path, index), Mount(f"/page/{version}", _PageFiles(directory=folder))]


class _PageFiles(StaticFiles):
    """Files that browsers may keep: another version has another address."""

    def file_response(self, *arguments: object, **options: object) -> Response:
        response = super().file_response(*arguments, **options)  # type: ignore[arg-type]
        response.headers["cache-control"] = _FOREVER
        return response


def _version(folder: Path) -> str:
    """A hash of all files in `folder`."""
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
