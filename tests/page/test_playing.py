"""<vtag-player> in a real browser: whole videos of any format, with sound, seeking, and what it leaves."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.browser import PATIENCE_MS, require_browser
from helpers.flashes import make_flashes, read_beeps, read_flashes
from helpers.page_server import scan_into, serve_page_warm
from helpers.small_model import make_model

from vtag.engine.video.play.plan import STREAM_OFFSET_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

require_browser()

NAMES = {"hevc.mkv": ("libx265", "ac3"), "asp.avi": ("mpeg4", "mp3"), "plain.mp4": ("libx264", "aac")}
SECONDS = 40  # more than the player loads ahead
CREATE = """async ([content, start]) => {
  const script = document.querySelector('link[href$="player.js"]').href;
  await import(script);
  document.querySelector("vtag-player")?.remove();
  const player = document.createElement("vtag-player");
  player.setAttribute("content", content);
  player.setAttribute("start", start);
  player.toggleAttribute("autoplay", true);
  window.events = [];
  for (const type of ["seeked", "ended", "error"]) player.addEventListener(type, () => events.push(type));
  document.body.prepend(player);
  window.player = player;
}"""
# whether the browser shows one second's flash; it may draw a picture a little after it has found it
IS_WHITE = """() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const context = canvas.getContext("2d");
  context.drawImage(player.video, 0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data[0] > 128;
}"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("playing")
    clips = folder / "clips"
    clips.mkdir()
    for name, (codec, sound) in NAMES.items():
        make_flashes(clips / name, seconds=SECONDS, codec=codec, sound=sound)
    scan_into(folder / "home", clips, make_model(folder / "model"))
    return folder / "home"


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[tuple[str, int]]:
    with serve_page_warm(home) as running:
        yield running


@pytest.fixture
def page(chromium: Browser, server: tuple[str, int]) -> Iterator[Page]:
    """The page of the server, without errors at the end."""
    problems: list[str] = []
    page = chromium.new_context(viewport={"width": 900, "height": 700}).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(server[0])
    yield page
    page.context.close()
    assert problems == []


def streams(server: int) -> list[str]:
    """The processes of streams that a server runs."""
    ps = subprocess.run(["ps", "--ppid", str(server), "-o", "args="], capture_output=True, text=True)
    return [line for line in ps.stdout.splitlines() if "stream_worker" in line]


def content_of(page: Page, name: str) -> int:
    """The id of a video, by the message or the type of its plan."""
    marks = {"hevc.mkv": "HEVC", "asp.avi": "MPEG-4 ASP", "plain.mp4": '"way":"file"'}
    return next(
        content for content in (1, 2, 3)
        if marks[name] in page.evaluate("async id => (await fetch(`media/${id}/plan`)).text()", content)
    )  # fmt: skip


def wait(page: Page, condition: str) -> None:
    page.wait_for_function(condition)


def seek(page: Page, seconds: float) -> None:
    """Show the picture at a time."""
    page.evaluate("seconds => { player.pause(); player.seek(seconds); }", seconds)
    wait(
        page,
        "() => !player.video.seeking && player.video.readyState >= 2 "
        f"&& Math.abs(player.currentTime - {seconds}) < 0.01",
    )


@pytest.mark.parametrize("name", ["hevc.mkv", "asp.avi"])
def test_a_video_that_the_browser_cannot_play_plays_whole_with_its_sound(
    page: Page, server: tuple[str, int], name: str
) -> None:
    page.evaluate(CREATE, [content_of(page, name), 3.5])
    note = page.locator(".vtag-player-note")
    note.wait_for()
    assert note.inner_text().endswith("converted while it plays")
    wait(page, "() => player.currentTime > 3.6 && player.video.webkitAudioDecodedByteCount > 500")
    assert page.evaluate("player.duration") == pytest.approx(SECONDS, abs=0.1)
    assert page.evaluate("[player.video.videoWidth, player.video.videoHeight]") == [160, 120]
    for second in (38, 1, 20):  # beyond what is loaded, before it, and within
        seek(page, second + 0.06)
        wait(page, f"() => ({IS_WHITE})()")
        seek(page, second + 0.56)
        wait(page, f"() => !({IS_WHITE})()")
    page.evaluate("() => { player.seek(39); player.play(); }")
    wait(page, "() => events.includes('ended')")
    assert page.evaluate("player.currentTime") == pytest.approx(SECONDS, abs=0.1)
    assert page.evaluate("events.includes('error')") is False


def test_a_video_that_the_browser_plays_comes_as_it_is(page: Page, server: tuple[str, int]) -> None:
    page.evaluate(CREATE, [content_of(page, "plain.mp4"), 5])
    wait(page, "() => player.currentTime > 5.1")
    assert page.evaluate("[player.way, player.message]") == ["file", ""]
    assert page.locator(".vtag-player-note").is_hidden()
    assert streams(server[1]) == []


def test_frames_are_stepped_and_ranges_repeated(page: Page) -> None:
    page.evaluate(CREATE, [content_of(page, "asp.avi"), 2])
    wait(page, "() => player.currentTime > 2.1")
    page.evaluate("() => { player.pause(); player.seek(4.02); }")
    times = []
    for frames in (1, 1, -1, 10):
        page.evaluate("frames => { events.length = 0; player.step(frames); }", frames)
        wait(page, "() => events.includes('seeked')")
        times.append(page.evaluate("player.currentTime"))
    assert [round(25 * t - 0.5, 2) for t in times] == pytest.approx([101, 102, 101, 111], abs=0.05)
    page.evaluate("() => { player.loop(6, 6.6); player.play(); window.most = 0; }")
    page.evaluate(
        "() => player.addEventListener('timeupdate', () => { most = Math.max(most, player.currentTime); })"
    )
    page.evaluate("() => { events.length = 0; }")
    wait(page, "() => events.filter((type) => type === 'seeked').length >= 3")
    assert 6.3 < page.evaluate("most") < 6.9


def test_nothing_runs_on_after_the_tab_was_closed(page: Page, server: tuple[str, int]) -> None:
    page.evaluate(CREATE, [content_of(page, "hevc.mkv"), 0])
    wait(page, "() => player.currentTime > 0.1")
    page.close()
    deadline_s = time.monotonic() + 60
    while streams(server[1]):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def test_a_player_that_is_hidden_or_removed_is_silent(page: Page) -> None:
    page.evaluate(CREATE, [content_of(page, "asp.avi"), 0])
    wait(page, "() => player.currentTime > 0.1")
    page.evaluate("() => { player.style.display = 'none'; }")
    wait(page, "() => player.paused")
    page.evaluate("() => { player.style.display = 'block'; player.play(); }")
    wait(page, "() => !player.paused")
    page.evaluate("() => player.remove()")
    assert page.evaluate("[player.paused, player.video.hasAttribute('src')]") == [True, False]


def test_a_video_that_is_gone_is_said_to_be(page: Page, home: Path) -> None:
    content = content_of(page, "asp.avi")
    file = home.parent / "clips" / "asp.avi"
    os.replace(file, file.with_suffix(".away"))
    try:
        page.evaluate(CREATE, [content, 0])
        page.locator(".vtag-player-note", has_text="not connected").wait_for()
        assert page.evaluate("events") == ["error"]
    finally:
        os.replace(file.with_suffix(".away"), file)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "codec", "sound"), [("long.mkv", "libx265", "ac3"), ("long.avi", "mpeg4", "mp3")]
)
def test_ten_minutes_stay_in_step(
    chromium: Browser,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    name: str,
    codec: str,
    sound: str,
) -> None:
    """Flashes and beeps of the served stream, read by PyAV: none drifts, from any start."""
    seconds, drifts_s = 600, []
    clips = tmp_path / "clips"
    clips.mkdir()
    video = make_flashes(clips / name, seconds=seconds, codec=codec, sound=sound, options={"g": "250"})
    lag_s = read_beeps(video)[1] - read_flashes(video)[1]  # what the file itself has
    scan_into(tmp_path / "home", clips, make_model(tmp_path / "model"))
    with serve_page_warm(tmp_path / "home") as (address, pid):
        page = chromium.new_context().new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(address)
        cookies = {c["name"]: c["value"] for c in page.context.cookies()}
        for start_s in (0, 299.5, 594.5):
            file = tmp_path / f"from-{start_s}.mp4"
            request = urllib.request.Request(
                f"{address}/media/1/stream?way=convert&from={start_s}",
                headers={"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())},
            )
            with urllib.request.urlopen(request) as answer, open(file, "wb") as out:
                shutil.copyfileobj(answer, out)
            flashes, beeps = read_flashes(file), read_beeps(file)
            expected = STREAM_OFFSET_S + np.arange(math.ceil(start_s), seconds)
            assert flashes == pytest.approx(expected, abs=0.045)  # a frame
            drift_s = np.subtract(beeps, flashes) - lag_s
            drifts_s.append((float(drift_s.min()), float(drift_s.max())))
            assert np.abs(drift_s).max() < 0.045
        page.goto(address if page.locator('link[href$="player.js"]').count() else f"{address}/next")
        page.evaluate(CREATE, [1, 300])
        wait(page, "() => player.currentTime > 300.1")
        for second in (595, 10, 310):
            seek(page, second + 0.06)
            wait(page, f"() => ({IS_WHITE})()")
        page.evaluate("() => { player.seek(597); player.play(); }")
        wait(page, "() => events.includes('ended')")
        page.context.close()
        start_s = time.monotonic()
        while streams(pid):
            assert time.monotonic() - start_s < 60
            time.sleep(0.1)
    # plain numbers: they go to another process
    record_property("drifts_s", drifts_s)
