"""Downloads of models in a real browser: licence and size, progress, stop, failure, and resumption."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.browser import OpenPage, open_tab, require_browser
from helpers.file_server import FileServer, file_response, file_server, stalled_response, status_response
from helpers.page_server import serve_page

require_browser()
pytestmark = pytest.mark.timeout(900)

BODY = (Path(__file__).parents[1] / "data" / "golden" / "control_ok.pth").read_bytes()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.mark.slow  # the same as tests/app/test_models_command.py, in a browser
def test_a_download_is_stopped_fails_and_is_resumed_to_the_end(
    open_page: OpenPage, server: FileServer, tmp_path: Path
) -> None:
    tmp_path.joinpath("models.toml").write_text(
        f'[swin3d-t]\ntitle = "a small model"\nlicence = "CC0-1.0"\nsize_mb = {len(BODY) / 2**20:.4g}\n'
        f'url = "{server.url()}"\n'
    )
    half = len(BODY) // 2
    to_the_end = file_response(BODY, etag='"slow"')
    server.serve(stalled_response(server, BODY[:half], len(BODY)))
    with serve_page(tmp_path) as (address, _):
        page = open_page(base_url=address)
        open_tab(page, "Library")
        row = page.locator("#vtag-models tr", has_text="a small model")
        row.get_by_text("127.0.0.1").wait_for()
        row.get_by_text("CC0-1.0").wait_for()
        assert server.requests == []  # nothing is downloaded before a press
        row.get_by_role("button", name="Download").click()
        row.get_by_role("button", name="Stop").wait_for()
        page.wait_for_function("document.querySelector('#vtag-models progress')?.value > 0.4")
        row.get_by_role("button", name="Stop").click()
        row.get_by_role("button", name="Go on").wait_for()
        server.serve(status_response(404, b"gone"))
        row.get_by_role("button", name="Go on").click()
        row.get_by_role("alert").wait_for()
        assert "404" in row.get_by_role("alert").inner_text()
        server.serve(to_the_end)
        row.get_by_role("button", name="Try again").click()
        row.get_by_text("here", exact=True).wait_for()
        page.close()
    assert server.ranges()[-1] == f"bytes={half}-"
