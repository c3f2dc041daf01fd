"""Teaching a tag in a real browser: choose examples, try, correct, keep, and find its moments."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.browser import OpenPage, open_tab, require_browser, search_for
from helpers.footage import make_video
from helpers.page_server import scan_into, serve_page
from helpers.small_model import make_model

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
            picture = striped(kind, seed)
            make_video(
                clips / f"{name}{seed}.mp4",
                seconds=4,
                fps=8,
                width=64,
                height=48,
                draw=lambda _, p=picture: p,
            )
    scan_into(tmp_path / "home", clips, make_model(tmp_path / "model"))
    return tmp_path / "home"


def test_a_tag_is_taught_tried_corrected_and_kept(open_page: OpenPage, home: Path) -> None:
    with serve_page(home) as (address, server):
        page = open_page(base_url=address)
        open_tab(page, "Teach")
        page.get_by_label("Tag to teach").fill("red stripes")
        page.get_by_label("Find examples by a search").fill("archery OR yoga OR bike")
        page.get_by_role("button", name="Find", exact=True).click()
        choices = page.locator("#vtag-choices")
        choices.get_by_role("button", name="Yes, red0.mp4").first.click()
        page.locator("#vtag-examples").get_by_text("1 of red stripes").wait_for()
        choices.get_by_role("button", name="Yes, red1.mp4").first.click()
        page.locator("#vtag-examples").get_by_text("2 of red stripes").wait_for()
        page.get_by_role("button", name="Try it").click()
        trial = page.locator("#vtag-trial")
        trial.locator(".vtag-card").first.wait_for()
        page.locator("#vtag-teach-said table").wait_for()
        first = trial.locator("li", has_text="green").first
        first.get_by_role("button", name="No, not").click()
        page.locator("#vtag-examples").get_by_text("1 of something else").wait_for()
        assert first.get_by_role("button", name="No, not").get_attribute("aria-pressed") == "true"
        page.get_by_role("button", name="Try it").click()
        page.get_by_role(
            "button", name="Keep it"
        ).click()  # during the preview: first the preview, then the saving
        confirmation = page.get_by_text("Kept as the model my-tags")
        confirmation.wait_for()
        open_tab(page, "Scan")
        page.locator("#vtag-runs").get_by_text("Scan", exact=True).first.wait_for()
        page.locator("#vtag-now").get_by_text("Nothing runs.").wait_for()
        open_tab(page, "Teach")
        confirmation.wait_for()  # no earlier preview has replaced its message
        open_tab(page, "Search")
        search_for(page, 'label:"red stripes"')
        assert page.locator("#vtag-results .vtag-card", has_text="red").count() >= 2
        memory = Path(f"/proc/{server}/status").read_text().split("VmHWM:")[1].split()[0]
        assert int(memory) < 400 * 1024  # kB
        page.close()


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
    line = "#vtag-training svg[aria-label=Loss] polyline"
    point_count = f"(document.querySelector('{line}')?.getAttribute('points').split(' ').length ?? 0)"
    return int(page.wait_for_function(f"() => {point_count} >= {count} && {point_count}").json_value())


@pytest.mark.slow  # a network is trained, cancelled, and trained on
def test_a_network_is_trained_with_live_curves_cancelled_and_goes_on(
    open_page: OpenPage, home: Path, tmp_path: Path
) -> None:
    clips = labelled_clips(tmp_path / "labelled", ("red", "green"), 6, copies=10)
    with serve_page(home) as (address, server), closing(open_page(base_url=address)) as page:
        open_tab(page, "Teach")
        page.get_by_text("From a folder of labelled clips").click()
        page.get_by_label("Folder with one folder of clips a tag").fill(str(clips))
        page.locator("#vtag-teach-part input").click()
        page.get_by_role("option", name="whole network").click()
        page.get_by_label("Epochs, at most").fill("200")
        learn, training = (
            page.get_by_role("button", name="Teach from this folder"),
            page.locator("#vtag-training"),
        )
        learn.click()
        page.locator("#vtag-teach-said", has_text="trained as the model labelled-network").wait_for()
        learn.click()  # twice by mistake
        page.locator("#vtag-teach-said", has_text="taught already").wait_for()
        training.get_by_text("epoch").first.wait_for()
        epochs = wait_for_epochs(page, 1)
        page.keyboard.press("Tab")  # the keyboard is used from here on
        training.get_by_role("button", name="Pause what runs").focus()
        wait_for_epochs(page, epochs + 1)  # the curve grows by itself, and the focus stays where it is
        page.keyboard.press("Enter")
        training.get_by_role("button", name="Go on with what is paused").click()
        for measure in ("Loss", "Accuracy"):
            assert training.locator(f"svg[aria-label={measure}] polyline").count() == 2  # and of validation
        training.get_by_role("button", name="Cancel what runs").click()
        training.get_by_text("labelled-network was left before its end").wait_for()
        learn.click()
        page.locator("#vtag-teach-said", has_text="The training goes on").wait_for()
        wait_for_epochs(page, 2)  # the epochs of the first run are in the curve
        training.get_by_role("button", name="Cancel what runs").click()
        training.get_by_role("button", name="Discard the unfinished training of labelled-network").click()
        training.get_by_text("was left before its end").wait_for(state="detached")
        page.get_by_label("Epochs, at most").fill("2")
        learn.click()
        page.locator("#vtag-measured summary", has_text="labelled-network").click()
        for measure in ("Loss", "Accuracy"):
            page.locator(f"#vtag-measured svg[aria-label={measure}]").wait_for()
        page.locator("#vtag-measured").get_by_text("Rows: what it was.").wait_for()
        page.set_viewport_size({"width": 390, "height": 850})
        matrix = page.locator("#vtag-measured .vtag-confusion td:visible")
        assert (
            matrix.count() == 1 + 2 * 2
        )  # a phone shows the empty cells, too, which keep the columns aligned
        page.set_viewport_size({"width": 1100, "height": 760})
        memory = Path(f"/proc/{server}/status").read_text().split("VmHWM:")[1].split()[0]
        assert int(memory) < 400 * 1024  # kB
        open_tab(page, "Scan")  # the model can be used without a restart of the server
        page.locator("#vtag-scan-model input").click()
        page.get_by_role("option", name="labelled-network").click()
        page.get_by_label("Folders on this machine").fill(str(home.parent / "clips"))
        page.get_by_role("button", name="Start scan").click()
        page.locator("#vtag-runs tr", has_text="clips").get_by_text("done").nth(1).wait_for()
        page.goto(f"{address}/?q=red OR green")
        page.locator("#vtag-results .vtag-card", has_text="red").first.wait_for()


def teach_from_folder(page: Page, labelled: Path) -> None:
    """Train a head on a folder, after a wrong path, and wait for its metrics."""
    page.get_by_text("From a folder of labelled clips").click()
    for folder, message in (("/nowhere", "There is no"), (labelled, "taught as the model")):
        page.get_by_label("Folder with one folder of clips a tag").fill(str(folder))
        page.get_by_role("button", name="Teach from this folder").click()
        page.locator("#vtag-teach-said", has_text=message).wait_for()
    open_tab(page, "Scan")
    page.locator("#vtag-runs").get_by_text("Training").wait_for()
    page.locator("#vtag-now").get_by_text("Nothing runs.").wait_for()
    open_tab(page, "Teach")
    page.locator("#vtag-measured summary", has_text="labelled-tags").click()
    for name in ("red", "green", "blue"):  # a row in the table, and one in the matrix
        assert page.locator("#vtag-measured tr", has_text=name).count() >= 2
    page.locator("#vtag-measured").get_by_text("Rows: what it was.").wait_for()


def keep_and_rename_tag(page: Page) -> None:
    """Choose two examples of `lines`, keep the tag, and rename it to `bars`."""
    page.get_by_label("Tag to teach").fill("lines")
    page.get_by_label("Find examples by a search").fill("archery OR yoga OR bike")
    page.get_by_role("button", name="Find", exact=True).click()
    for name in ("red0.mp4", "red1.mp4"):
        page.locator("#vtag-choices").get_by_role("button", name=f"Yes, {name}").first.click()
    examples = page.locator("#vtag-examples")
    examples.get_by_text("2 of lines").wait_for()
    page.get_by_role("button", name="Keep it").click()
    page.get_by_text("with all your tags (lines)").wait_for()
    page.get_by_label("New name").fill("bars")
    page.get_by_role("button", name="Rename the tag").click()
    page.get_by_text("with all your tags (bars)").wait_for()
    examples.get_by_text("2 of bars").wait_for()
    assert page.get_by_label("Tag to teach").input_value() == "bars"


@pytest.mark.slow  # four trainings, if small ones
def test_a_folder_of_labelled_clips_is_taught_and_a_tag_is_renamed_and_removed(
    open_page: OpenPage, home: Path, tmp_path: Path
) -> None:
    labelled_clips(tmp_path / "labelled", ("red", "green", "blue"), 4)
    with serve_page(home) as (address, _):
        page = open_page(base_url=address)
        open_tab(page, "Teach")
        teach_from_folder(page, tmp_path / "labelled")

        # later scans use the new model, too
        (tmp_path / "more").mkdir()
        picture = striped(2, 1)
        make_video(
            tmp_path / "more" / "sea.mp4", seconds=5, fps=8, width=64, height=48, draw=lambda _: picture
        )
        open_tab(page, "Scan")
        page.get_by_label("Folders on this machine").fill(str(tmp_path / "more"))
        page.get_by_role("button", name="Start scan").click()
        page.locator("#vtag-runs tr", has_text="more").get_by_text("done").wait_for()
        open_tab(page, "Search")
        search_for(page, "model:labelled-tags label:blue")
        page.locator("#vtag-results .vtag-card", has_text="sea.mp4").first.wait_for()
        open_tab(page, "Teach")

        keep_and_rename_tag(page)
        open_tab(page, "Scan")
        page.locator("#vtag-now").get_by_text("Nothing runs.").wait_for()
        open_tab(page, "Search")
        search_for(page, "bars")
        page.goto(f"{address}/?q=lines")
        page.get_by_text("No moment fits").wait_for()
        open_tab(page, "Teach")
        page.locator("#vtag-examples").get_by_role("button", name="Go on with bars").click()
        page.get_by_role("button", name="Remove the tag: bars").click()
        page.get_by_text("bars is gone with its examples").wait_for()
        assert not (home / "models" / "my-tags").exists()
        page.goto(f"{address}/?q=bars")
        page.get_by_text("No moment fits").wait_for()
        page.close()
