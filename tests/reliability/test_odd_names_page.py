"""Videos with odd names on the page, in a real browser: shown, played, tagged, found, cut, exported; never obeyed."""

from __future__ import annotations

import glob
import io
import os
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.browser import PLAYING, OpenPage, open_view, require_browser, search_for
from helpers.film_library import Film, make_film_library
from helpers.odd_names import NAMES, make_odd_video
from helpers.page_server import serve_page_warm

from vtag.engine.text import display_path
from vtag.engine.video.read.probe import probe

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.reliability
FOLDER = b"odd \xff\n\xe2\x80\xae folder"
SECONDS = 3
FEW = ("not UTF-8", "a newline", "escape sequences", "`?`, `#`, `&`, `+`", "markup")  # of the short form
# each answer decodes as a picture
PICTURES = """async addresses => {
  for (const address of addresses) {
    const answer = await fetch(address);
    if (!answer.ok) return `${address}: ${answer.status}`;
    if (!(await createImageBitmap(await answer.blob())).width) return address;
  }
  return "";
}"""

require_browser()


@pytest.fixture(scope="module")
def names(request: pytest.FixtureRequest) -> list[bytes]:
    """All odd names in the long form."""
    is_long = request.config.getoption("--long")
    return [name for kind, name in NAMES.items() if is_long or kind in FEW]


@pytest.fixture(scope="module")
def home(names: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All films but the last are in a folder whose name is odd, too."""
    *odd, last = names
    films = {os.fsdecode(FOLDER + b"/" + name): Film([("yoga", SECONDS)]) for name in odd}
    films[os.fsdecode(b"plain/" + last)] = Film([("yoga", SECONDS)])
    folder = tmp_path_factory.mktemp("page")
    return make_film_library(
        folder,
        films,
        ("yoga", "none of these"),
        lambda path, film, seed: make_odd_video(path, film.seconds, seed),
    )


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    with serve_page_warm(home) as (server_address, _):
        yield server_address


def shown(name: bytes) -> str:
    """A name as the page shows it."""
    text = display_path(name)
    assert all(c == "\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)
    return text


def watch(page: Page, index: int, name: str) -> None:
    """Open the video at `index` of the list, look at its pictures while it plays, tag it, and go back."""
    page.locator(f".library-view [data-index='{index}'] .card-link").click()
    page.wait_for_function(PLAYING)
    assert page.locator(".video-name").text_content() == name
    title = " ".join(f"{name} · Watch · vtag".split())  # browsers join blanks in titles
    page.wait_for_function("title => document.title === title", arg=title)
    content = re.search(r"[?&]v=(\d+)", page.url)[1]  # type: ignore[index]
    pictures = [f"poster/{content}", f"still/{content}/500", f"strip/video/{content}/0/0"]
    assert page.evaluate(PICTURES, pictures) == ""
    form = page.get_by_role("form", name="Add a tag")
    form.get_by_label("Tag").fill(f"odd {index}")
    form.get_by_role("button", name="Add tag").click()
    page.locator(".tag-label", has_text=f"odd {index}").wait_for()
    page.go_back()
    page.locator(".library-view .card-link").first.wait_for()


def test_odd_names_on_the_page(
    open_page: OpenPage, names: list[bytes], tmp_path: Path, record: Callable
) -> None:
    count = len(names)
    page = open_page("?view=library&sort=name", viewport={"width": 1300, "height": 900})
    page.get_by_text(f"{count} videos", exact=True).wait_for()
    labels = page.locator(".library-view .card .card-label")
    labels.nth(count - 1).wait_for()
    texts = labels.evaluate_all("all => all.map(each => each.textContent)")
    assert sorted(texts) == sorted(map(shown, names))
    page.screenshot(path=tmp_path / "library.png")
    for index, name in enumerate(texts):
        watch(page, index, name)
    open_view(page, "Search")
    for index, name in enumerate(texts):
        typed = glob.escape(name).replace('"', "?")
        search_for(page, f'"odd {index}" path:"*/{typed}"')
        page.locator(".result-count", has_text=re.compile("^1 moment in 1 video$")).wait_for()
        assert page.locator(".search-view .card-name").text_content() == name
    search_for(page, "yoga")
    page.get_by_role("region", name="Folder").get_by_role("link", name=shown(FOLDER)).click()
    others = count - 1  # what says it is a folder of a result is a filter that finds it
    page.locator(".result-count", has_text=re.compile(f"^{others} moments in {others} videos$")).wait_for()
    page.screenshot(path=tmp_path / "search.png")
    export_and_cut(page, tmp_path, count)
    assert page.locator("script:not([src]), main img:not([alt='']), iframe").count() == 0
    happened = "listed, played, tagged and found by their names as shown; a file each in an export and a cut"
    record("Names", "the same on the page, in a folder whose name is as odd", count, happened)


def export_and_cut(page: Page, folder: Path, count: int) -> None:
    """Save subtitles of all videos, and cut their moments."""
    open_view(page, "Library")
    page.locator("[data-index='0'] .card-box").and_(page.locator(":visible")).click()
    page.keyboard.press("Control+a")
    bar, dialog = page.get_by_role("region", name="Selection"), page.get_by_role("dialog")
    bar.get_by_text(f"{count} videos selected").wait_for()
    bar.get_by_role("button", name="Export").click()
    dialog.get_by_label("Format").select_option("srt")
    with page.expect_download() as download:
        dialog.get_by_role("button", name="Save").click()
    saved = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert saved.testzip() is None and len(set(saved.namelist())) == count
    assert not [name for name in saved.namelist() if "/" in name or name.startswith("..")]
    dialog.get_by_role("button", name="Close").click()
    bar.get_by_role("button", name="Cut").click()
    dialog.get_by_label("Folder for the clips").fill(str(folder / "clips"))
    dialog.get_by_role("button", name="What would happen?").click()
    cut = dialog.get_by_role("button", name="Cut", exact=True)
    cut.click()
    dialog.get_by_text(f"{2 * count} clips written to").wait_for()  # yoga and the tag that was added
    files = os.listdir(os.fsencode(folder / "clips"))
    assert len(files) == 2 * count
    for file in files:
        assert probe(os.path.join(os.fsencode(folder / "clips"), file)).duration_ms > 0
    dialog.get_by_role("button", name="Close").click()
