"""What the page shows for what a person asks: the plain functions, without Gradio and without a browser."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from helpers.library_factory import LABELS, SAMPLING, add_model, add_video

from vtag.app.ui import custom_tags, scan_control, search, training_control, video_view
from vtag.engine.errors import VtagError
from vtag.engine.jobs.job_queue import JobQueue
from vtag.engine.library import page_queries
from vtag.engine.library.analysis import derive
from vtag.engine.library.analysis.curves import score_curve
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import Library
from vtag.engine.library.store import files, heads, runs


@pytest.fixture
def shelf(library: Library, tmp_path: Path) -> Path:
    """The path of a library with two videos and their moments, closed for nobody."""
    model = heads.load_head(library, add_model(library))
    heads.use_model(library, model.id)
    heads.set_model_threshold(library, model.id, 0.3)
    for number in range(2):
        content = add_video(library, tmp_path / "clips" / f"{number} <b>.mp4", seed=number)
        head = heads.load_head(library, model.id)
        derive.derive_segments(library, content, head, derive.derivation_rules(library, head), SAMPLING)
    files.add_roots(library, [str(tmp_path / "clips").encode()])
    return library.path


def first_moment(library: Path) -> page_queries.MomentRow:
    with Library.open(library) as opened:
        return page_queries.video_moments(opened.connection, 1)[0]


@pytest.mark.parametrize(
    ("asked", "query"),
    [
        (search.SearchForm("yoga"), "yoga"),
        (search.SearchForm("yoga OR archery", score=0.5), "(yoga OR archery) score>=0.5"),
        (search.SearchForm("a", model='x" OR b', source="user"), '(a) model:"x  OR b" source:"user"'),
        (search.SearchForm("a", after="2024", before="2025-01-02"), '(a) after:"2024" before:"2025-01-02"'),
    ],
)
def test_filters_narrow_the_whole_query(asked: search.SearchForm, query: str) -> None:
    assert asked.as_query() == query


def test_an_address_brings_no_nonsense() -> None:
    asked = search.form_from_address(
        {"q": "yoga", "score": "nan?", "source": "<script>", "after": "2024", "x": "y"}
    )
    assert asked == search.SearchForm("yoga", after="2024")
    assert search.form_from_address({"score": "7"}).score == 1.0
    assert len(search.form_from_address({"q": "a" * 9999}).q) == 500


def test_what_is_found_is_escaped(shelf: Path) -> None:
    shown = search.show_results(shelf, search.SearchForm("yoga OR archery OR bike"))
    assert "vtag-card" in shown and "&lt;b&gt;" in shown and "<b>" not in shown
    assert "vtag-card" in search.show_results(shelf, search.SearchForm())  # what was found last
    assert (
        "no label fits" in (said := search.show_results(shelf, search.SearchForm("zymurgy"))).lower()
        or "No moment" in said
    )
    assert 'role="alert"' in search.show_results(shelf, search.SearchForm("(yoga"))
    assert 'role="alert"' in search.show_results(shelf, search.SearchForm("yoga", after="<yesterday>"))
    assert "archery" in search.show_suggestions(shelf)
    assert 'data-content="' in search.show_similar_to_moment(shelf, first_moment(shelf).id)


def test_an_empty_library_says_what_to_do(library: Library) -> None:
    assert "Choose a folder" in search.show_results(library.path, search.SearchForm())
    assert search.show_suggestions(library.path) == ""


@pytest.mark.parametrize(
    ("written", "ms"),
    [("", None), (" ", None), ("83", 83_000), ("1:23.5", 83_500), ("1:02:03", 3_723_000), ("0:04,25", 4250)],
)
def test_times_are_read_as_people_write_them(written: str, ms: int | None) -> None:
    assert video_view.parse_time(written) == ms


@pytest.mark.parametrize("written", ["soon", "1:2:3:4", "-5", "1e9", "<b>"])
def test_what_is_no_time_says_so(written: str) -> None:
    with pytest.raises(VtagError, match="is no time"):
        video_view.parse_time(written)


def test_a_person_corrects_and_takes_back(shelf: Path) -> None:
    moment = first_moment(shelf)
    timeline, tags = video_view.confirm(shelf, 1, moment.id, "")
    assert "confirmed" in tags and "vtag-sure" in timeline
    _, tags = video_view.reject(shelf, 1, moment.id, "")
    assert "✗ rejected" in tags
    _, tags = video_view.rename(shelf, 1, moment.id, "a <new> name", "")
    assert "a &lt;new&gt; name" in tags and "✓ yours" in tags
    _, tags = video_view.add(shelf, 1, "mine", "0:01", "0:02", "")
    assert "0:01–0:02" in tags
    assert "is no time" in video_view.add(shelf, 1, "mine", "soon", "", "")[1]
    assert "cannot be a label" in video_view.add(shelf, 1, "??", "", "", "")[1]
    for _ in range(4):
        _, tags = video_view.undo(shelf, 1, "")
        assert "Taken back" in tags
    assert "nothing to undo" in video_view.undo(shelf, 1, "")[1]
    assert first_moment(shelf).verdict == ""


def test_what_is_gone_says_so(shelf: Path) -> None:
    assert "gone" in video_view.show_moment(shelf, 987654).player
    assert "gone" in video_view.show_video(shelf, 987654, 0).player
    assert "no moment 987654" in video_view.confirm(shelf, 1, 987654, "")[1]
    assert "gone" in video_view.confirm(shelf, 987654, 1, "")[1]
    assert "gone" in search.show_similar_to_moment(shelf, 987654)


def test_the_curve_is_what_the_head_says_of_the_observations(shelf: Path) -> None:
    with Library.open(shelf) as opened:
        found = score_curve(opened, 1, "yoga")
        told = [each for each in page_queries.video_moments(opened.connection, 1) if each.label == "yoga"]
        assert found.windows.shape == (8, 2) and found.threshold == pytest.approx(0.3)
        assert max(each.score for each in told) == pytest.approx(found.scores.max())
        assert len(score_curve(opened, 1, "unknown").scores) == 0
    timeline, _ = video_view.show_curve(shelf, 1, "yoga")
    assert "<polygon" in timeline and "highest" in timeline
    assert "No label is called" in video_view.show_curve(shelf, 1, "unknown")[1]


def test_examples_are_words_and_can_be_said_of_any_stretch(shelf: Path) -> None:
    assert "Name the tag" in custom_tags.record_example(shelf, " ", 1, 0, 1000, is_example=True)
    assert custom_tags.record_example(shelf, "waving", 1, 0, 2000, is_example=True) == ""
    assert custom_tags.record_example(shelf, "waving", 2, 1000, 3000, is_example=False) == ""
    assert "1 of waving, 1 of something else" in custom_tags.show_examples(shelf, "waving")
    assert "waving (1)" in custom_tags.show_examples(shelf, "")
    with Library.open(shelf) as opened:
        said = sorted((w.verdict, w.start_ms) for w in annotation_log.list_annotations(opened.connection))
    assert said == [("added", 0), ("rejected", 1000)]
    places, _ = custom_tags.find_candidates(shelf, "yoga OR archery OR bike")
    shown = custom_tags.show_choices(shelf, "waving", places, "Choose")
    assert shown.count('data-do="yes"') == len(places) > 0
    assert "gone" in custom_tags.record_example(shelf, "waving", 98765, 0, 1000, is_example=False)


def test_folders_can_be_looked_into(tmp_path: Path) -> None:
    (tmp_path / "<i>videos").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "file.mp4").touch()
    shown = scan_control.show_folders(str(tmp_path))
    assert "&lt;i&gt;videos" in shown and ".hidden" not in shown and "file.mp4" not in shown
    assert str(Path.home()) in scan_control.show_folders("/nowhere/at/all")
    assert scan_control.add_folder("/a\n\n /b ", "/a") == "/a\n/b"


def test_a_scan_that_makes_no_sense_is_refused(shelf: Path) -> None:
    queue = JobQueue(shelf)
    for folders in ("", "relative/path", "/nowhere/at/all"):
        assert 'role="alert"' in scan_control.start_scan(shelf, queue, scan_control.ScanForm(folders))
        assert 'role="alert"' in scan_control.estimate_cost(shelf, scan_control.ScanForm(folders))
    assert queue.waiting_jobs() == []


def test_jobs_wait_for_their_turn_and_outlive_who_asked(shelf: Path) -> None:
    with Library.open(shelf) as opened:
        other = runs.start(opened, "scan", "/of/another/process")  # by this process, which runs
        queue = JobQueue(shelf)
        assert not queue.submit("scan", "first", ["--version"])
        assert not queue.submit("scan", "second", ["retag", "--db", "/nowhere/x.db"])
        assert not queue.submit("scan", "third", ["--version"])
        again = JobQueue(shelf)
        assert [job.subject for job in again.waiting_jobs()] == ["first", "second", "third"]
        again.cancel(again.waiting_jobs()[2].number)
        assert "second" in scan_control.show_progress(shelf, again)
        runs.finish(opened, other, "done")
    deadline = time.monotonic() + 120
    while (again.waiting_jobs() or again.current_job()) and time.monotonic() < deadline:
        again.start_next()
        time.sleep(0.1)
    assert again.waiting_jobs() == [] and again.current_job() is None
    assert again.failure.startswith("there is no library at /nowhere/x.db")
    assert "/nowhere/x.db" in scan_control.show_progress(shelf, again)
    assert not again.interrupt()


def test_a_run_tells_its_speed_and_the_time_left() -> None:
    told = {"videos": 3, "of": 9, "video_ms": 120_000, "of_ms": 480_000}
    run = runs.Run(
        1, "scan", "x", 1, "h", "running", "2026-01-01T00:00:00+00:00", "2026-01-01T00:01:00+00:00", told
    )
    assert runs.estimate_run(run) == runs.RunEstimate(2.0, 180.0)
    assert runs.estimate_run(run._replace(progress={})) == runs.RunEstimate(None, None)
    half_a_minute_paused = {**told, "worked_s": 30.0}
    assert runs.estimate_run(run._replace(progress=half_a_minute_paused)) == runs.RunEstimate(4.0, 90.0)


def test_the_server_process_would_load_no_model() -> None:
    """The page's functions need neither torch nor a decoder; a test of the whole server measures its memory."""
    import subprocess

    code = "import sys, vtag.app.ui.page; print([m for m in ('torch', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_answers_into_one_place_take_their_turn(shelf: Path, tmp_path: Path) -> None:
    """Else what was asked for first, and is answered late, would overwrite what was asked for after it."""
    from vtag.app.ui.gradio_events import serial_groups
    from vtag.app.ui.page import build_page
    from vtag.engine.jobs.model_downloads import ModelDownloads

    page = build_page(shelf, JobQueue(shelf), ModelDownloads(), tmp_path)
    named = serial_groups(page)
    found: dict[str, set[str]] = {}
    for number, function in page.fns.items():
        assert not function.queue or function.fn is None  # that one's stream can lose an answer
        for shown in function.outputs:
            if name := getattr(shown, "elem_id", None):
                found.setdefault(name, set()).add(named.get(number, "at once"))
    at_first = {"at once"}  # when the page is opened, nothing was asked for yet
    for name, turn in {
        "vtag-results": "search",
        "vtag-watch": "watch",
        "vtag-timeline": "watch",
        "vtag-tags": "watch",
        "vtag-trial": "examples",
        "vtag-examples": "examples",
        "vtag-choices": "examples",
        "vtag-models": "models",
    }.items():
        assert found[name] - at_first == {turn}, name
        assert ("at once" in found[name]) == (turn in ("search", "watch")), name


def test_labels_are_there(shelf: Path) -> None:
    with Library.open(shelf) as opened:
        assert page_queries.labels(opened.connection) == sorted(
            name for name in LABELS if name != "none of these"
        )


def test_a_training_draws_its_curves_while_it_runs(shelf: Path) -> None:
    from vtag.app.ui.html_charts import confusion_matrix
    from vtag.app.ui.html_jobs import jobs_panel

    history = {
        "loss": [2.0, 1.0],
        "accuracy": [0.2, 0.6],
        "val_loss": [None, 1.2],
        "val_accuracy": [None, None],
    }
    with Library.open(shelf) as opened:
        run = runs.start(opened, "finetune", "/models/mine")
        told = {"epoch": 3, "of": 30, "loss": 0.9, "accuracy": 0.7, "history": history}
        runs.report(opened, run, told)
        shown = jobs_panel(runs.recent_runs(opened.connection), None, [], "")
    assert "epoch 3 of 30" in shown and "loss 0.900, 70 % right" in shown
    assert shown.count("<polyline") == 3 and "training: 1.000" in shown  # val_accuracy was not measured
    assert "<b>" not in confusion_matrix(["a<b>", "c"], [[3, 1], [0, 2]])


def test_a_folder_is_trained_as_asked_once_and_what_was_left_goes_on(
    shelf: Path, vtag_home: Path, tmp_path: Path
) -> None:
    with Library.open(shelf) as opened:
        runs.start(opened, "scan", "something else")  # so that all that is asked for waits
    queue, folder = JobQueue(shelf), str(tmp_path / "clips")
    assert "There is no" in training_control.start_training(shelf, queue, str(tmp_path / "nowhere"))
    assert "found in all that was seen" in training_control.start_training(shelf, queue, folder)
    assert [(job.kind, job.needs_previous) for job in queue.waiting_jobs()] == [
        ("finetune", False),
        ("retag", True),
    ]
    assert "--train" not in queue.waiting_jobs()[0].arguments
    assert "It is trained" in training_control.start_training(shelf, queue, folder, "stages=2", 5)
    assert "taught already" in training_control.start_training(shelf, queue, folder, "all", 5)
    asked = queue.waiting_jobs()[2].arguments
    assert " ".join(asked[-6:]) == f"--train stages=2 --epochs 5 -- {folder}" and "--resume" not in asked
    assert training_control.show_progress(shelf, queue).count(">Remove<") == 2  # the trainings of the three
    queue.cancel(queue.waiting_jobs()[2].number)
    left = vtag_home / "models" / ".clips-network.training"
    left.mkdir(parents=True)
    (left / "state.safetensors").touch()
    assert "clips-network</strong> was left" in training_control.show_progress(shelf, queue)
    assert "goes on as the model clips-network" in training_control.start_training(
        shelf, queue, folder, "stages=2", 5
    )
    assert "--resume" in queue.waiting_jobs()[2].arguments
    training_control.discard_unfinished(shelf, queue, "../../clips-network")
    assert left.exists()
    assert "was left" not in training_control.discard_unfinished(shelf, queue, "clips-network")
    assert not left.exists()


def test_a_library_without_moments_shows_its_videos_and_says_what_to_do(
    library: Library, tmp_path: Path
) -> None:
    """As after a scan with the starter, which is silent on most footage: else there was nothing to press."""
    for number in range(2):
        add_video(library, tmp_path / "clips" / f"{number} <b>.mp4", seed=number)
    shown = search.show_results(library.path, search.SearchForm())
    assert shown.count("vtag-card") == 2 and "&lt;b&gt;" in shown and "<b>" not in shown
    assert "retag --threshold" in shown and 'data-do="similar"' in shown
    places, said = custom_tags.find_candidates(library.path, " ")
    assert [place.display.rsplit("/", 1)[1] for place in places] == ["1 <b>.mp4", "0 <b>.mp4"] and said == ""
    runs.start(library, "scan", "clips")
    assert "Scan shows what runs" in search.show_results(library.path, search.SearchForm())
