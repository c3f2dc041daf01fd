"""Commands are killed by SIGKILL at named points and at random moments; the next run ends as if nothing had been."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from helpers import kill_stories
from helpers.file_server import file_response, file_server
from helpers.kill_stories import LIBRARY, Story, same
from helpers.old_libraries import NAMES, QUERY, found_then, unpack
from helpers.striped_clips import make_clips
from helpers.undisturbed import integrity, run_vtag
from helpers.zygote import Kill, Zygote, choose_kills

from vtag.engine.jobs.job_queue import JobQueue, active_runs
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import LibraryWriter, open_reader
from vtag.engine.library.maintenance.check import check
from vtag.engine.library.search.moments import search

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(0)]
EVERYTHING = 'archery OR "riding a bike" OR yoga'
SCAN = ("--threshold", "0.05", "--precision", "fp32", "--stride", "0.3")
CI, LONG = 5, 200


@pytest.fixture(scope="module")
def filled(videos: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the library of the scanned videos and some annotations, and these in a file."""
    folder = tmp_path_factory.mktemp("filled")
    library = folder / LIBRARY
    assert run_vtag("scan", videos, "--model", model, *SCAN, "--db", library).returncode == 0
    with LibraryWriter.open(library) as opened:
        for moment in search(opened.connection, EVERYTHING, limit=40):
            annotation_log.confirm(opened, [moment.id])
    assert run_vtag("words", "export", folder / "words.jsonl", "--db", library).returncode == 0
    return folder


@pytest.fixture
def story(tmp_path: Path) -> Callable[..., Story]:
    """Makes a story in folders of its own."""

    def make(name: str, **parts: object) -> Story:
        template = tmp_path / "template"
        template.mkdir(exist_ok=True)
        return Story(name, template, tmp_path / "work", **parts)  # type: ignore[arg-type]

    return make


def tell(story: Story, zygote: Zygote, count: int) -> str:
    """Kill a command so many times, and hold after each that nothing is lost, torn, or different in the end."""
    outcomes = []
    for _ in range(2):  # the second has all imports, as those that are killed: its time counts
        folder = story.reset()
        started = time.monotonic()
        ran = zygote.run(*story.arguments(folder), code=story.code, is_counted=True, **story.environment)
        wall_s = time.monotonic() - started
        assert ran.status in story.codes, ran.stderr
        story.settle(folder)
        outcomes.append(story.outcome(folder))
    whole, repeated = outcomes
    assert same(whole, repeated)
    killed: Counter[str] = Counter()
    for kill in choose_kills(ran.points, wall_s, count, seed=len(story.name)):
        folder = story.reset()
        first = zygote.run(*story.arguments(folder), code=story.code, kill=kill, **story.environment)
        killed["at a call" if kill.at >= 0 else "at a moment"] += first.was_killed
        story.settle(folder)
        hold_sound(folder, kill)
        assert story.half_written(folder, whole) == [], kill
        again = zygote.run(*story.arguments(folder), code=story.code, **story.environment)
        assert again.status in story.codes, (kill, first, again)
        story.settle(folder)
        assert same(whole, story.outcome(folder)), (kill, first, again)
        hold_sound(folder, kill)
    return (
        f"{killed['at a call']} died at a call, {killed['at a moment']} at a random moment; all went on to the same "
        "result"
    )


def hold_sound(folder: Path, kill: Kill) -> None:
    """Both databases of a folder are sound for SQLite and for vtag."""
    library = folder / LIBRARY
    if library.exists() and library.stat().st_size:
        assert set(integrity(library)) == {"ok"}, kill
        with closing(open_reader(library)):  # migrates what a kill left between two steps
            pass
        assert [finding for finding in check(library) if finding.state == "wrong"] == [], kill


@pytest.mark.parametrize("passes", ["", "--passes=3"])
def test_a_scan(
    passes: str, story: Callable, zygote: Zygote, videos: Path, model: Path, times: Callable, record: Callable
) -> None:
    told = story(
        f"a scan{' in three passes' if passes else ''}",
        arguments=lambda folder: (
            *("scan", videos, "--model", model, *SCAN, "--db", folder / LIBRARY),
            *([passes] if passes else []),
        ),
        outcome=kill_stories.scanned,
        half_written=kill_stories.lost_windows,
    )
    count = times(CI if passes else 3, LONG)
    record("Killed", told.name, count, tell(told, zygote, count))


def test_words_import(
    story: Callable, zygote: Zygote, filled: Path, times: Callable, record: Callable
) -> None:
    told = story(
        "`words import`",
        arguments=lambda folder: ("words", "import", filled / "words.jsonl", "--db", folder / LIBRARY),
        outcome=kill_stories.annotations,
        half_written=kill_stories.some_annotations,
    )
    LibraryWriter.open(told.template / LIBRARY).close()
    count = times(CI, LONG)
    record("Killed", told.name, count, tell(told, zygote, count))


def test_exports(story: Callable, zygote: Zygote, filled: Path, times: Callable, record: Callable) -> None:
    count = times(CI, LONG)
    for name, arguments in (
        (
            "`export` of a table over an older one",
            ("--format", "json", "--overwrite", "-o", "out/table.json"),
        ),
        ("`export` of sidecars", ("--format", "xmp", "-o", "out/")),
    ):
        told = story(
            name,
            arguments=lambda folder, rest=arguments: (
                *("export", EVERYTHING, "--db", filled / LIBRARY),
                *(folder / part if part.startswith("out/") else part for part in rest),
            ),
            outcome=kill_stories.files,
            half_written=kill_stories.torn_files,
        )
        (told.template / "out").mkdir(exist_ok=True)
        (told.template / "out" / "table.json").write_text("older")
        (told.template / "before.json").write_text(json.dumps(kill_stories.files(told.template)))
        record("Killed", told.name, count, tell(told, zygote, count))


@pytest.mark.parametrize("way", ["copied", "--reencode"])
def test_cuts(
    way: str, story: Callable, zygote: Zygote, filled: Path, times: Callable, record: Callable
) -> None:
    told = story(
        "a cut" + (" with `--reencode`" if way == "--reencode" else ""),
        arguments=lambda folder: (
            *("cut", EVERYTHING, "--limit", "4", "-o", folder / "out", "--db", filled / LIBRARY),
            *([way] if way == "--reencode" else []),
        ),
        outcome=kill_stories.clips,
        half_written=kill_stories.torn_clips,
    )
    count = times(CI, LONG)
    record("Killed", told.name, count, tell(told, zygote, count))


def test_retag_restore_and_merge(
    story: Callable, zygote: Zygote, filled: Path, times: Callable, record: Callable, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.db"
    assert run_vtag("library", "backup", backup, "--db", filled / LIBRARY).returncode == 0
    count = times(2, LONG)
    for name, arguments in (
        ("`retag` with another threshold", ("retag", "--threshold", "0.3")),
        ("`library restore`", ("library", "restore", "--yes", backup)),
        ("`library merge`", ("library", "merge", backup)),
    ):
        told = story(
            name,
            arguments=lambda folder, rest=arguments: (*rest, "--db", folder / LIBRARY),
            outcome=kill_stories.scanned,
        )
        if name != "`library merge`":
            for file in (LIBRARY, "observations.db"):
                (told.template / file).write_bytes((filled / file).read_bytes())
        else:
            for path in told.template.iterdir():
                path.unlink()
            LibraryWriter.open(told.template / LIBRARY).close()
        record("Killed", told.name, count, tell(told, zygote, count))


def test_a_download(
    story: Callable, zygote: Zygote, times: Callable, record: Callable, tmp_path: Path
) -> None:
    body = (Path(__file__).parents[1] / "data" / "golden" / "control_ok.pth").read_bytes()
    with file_server() as server:
        url = server.serve(file_response(body, etag='"one"'))
        told = story(
            "the download of a model",
            arguments=lambda folder: ("models", "pull", "swin3d-t"),
            outcome=kill_stories.installed,
            half_written=kill_stories.torn_models,
            environment={"VTAG_HOME": str(tmp_path / "work")},
        )
        facts = f'licence = "CC0-1.0"\nsize_mb = {len(body) / 2**20:.4g}\nurl = "{url}"\n'
        (told.template / "models.toml").write_text(f'[swin3d-t]\ntitle = "a small model"\n{facts}')
        count = times(CI, LONG)
        record("Killed", told.name, count, tell(told, zygote, count))


def test_a_training(
    story: Callable, zygote: Zygote, times: Callable, record: Callable, tmp_path: Path
) -> None:
    """By a recipe; it resumes to the bit."""
    for kind in ("red", "green"):
        make_clips(tmp_path / "train" / kind, kind, 2, seconds=1)
        make_clips(tmp_path / "val" / kind, kind, 1, first=20, seconds=1)
    (tmp_path / "recipe.toml").write_text(RECIPE)

    def arguments(folder: Path) -> kill_stories.Arguments:
        begun = (folder / "out").exists() and any((folder / "out").iterdir())
        return (
            *("train", tmp_path / "recipe.toml", "--set", f"run.out={folder / 'out'}"),
            *(["--resume"] if begun else []),
        )

    told = story(
        "a training by a recipe, resumed",
        arguments=arguments,
        outcome=kill_stories.network,
        half_written=kill_stories.torn_networks,
    )
    count = times(CI, LONG)
    record("Killed", told.name, count, tell(told, zygote, count))


RECIPE = """
[model]
name = "stripes"
embed_dim = 8
depths = [1, 1]
num_heads = [1, 2]
window_size = [2, 4, 4]
drop_path = 0.0
[data]
train = "train"
val = "val"
frames = 4
interval = 1
short_side = 32
crop = 32
area = [0.9, 1.0]
[optim]
epochs = 2
batch_size = 4
clips_at_once = 4
lr = 3e-3
backbone_lr_scale = 1.0
warmup_epochs = 0.5
[run]
amp = false
device = "cpu"
"""

QUEUE = """
import sys, time
from pathlib import Path
from vtag.engine.jobs.job_queue import JobQueue
queue = JobQueue(Path(sys.argv[1]))
for arguments in sys.argv[2:]:
    queue.submit("retag", arguments, arguments.split("|"))
    print(arguments, flush=True)
while queue.waiting_jobs() or queue.current_job():
    queue.start_next()
    time.sleep(0.05)
"""


def test_the_queue_of_the_page(
    story: Callable, zygote: Zygote, filled: Path, times: Callable, record: Callable, tmp_path: Path
) -> None:
    """A job that was accepted runs, though the server is killed at any point; the jobs here write a file each."""
    count = times(3, LONG)
    library = tmp_path / LIBRARY

    def jobs(out: Path) -> list[str]:
        export = f"export|archery|--format|json|--overwrite|--db|{filled / LIBRARY}"
        return [f"{export}|-o|{out}/{number}.json" for number in range(2)]

    LibraryWriter.open(library).close()
    whole = zygote.run(library, *jobs(tmp_path), code=QUEUE, is_counted=True)
    assert whole.status == 0, whole.stderr
    lost = killed = 0
    for round_, kill in enumerate(choose_kills(whole.points, 2.0, count, seed=1)):
        out = tmp_path / str(round_)  # a job of the round before may still write its file
        out.mkdir()
        first = zygote.run(library, *jobs(out), code=QUEUE, kill=kill)
        killed += first.was_killed
        assert set(integrity(library)) == {"ok"}, kill
        accepted = len(first.stdout.splitlines())
        again = zygote.run(library, code=QUEUE)  # the next server
        assert again.status == 0, again.stderr
        wait_for_jobs(library)
        deadline = time.monotonic() + 60  # a job that the killed server started may still run
        files = [out / f"{number}.json" for number in range(accepted)]
        while not all(file.exists() for file in files) and time.monotonic() < deadline:
            time.sleep(0.1)
        lost += sum(not file.exists() for file in files)
    assert lost == 0
    record(
        "Killed",
        "the page's queue",
        count,
        f"the server died {killed} times; no job that it had accepted was lost",
    )


def wait_for_jobs(library: Path) -> None:
    deadline = time.monotonic() + 60
    while JobQueue(library).waiting_jobs() or has_runs(library):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def has_runs(library: Path) -> bool:
    with closing(open_reader(library)) as reader:
        return bool(active_runs(reader))


def test_an_upgrade(
    story: Callable, zygote: Zygote, times: Callable, record: Callable, tmp_path: Path
) -> None:
    """A killed upgrade is undone: the library is as it was, or upgraded; a backup is whole or not there."""
    names = [name for name in NAMES if name != NAMES[-1]]
    count = times(1, LONG // len(names))
    died = 0
    for name in names:
        library = unpack(name, tmp_path / name)
        found = found_then(library)
        told = story(
            f"the upgrade of a library of {name}",
            arguments=lambda folder: (
                "search",
                QUERY,
                "--sure",
                "--json",
                "--db",
                folder / LIBRARY,
            ),
            outcome=kill_stories.scanned,
            half_written=kill_stories.torn_backups,
        )
        for file in (LIBRARY, "observations.db"):
            (told.template / file).write_bytes((library.parent / file).read_bytes())
        happened = tell(told, zygote, count + (name == names[0]) * 2)
        died += int(happened.split()[0]) + int(happened.split(", ")[1].split()[0])
        assert kill_stories.found(told.work / LIBRARY) == found
    record(
        "Old libraries",
        f"an upgrade from each of {len(names)} earlier schemas, killed",
        count * len(names) + 2,
        f"{died} died on the way; each library was as before or upgraded, and found what it found",
    )
