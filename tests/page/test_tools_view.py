"""Library and Tools on the page, in a real browser; and every view by axe-core, light and dark, wide and narrow."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.browser import PLAYING, OpenPage, open_view, page_opener, require_browser
from helpers.file_server import FileServer, file_response, file_server, stalled_response, status_response
from helpers.film_library import Film, make_film_library
from helpers.footage import make_video
from helpers.page_server import serve_page_warm

from vtag.engine.library import page_queries
from vtag.engine.library.database import open_reader

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LABELS = ("archery", "riding a bike", "yoga", "none of these")
FILMS = {
    "lake/swan.mp4": Film([("archery", 4), ("yoga", 4)], "2025-08-09T12:00:00Z"),
    "lake/boat.mp4": Film([("none of these", 4)], "2024-08-09T12:00:00Z"),
    "hill/bike.mp4": Film([("riding a bike", 4)], "2023-08-09T12:00:00Z"),
}
MODEL = (Path(__file__).parents[1] / "data" / "golden" / "control_ok.pth").read_bytes()

require_browser()


def make_file(path: Path, film: Film, seed: int) -> None:
    make_video(path, seconds=film.seconds, fps=8, width=64, height=48, seed=seed)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film_library(tmp_path_factory.mktemp("tools"), FILMS, LABELS, make_file)


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    with serve_page_warm(home) as (server_address, _):
        yield server_address


def test_all_videos_are_listed_filtered_grouped_and_tagged(open_page: OpenPage) -> None:
    page = open_page("?view=library", viewport={"width": 1300, "height": 800})
    page.get_by_text("3 videos").wait_for()
    page.locator(".card", has_text="boat.mp4").wait_for()  # it has no moment
    page.get_by_label("Group").select_option("folder")
    page.locator(".grid-heading", has_text="lake · 2 videos").wait_for()
    page.get_by_label("File name").fill("BOAT")
    page.get_by_text("1 video", exact=True).wait_for()
    page.get_by_role("link", name="Remove the filter: name has “BOAT”").click()
    page.get_by_text("3 videos").wait_for()
    page.get_by_label("Which").select_option("untagged")
    page.get_by_text("1 video", exact=True).wait_for()
    page.locator(".card-box").click()
    page.get_by_role("region", name="Selection").get_by_role("button", name="Tag").click()
    page.get_by_role("dialog").get_by_role("combobox").fill("a swan")
    page.get_by_role("dialog").get_by_role("button", name="Add the tag").click()
    page.get_by_text("0 videos", exact=True).wait_for()  # it is tagged now
    page.keyboard.press("u")
    page.get_by_text("1 video", exact=True).wait_for()
    page.reload()
    page.get_by_text("1 video", exact=True).wait_for()  # the address has it all


def test_the_moments_of_selected_videos_are_cut_and_exported_and_videos_forgotten(
    open_page: OpenPage, home: Path, tmp_path: Path
) -> None:
    page = open_page("?view=library&sort=name", viewport={"width": 1300, "height": 800})
    page.locator(".card", has_text="swan.mp4").wait_for()
    page.locator("[data-index='0'] .card-box").click()
    page.keyboard.press("Control+a")
    bar, dialog = page.get_by_role("region", name="Selection"), page.get_by_role("dialog")
    bar.get_by_text("3 videos selected").wait_for()
    bar.get_by_role("button", name="Export").click()
    page.get_by_role("heading", name="Export the moments of 3 videos").wait_for()
    dialog.get_by_label("Format").select_option("json")
    dialog.get_by_text("The browser saves 3 moments in 2 videos: one file.").wait_for()
    with page.expect_download() as download:
        dialog.get_by_role("button", name="Save").click()
    assert len(json.loads(Path(download.value.path()).read_text())) == 3
    dialog.get_by_role("button", name="Close").click()
    bar.get_by_role("button", name="Cut").click()
    dialog.get_by_label("Folder for the clips").fill(str(tmp_path / "clips"))
    dialog.get_by_role("button", name="What would happen?").click()
    dialog.get_by_text("3 clips would be written to").wait_for()
    dialog.get_by_role("button", name="Close").click()
    page.keyboard.press("Escape")
    page.locator(".card", has_text="boat.mp4").locator(".card-box").click()
    bar.get_by_role("button", name="Forget").click()
    dialog.get_by_text("1 file and what was found in 1 video would be forgotten").wait_for()
    with closing(open_reader(home / "library.db")) as reader:  # nothing was done yet
        assert page_queries.library_size(reader).videos == 3
    dialog.get_by_role("button", name="Close").click()


def test_what_would_be_removed_is_shown_before(open_page: OpenPage, home: Path) -> None:
    page = open_page("?view=tools")
    page.get_by_role("link", name="archery").wait_for()
    tool = page.locator(".tool", has=page.get_by_role("heading", name="Forget a file or a folder"))
    forget = tool.get_by_role("button", name="Forget", exact=True)
    assert forget.is_disabled()
    tool.get_by_label("File or folder").fill("hill")
    tool.get_by_role("button", name="What would happen?").click()
    tool.get_by_text("give a folder's whole path").wait_for()
    tool.get_by_label("File or folder").fill(str(home.parent / "Videos" / "hill"))
    tool.get_by_role("button", name="What would happen?").click()
    tool.get_by_text("1 file and what was found in 1 video would be forgotten.").wait_for()
    tool.get_by_label("File or folder").fill(str(home.parent / "Videos" / "lake"))
    assert forget.is_disabled()  # the preview was of another folder
    tool = page.locator(".tool", has=page.get_by_role("heading", name="Clean"))
    tool.get_by_role("button", name="What would happen?").click()
    tool.get_by_text("There is nothing to clean.").wait_for()


def test_moments_are_exported_as_one_file_or_as_one_zip_file(open_page: OpenPage) -> None:
    page = open_page("?view=tools")
    query = page.get_by_role("region", name="Files from moments").get_by_label("Search")
    for text, form, plan in (
        ("archery", "csv", "The browser saves 1 moment in 1 video: one file."),
        ("archery OR bike", "srt", "2 moments in 2 videos: one file for each video, all in a zip file."),
    ):
        query.fill(text)
        page.get_by_role("button", name="Export", exact=True).click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Format").select_option(form)
        dialog.get_by_text(plan).wait_for()
        with page.expect_download() as download:
            dialog.get_by_role("button", name="Save").click()
        dialog.get_by_role("button", name="Close").click()
        if form == "csv":
            assert Path(download.value.path()).read_text().endswith(",archery\n")
        else:
            with zipfile.ZipFile(download.value.path()) as archive:
                assert sorted(archive.namelist()) == ["bike.srt", "swan.srt"]
                assert b"riding a bike" in archive.read("bike.srt")


def test_clips_are_named_cut_and_left_alone_when_they_are_there(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page("?q=archery OR bike")
    page.locator(".card-link").first.focus()
    page.keyboard.press("Control+a")
    page.get_by_role("region", name="Selection").get_by_role("button", name="Cut").click()
    dialog, clips = page.get_by_role("dialog"), tmp_path / "clips"
    dialog.get_by_label("Folder for the clips").fill(str(clips))
    cut = dialog.get_by_role("button", name="Cut", exact=True)
    for sentence in ("2 clips written to", "0 clips written to"):
        dialog.get_by_role("button", name="What would happen?").click()
        dialog.get_by_text("2 clips would be written to").wait_for()
        cut.click()
        dialog.get_by_text(sentence).wait_for()
    assert sorted(path.suffix for path in clips.iterdir()) == [".mp4", ".mp4"]
    dialog.get_by_text("2 were there already").wait_for()


@pytest.mark.slow  # a library of its own
def test_a_cut_that_is_stopped_goes_on_later(chromium: Browser, tmp_path: Path) -> None:
    films = {"long.mp4": Film([("archery", 3), ("none of these", 12)] * 40)}
    home, clips = make_film_library(tmp_path, films, LABELS, make_file), tmp_path / "clips"
    with serve_page_warm(home) as (address, _), page_opener(chromium, address) as open_:
        page = open_("?q=archery")
        page.locator(".card-link").first.focus()
        page.keyboard.press("Control+a")
        page.get_by_role("region", name="Selection").get_by_role("button", name="Cut").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Folder for the clips").fill(str(clips))
        dialog.get_by_label("Exact ends").check()
        dialog.get_by_role("button", name="What would happen?").click()
        planned = int(dialog.get_by_text("would be written to").inner_text().split()[0])
        dialog.get_by_role("button", name="Cut", exact=True).click()
        page.locator(".bar-job", has_text=re.compile(r"Cut · \d+ of ")).wait_for()
        dialog.get_by_role("button", name="Stop").click()
        dialog.get_by_text("Stopped.").wait_for()
        page.locator(".bar-job-link").wait_for(state="detached")
        page.wait_for_timeout(3000)  # the clip that was begun
        written = len(list(clips.iterdir()))
        page.wait_for_timeout(5000)
        assert len(list(clips.iterdir())) == written < planned
        dialog.get_by_role("button", name="Cut", exact=True).click()
        dialog.get_by_role("button", name="Close").click()  # it goes on, as the bar says
        page.locator(".bar-job-link").click()
        page.get_by_role("button", name="Stop the cut").wait_for()
        page.locator(".toast", has_text="there already").wait_for()
        assert len(list(clips.iterdir())) == planned


def test_what_a_model_found_is_forgotten(open_page: OpenPage, home: Path) -> None:
    page = open_page("?view=tools")
    tool = page.locator(".tool", has=page.get_by_role("heading", name="Forget what a model found"))
    tool.get_by_label("Model of the library").select_option("swin3d-t")
    tool.get_by_role("button", name="What would happen?").click()
    tool.get_by_text("swin3d-t and all moments that it found would be forgotten").wait_for()
    with closing(open_reader(home / "library.db")) as reader:  # nothing was done yet
        assert page_queries.models(reader) == ["swin3d-t"]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_each_view_is_accessible_and_fits(
    open_page: OpenPage, scheme: str, width: int, tmp_path: Path
) -> None:
    check_views(open_page, scheme, width, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "width"), [("dark", 1280), ("light", 390), ("light", 1920), ("dark", 2560)]
)
def test_each_view_is_accessible_and_fits_in_other_sizes(
    open_page: OpenPage, scheme: str, width: int, tmp_path: Path
) -> None:
    check_views(open_page, scheme, width, tmp_path)


def check_views(open_page: OpenPage, scheme: str, width: int, tmp_path: Path) -> None:
    """Run axe-core over every view, check its width, and save pictures to VTAG_SCREENSHOTS if it is set."""
    from axe_playwright_python.sync_playwright import Axe

    pictures = Path(os.environ.get("VTAG_SCREENSHOTS", tmp_path))
    pictures.mkdir(parents=True, exist_ok=True)
    page = open_page("", color_scheme=scheme, viewport={"width": width, "height": 850})
    for view, selector in {
        "Search": ".search-view .card",
        "Library": ".library-view .card",
        "Teach": ".folder-training",
        "Scan": ".history h3",
        "Tools": "[aria-label='All models'] table",
        "Watch": ".tag-line",
    }.items():
        if view == "Watch":
            page.goto(page.url.split("?")[0] + "?v=1&t=1000&m=1")
            page.wait_for_function(PLAYING)
            page.locator(".curve-form input").fill("archery")
            page.keyboard.press("Enter")
            page.locator(".curve").wait_for()
        else:
            open_view(page, view)
        page.locator(selector).first.wait_for()
        page.wait_for_timeout(500)  # until pictures are there
        page.screenshot(path=pictures / f"{view.lower()}-{scheme}-{width}.png")
        check_accessibility(page, Axe())


def check_accessibility(page: Page, axe: object) -> None:
    violations = axe.run(page).response["violations"]  # type: ignore[attr-defined]
    assert [(rule["id"], [node["html"][:300] for node in rule["nodes"]]) for rule in violations] == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert "`" not in page.locator("body").inner_text()  # no command line


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.mark.slow  # the same as tests/app/test_models_command.py, in a browser
def test_a_download_is_stopped_fails_and_is_resumed_to_the_end(
    chromium: Browser, server: FileServer, tmp_path: Path
) -> None:
    tmp_path.joinpath("models.toml").write_text(
        f'[swin3d-t]\ntitle = "a small model"\nlicence = "CC0-1.0"\nsize_mb = {len(MODEL) / 2**20:.4g}\n'
        f'url = "{server.url()}"\n'
    )
    half = len(MODEL) // 2
    server.serve(stalled_response(server, MODEL[:half], len(MODEL)))
    with serve_page_warm(tmp_path) as (address, _), page_opener(chromium, address) as open_:
        page = open_("?view=tools")
        row = page.locator("tr", has_text="a small model")
        row.get_by_text("127.0.0.1").wait_for()
        row.get_by_text("CC0-1.0").wait_for()
        assert server.requests == []  # nothing is downloaded before a press
        row.get_by_role("button", name="Download").click()
        row.get_by_role("button", name="Stop").wait_for()
        page.wait_for_function("() => document.querySelector('tr progress')?.value > 0.4")
        row.get_by_role("button", name="Stop").click()
        row.get_by_role("button", name="Go on").wait_for()
        server.serve(status_response(404, b"gone"))
        row.get_by_role("button", name="Go on").click()
        row.get_by_role("alert").wait_for()
        assert "404" in row.get_by_role("alert").inner_text()
        server.serve(file_response(MODEL, etag='"slow"'))
        row.get_by_role("button", name="Try again").click()
        row.get_by_text("here", exact=True).wait_for()
    assert server.ranges()[-1] == f"bytes={half}-"
