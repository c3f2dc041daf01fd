"""Teach on the page, in a real browser: choose examples, try, move the line, keep, and find; from a folder, too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.browser import OpenPage, open_view, require_browser, search_for
from helpers.footage import make_video
from helpers.page_server import scan_into, serve_page
from helpers.small_model import make_model

from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import LibraryWriter, open_reader
from vtag.engine.library.search.contents import content_at_path
from vtag.engine.library.store.runs import recent_runs

if TYPE_CHECKING:
    from playwright.sync_api import Page

require_browser()
pytestmark = pytest.mark.timeout(900)  # a long way through the page on a machine that may be busy


def striped(kind: int, seed: int) -> np.ndarray:
    """Stripes in one colour channel, which even random weights distinguish."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, np.arange(64) // (6 + seed) % 2 == 0, kind] = 255
    return picture


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A scanned library of four videos with red stripes and four with green ones."""
    clips = tmp_path / "clips"
    clips.mkdir()
    for seed in range(4):
        for kind, name in enumerate(("red", "green")):
            file, picture = clips / f"{name}{seed}.mp4", striped(kind, seed)
            make_video(file, seconds=4, fps=8, width=64, height=48, draw=lambda _, p=picture: p)
    scan_into(tmp_path / "home", clips, make_model(tmp_path / "model"))
    return tmp_path / "home"


def name_tag(page: Page, tag: str) -> None:
    open_view(page, "Teach")
    page.get_by_label("Tag to teach").fill(tag)
    page.keyboard.press("Tab")
    page.wait_for_function("tag => new URLSearchParams(location.search).get('tag') === tag", arg=tag)


def say(page: Page, button: str) -> None:
    page.locator(".teach-cards").get_by_role("button", name=button).first.click()


def find(page: Page, query: str) -> None:
    page.get_by_label("Find examples by a search").fill(query)
    page.get_by_role("button", name="Find", exact=True).click()


def test_a_tag_is_taught_tried_corrected_and_kept(open_page: OpenPage, home: Path) -> None:
    with serve_page(home) as (address, server), closing(open_page(base_url=address)) as page:
        name_tag(page, "red stripes")
        cards = page.locator(".teach-cards")
        find(page, "path:red")
        cards.get_by_role("region", name="Whole videos").locator(".card").nth(3).wait_for()  # all four
        say(page, "Yes: red0.mp4")
        page.get_by_role("region", name="1 of red stripes").wait_for()
        say(page, "Yes: red1.mp4")
        page.get_by_role("region", name="2 of red stripes").wait_for()
        page.mouse.move(5, 5)  # while the pointer moves over the cards, they keep their places
        page.get_by_role("slider", name="From here on it is this tag").wait_for()  # ranked without a press
        page.locator(".teach-metrics table").wait_for()
        first = page.locator(".teach-cards .card", has_text="green").first
        first.get_by_role("button", name="No, not").click()
        page.get_by_text("1 of something else").wait_for()
        slider = page.get_by_role("slider", name="From here on it is this tag")
        slider.focus()
        sentence = page.locator(".teach-message").inner_text()
        page.keyboard.press("Home")  # everything
        page.wait_for_function(
            "before => document.querySelector('.teach-message').innerText !== before", arg=sentence
        )
        page.get_by_role("button", name="Try it").click()
        page.get_by_role("button", name="Try it").and_(page.locator(":enabled")).wait_for()
        page.get_by_role("button", name="Keep it").click()
        page.get_by_text("Kept as the model my-tags").wait_for()
        open_view(page, "Scan")
        page.get_by_text("Nothing runs.").wait_for()
        assert page.locator(".history").get_by_text("trial").count() == 0
        with closing(open_reader(home / "library.db")) as reader:
            commands = [run.command for run in recent_runs(reader)]
        assert [command for command in commands if command.endswith("trial")] == []
        search_for(page, 'label:"red stripes"')
        page.locator(".card", has_text="red").nth(1).wait_for()
        memory = Path(f"/proc/{server}/status").read_text().split("VmHWM:")[1].split()[0]
        assert int(memory) < 300 * 1024  # kB


_SEGWAYS = ("using_segway__007.mp4", "using_segway__008.mp4", "using_segway__009.mp4")
_OTHER_SEGWAYS = ("using_segway__049.3gp", "mixed-actions__059.mp4")
_NOT_SEGWAYS = ("yoga__016.mp4", "archery__022.avi", "walking_the_dog__025.mp4")
_UNJUDGED = ("playing_drums__030.mp4", "chaplin__037.mp4", "dancing__019.mp4", "clean_and_jerk__024.mp4")


@pytest.mark.slow  # real footage is scanned
def test_five_yes_and_three_no_find_the_other_segways(
    open_page: OpenPage, shared: Path, tmp_path: Path
) -> None:
    clips, home = tmp_path / "clips", tmp_path / "home"
    clips.mkdir()
    for name in (*_SEGWAYS, *_OTHER_SEGWAYS, *_NOT_SEGWAYS, *_UNJUDGED):
        shutil.copy(shared / "clips" / name, clips)
    environment = {**os.environ, "VTAG_HOME": str(home)}
    scan = [sys.executable, "-m", "vtag.app", "scan", str(clips), "--model", "starter"]
    subprocess.run(scan, env=environment, check=True, capture_output=True)
    with LibraryWriter.open(
        home / "library.db"
    ) as library:  # two of the five; the page says Yes to whole videos
        for name in _SEGWAYS[:2]:
            content = content_at_path(library.connection, os.fsencode(clips / name))
            assert content is not None
            annotation_log.add(library, content.id, "segway", 6000, 8000)
    with serve_page(home) as (address, _), closing(open_page(base_url=address)) as page:
        name_tag(page, "segway")
        for names, verdict in ((_SEGWAYS, "Yes: "), (_NOT_SEGWAYS, "No, not")):
            for name in names:
                find(page, f"path:{name}")
                whole = page.get_by_role("region", name="Whole videos")
                card = whole.locator(".card", has_text=name)
                card.wait_for()
                card.get_by_role("button", name=verdict).click()
                card.locator("button[aria-pressed=true]").wait_for()
        page.get_by_role("button", name="Try it").click()
        page.get_by_role("slider", name="From here on it is this tag").wait_for()
        assert "too low" not in page.locator(".teach-message").inner_text()
        above = page.get_by_role("region", name="It would find")
        for name in _OTHER_SEGWAYS:
            above.locator(".card", has_text=name).first.wait_for()
        for name in (*_NOT_SEGWAYS, *_UNJUDGED[:3]):
            assert above.locator(".card", has_text=name).count() == 0


def labelled_clips(folder: Path, names: tuple[str, ...], count: int, copies: int = 1) -> Path:
    """A folder of clips for each name, with stripes in the name's colour; copies share one source."""
    for kind, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for seed in range(count):
            file, picture = folder / name / f"{seed}__0.mp4", striped(kind, seed)
            make_video(file, seconds=3 + seed, fps=8, width=64, height=48, draw=lambda _, p=picture: p)
            for number in range(1, copies):
                shutil.copy(file, folder / name / f"{seed}__{number}.mp4")
    return folder


def wait_for_epochs(page: Page, count: int) -> int:
    """Wait until the loss curve shows at least `count` epochs; returns their number."""
    line = ".teach-folder .job svg[aria-label=Loss] polyline"
    point_count = f"(document.querySelector('{line}')?.getAttribute('points').split(' ').length ?? 0)"
    return int(page.wait_for_function(f"() => {point_count} >= {count} && {point_count}").json_value())


def open_folder_form(page: Page) -> None:
    open_view(page, "Teach")
    details = page.locator(".folder-training")
    if details.get_attribute("open") is None:
        page.get_by_role("heading", name="Teach from a folder of labelled clips").click()


@pytest.mark.slow  # a network is trained, cancelled, and trained on
def test_a_network_is_trained_with_live_curves_cancelled_and_goes_on(
    open_page: OpenPage, home: Path, tmp_path: Path
) -> None:
    clips = labelled_clips(tmp_path / "labelled", ("red", "green"), 6, copies=10)
    with serve_page(home) as (address, server), closing(open_page(base_url=address)) as page:
        open_folder_form(page)
        page.get_by_label("Folder with one folder of clips for each tag").fill(str(clips))
        page.get_by_label("What learns").select_option("all")
        page.get_by_label("Epochs, at most").fill("200")
        learn, training = (
            page.get_by_role("button", name="Teach from this folder"),
            page.locator(".teach-folder"),
        )
        learn.click()
        page.get_by_text("trained as the model labelled-network").wait_for()
        learn.click()  # twice by mistake
        page.get_by_text("taught already").wait_for()
        epochs = wait_for_epochs(page, 1)
        pause = training.get_by_role("button", name="Pause what runs")
        pause.focus()
        wait_for_epochs(page, epochs + 1)  # the curve grows by itself, and the focus stays where it is
        page.keyboard.press("Enter")
        training.get_by_role("button", name="Go on with what is paused").click()
        for measure in ("Loss", "Accuracy"):
            assert training.locator(f".job svg[aria-label={measure}] polyline").count() == 2  # and validation
        training.get_by_role("button", name="Cancel what runs").click()
        training.get_by_text("was left before its end").wait_for()
        learn.click()
        page.get_by_text("The training goes on").wait_for()
        wait_for_epochs(page, 2)  # the epochs of the first run are in the curve
        training.get_by_role("button", name="Cancel what runs").click()
        training.get_by_role("button", name="Discard the unfinished training of labelled-network").click()
        training.get_by_text("was left before its end").wait_for(state="detached")
        page.get_by_label("Epochs, at most").fill("2")
        learn.click()
        page.locator(".report summary", has_text="labelled-network").click()
        for measure in ("Loss", "Accuracy"):
            page.locator(f".report svg[aria-label={measure}]").wait_for()
        page.get_by_text("Rows: what it was.").wait_for()
        memory = Path(f"/proc/{server}/status").read_text().split("VmHWM:")[1].split()[0]
        assert int(memory) < 300 * 1024  # kB
        open_view(page, "Scan")  # the model can be used without a restart of the server
        page.get_by_label("Model", exact=True).select_option("labelled-network")


@pytest.mark.slow  # four trainings, if small ones
def test_a_folder_of_labelled_clips_is_taught_and_a_tag_is_renamed_and_removed(
    open_page: OpenPage, home: Path, tmp_path: Path
) -> None:
    labelled_clips(tmp_path / "labelled", ("red", "green", "blue"), 4)
    broken = tmp_path / "broken"
    for name in ("red", "green"):
        (broken / name).mkdir(parents=True)
        (broken / name / "clip.mp4").write_bytes(b"no video")
    with serve_page(home) as (address, _), closing(open_page(base_url=address)) as page:
        open_folder_form(page)
        for folder, message in (
            ("/nowhere", "there is no '/nowhere'"),
            (broken, "taught as the model broken-tags"),
            (tmp_path / "labelled", "taught as the model labelled-tags"),
        ):
            page.get_by_label("Folder with one folder of clips for each tag").fill(str(folder))
            page.get_by_role("button", name="Teach from this folder").click()
            page.locator(".folder-training").get_by_text(message).wait_for()  # beside the button
            if "broken" in str(folder):  # the reason takes the place of the message
                page.locator(".teach-folder .job-panel .problem").get_by_text("could be read").wait_for()
                page.locator(".folder-training").get_by_text(message).wait_for(state="hidden")
        page.locator(".report summary", has_text="labelled-tags").click()
        for name in ("red", "green", "blue"):  # a row in the table, and one in the matrix
            page.locator(".report tr", has_text=name).nth(1).wait_for()
        name_tag(page, "lines")
        find(page, "archery OR yoga OR bike")
        say(page, "Yes: red0.mp4")
        say(page, "Yes: red1.mp4")
        page.get_by_role("region", name="2 of lines").wait_for()
        page.get_by_role("button", name="Keep it").click()
        page.get_by_text("with all your tags (lines)").wait_for()
        page.get_by_role("button", name="Rename the tag").click()
        page.get_by_role("dialog").get_by_label("New name").fill("bars")
        page.get_by_role("dialog").get_by_role("button", name="Rename").click()
        page.get_by_text("with all your tags (bars)").wait_for()
        page.get_by_role("region", name="2 of bars").wait_for()
        search_for(page, "bars")
        page.locator(".card").first.wait_for()
        search_for(page, "lines")
        page.get_by_text("Nothing fits this search.").wait_for()
        open_view(page, "Teach")
        page.get_by_role("button", name="Go on with bars").click()
        page.get_by_role("button", name="Remove the tag").click()
        page.get_by_role("dialog").get_by_role("button", name="Remove the tag").click()
        page.get_by_text("bars is gone with its examples").wait_for()
        assert not (home / "models" / "my-tags").exists()
