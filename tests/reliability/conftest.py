"""What the tests of reliability share: a small model, a folder of videos, the undisturbed result, the record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.footage import make_video
from helpers.small_model import make_model
from helpers.undisturbed import Outcome, read_outcome, run_vtag

Record = Callable[..., None]


SHORT_LIMIT_S = 600  # of a test in the short form: none hangs for ever


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Limit the tests of the short form; the one that runs for a minute begins first, so that none waits for it."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    if not config.getoption("--long"):
        for item in here:
            item.add_marker(pytest.mark.timeout(SHORT_LIMIT_S))
    items.sort(key=lambda item: item.name != "test_checkpoints")


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether the long form runs (`--long`)."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def only_long(request: pytest.FixtureRequest) -> None:
    """Skips a test in the short form, before a browser is started for it."""
    if not request.config.getoption("--long"):
        pytest.skip("takes minutes: --long")


@pytest.fixture
def times(request: pytest.FixtureRequest, is_long: bool) -> Callable[[int, int], int]:
    """How often to try something: in CI, and in the long form, where `--times` says otherwise if it is given."""
    given = request.config.getoption("--times")
    return lambda ci, long: (given or long) if is_long else ci


@pytest.fixture
def record(record_property: Callable[[str, object], None]) -> Record:
    """Adds a row to the table of docs/reliability.md: part, what was tried, how often, what happened."""

    def add(part: str, tried: str, times: int, happened: str) -> None:
        record_property("reliability", (part, tried, times, happened))

    return add


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short videos in two folders."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "deep").mkdir()
    for number in range(6):
        name = f"deep/{number}.mkv" if number % 3 == 0 else f"{number}.mp4"
        make_video(folder / name, seconds=6, fps=4, width=64, height=48, seed=number)
    return folder


@pytest.fixture(scope="session")
def undisturbed(model: Path, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What a scan of `videos` stores that nothing disturbs."""
    library = tmp_path_factory.mktemp("undisturbed") / "library.db"
    ran = run_vtag(
        "scan", videos, "--model", model, "--threshold", "0.05", "--precision", "fp32", "--db", library
    )
    assert ran.returncode == 0, ran.stderr
    return read_outcome(library)
