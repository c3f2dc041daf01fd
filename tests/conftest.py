"""Fixtures for all tests: a home for each, the shared material, the command line as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from helpers.browser import OpenPage
    from helpers.zygote import Zygote
    from playwright.sync_api import Browser

    from vtag.engine.library.database import LibraryWriter

# Tests run side by side, one a core: threads of their own beside that only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests share the cores: how long an example takes says nothing
settings.register_profile("vtag", deadline=None)
settings.load_profile("vtag")

SHARED = Path(os.environ.get("VTAG_SHARED", Path(__file__).parents[2] / "shared")).absolute()


_reliability_rows: list[Any] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of tests/reliability."""
    group = parser.getgroup("reliability")
    group.addoption("--long", action="store_true", help="the long form of tests/reliability")
    group.addoption("--times", type=int, default=0, help="how often the long form tries each thing")
    group.addoption("--reliability-page", type=Path, help="the page to write the results into")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect what tests of reliability recorded; of those that other processes ran, too."""
    if report.when == "call" and report.passed:
        _reliability_rows.extend(value for name, value in report.user_properties if name == "reliability")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the browser showed when a test failed."""
    report = yield
    chromium = getattr(item, "funcargs", {}).get("chromium")
    if chromium and call.when == "call" and report.failed:
        from helpers.browser import describe_pages

        report.sections.append(("open pages", describe_pages(chromium)))
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the results of tests/reliability, and write them into the page."""
    if not _reliability_rows:
        return
    from helpers.reliability_page import Row, merge_page

    rows = [Row(*values) for values in _reliability_rows]
    terminalreporter.section("reliability")
    for row in rows:
        terminalreporter.write_line(f"{row.part}: {row.tried}: {row.times:,}: {row.happened}")
    if page := config.getoption("--reliability-page"):
        merge_page(page, rows)


@pytest.fixture(autouse=True)
def vtag_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test can touch the real home."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("VTAG_HOME", str(home))
    monkeypatch.delenv("VTAG_DEBUG", raising=False)
    return home


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared material; tests that need it are skipped where it is missing."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"no shared material at {SHARED} (set VTAG_SHARED)")
    return SHARED


@pytest.fixture
def library(tmp_path: Path) -> Iterator[LibraryWriter]:
    """An open, empty library in a folder of its own."""
    from vtag.engine.library.database import LibraryWriter

    with LibraryWriter.open(tmp_path / "home" / "library.db") as opened:
        yield opened


@pytest.fixture(scope="session")
def zygote() -> Zygote:
    """Runs the command line in processes that need not import it."""
    from helpers.zygote import shared_zygote

    return shared_zygote()


@pytest.fixture
def vtag(vtag_home: Path, zygote: Zygote) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in a process of its own; with options of `subprocess.run`, in a new interpreter."""

    def run(
        *arguments: str | Path, timeout: float = 240, **kwargs: object
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vtag.app", *map(str, arguments)]
        if not kwargs:
            done = zygote.run(*arguments, timeout=timeout)
            return subprocess.CompletedProcess(command, done.status, done.stdout, done.stderr)
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, **kwargs)

    return run


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The machine's browser; modules that use it begin with `require_browser()`."""
    from helpers.browser import launch_browser

    with launch_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address() -> str:
    """The server that `open_page` opens; a module with a server of its own overrides this."""
    return ""


@pytest.fixture
def open_page(chromium: Browser, address: str) -> Iterator[OpenPage]:
    """Opens pages of any server, and holds at the end that nothing went wrong in them."""
    from helpers.browser import page_opener

    with page_opener(chromium, address) as open_:
        yield open_
