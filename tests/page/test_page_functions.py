"""The functions behind the page's tabs, without Gradio and without a browser."""

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
from vtag.engine.models.catalog import is_model_name


@pytest.fixture
def shelf(library: Library, tmp_path: Path) -> Path:
    """The path of a library with two videos and their moments."""
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
    with Library.open(library) as writer:
        return page_queries.video_moments(writer.connection, 1)[0]


@pytest.mark.parametrize(
    ("form", "query"),
    [
        (search.SearchForm("yoga"), "yoga"),
        (search.SearchForm("yoga OR archery", score=0.5), "(yoga OR archery) score>=0.5"),
        (search.SearchForm("a", model='x" OR b', source="user"), '(a) model:"x  OR b" source:"user"'),
        (search.SearchForm("a", after="2024", before="2025-01-02"), '(a) after:"2024" before:"2025-01-02"'),
    ],
)
def test_filters_narrow_the_whole_query(form: search.SearchForm, query: str) -> None:
    assert form.as_query() == query


def test_invalid_values_in_an_address_are_ignored() -> None:
    form = search.form_from_address(
        {"q": "yoga", "score": "nan?", "source": "<script>", "after": "2024", "x": "y"}
    )
    assert form == search.SearchForm("yoga", after="2024")
    assert search.form_from_address({"score": "7"}).score == 1.0
    assert len(search.form_from_address({"q": "a" * 9999}).q) == 500


def test_results_are_escaped(shelf: Path) -> None:
    results = search.show_results(shelf, search.SearchForm("yoga OR archery OR bike"))
    assert "vtag-card" in results and "&lt;b&gt;" in results and "<b>" not in results
    assert "vtag-card" in search.show_results(shelf, search.SearchForm())  # the latest moments
    assert (
        "no label fits" in (message := search.show_results(shelf, search.SearchForm("zymurgy"))).lower()
        or "No moment" in message
    )
    assert 'role="alert"' in search.show_results(shelf, search.SearchForm("(yoga"))
    assert 'role="alert"' in search.show_results(shelf, search.SearchForm("yoga", after="<yesterday>"))
    assert "archery" in search.show_suggestions(shelf)
    assert 'data-content="' in search.show_similar_to_moment(shelf, first_moment(shelf).id)


def test_an_empty_library_shows_the_first_steps(library: Library) -> None:
    assert "Choose a folder" in search.show_results(library.path, search.SearchForm())
    assert search.show_suggestions(library.path) == ""


@pytest.mark.parametrize(
    ("written", "ms"),
    [("", None), (" ", None), ("83", 83_000), ("1:23.5", 83_500), ("1:02:03", 3_723_000), ("0:04,25", 4250)],
)
def test_typed_times_are_parsed(written: str, ms: int | None) -> None:
    assert video_view.parse_time(written) == ms


@pytest.mark.parametrize("written", ["soon", "1:2:3:4", "-5", "1e9", "<b>"])
def test_an_invalid_time_is_an_error(written: str) -> None:
    with pytest.raises(VtagError, match="is no time"):
        video_view.parse_time(written)


@pytest.mark.parametrize("folder", ["Танцы", "Judo 2024", "...", "a" * 200])
@pytest.mark.parametrize("part", [training_control.HEAD_ONLY, "all"])
def test_a_folder_of_any_name_gives_a_model_with_a_name(folder: str, part: str) -> None:
    assert is_model_name(training_control.model_name(Path("/clips") / folder, part))


def test_corrections_are_shown_and_undone(shelf: Path) -> None:
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


def test_a_missing_moment_shows_a_message(shelf: Path) -> None:
    assert "gone" in video_view.show_moment(shelf, 987654).player
    assert "gone" in video_view.show_video(shelf, 987654, 0).player
    assert "no moment 987654" in video_view.confirm(shelf, 1, 987654, "")[1]
    assert "gone" in video_view.confirm(shelf, 987654, 1, "")[1]
    assert "gone" in search.show_similar_to_moment(shelf, 987654)


def test_the_curve_has_the_scores_of_the_observations(shelf: Path) -> None:
    with Library.open(shelf) as writer:
        curve = score_curve(writer, 1, "yoga")
        moments = [
            moment for moment in page_queries.video_moments(writer.connection, 1) if moment.label == "yoga"
        ]
        assert curve.windows.shape == (8, 2) and curve.threshold == pytest.approx(0.3)
        assert max(moment.score for moment in moments) == pytest.approx(curve.scores.max())
        assert len(score_curve(writer, 1, "unknown").scores) == 0
    timeline, _ = video_view.show_curve(shelf, 1, "yoga")
    assert "<polygon" in timeline and "highest" in timeline
    assert "No label is called" in video_view.show_curve(shelf, 1, "unknown")[1]


def test_examples_are_annotations_of_any_time_range(shelf: Path) -> None:
    assert "Name the tag" in custom_tags.record_example(shelf, " ", 1, 0, 1000, is_example=True)
    assert custom_tags.record_example(shelf, "waving", 1, 0, 2000, is_example=True) == ""
    assert custom_tags.record_example(shelf, "waving", 2, 1000, 3000, is_example=False) == ""
    assert "1 of waving, 1 of something else" in custom_tags.show_examples(shelf, "waving")
    assert "waving (1)" in custom_tags.show_examples(shelf, "")
    with Library.open(shelf) as writer:
        verdicts = sorted(
            (annotation.verdict, annotation.start_ms)
            for annotation in annotation_log.list_annotations(writer.connection)
        )
    assert verdicts == [("added", 0), ("rejected", 1000)]
    ranges, _ = custom_tags.find_candidates(shelf, "yoga OR archery OR bike")
    choices = custom_tags.show_choices(shelf, "waving", ranges, "Choose")
    assert choices.count('data-do="yes"') == len(ranges) > 0
    assert "gone" in custom_tags.record_example(shelf, "waving", 98765, 0, 1000, is_example=False)


def test_the_folder_chooser_lists_folders(tmp_path: Path) -> None:
    (tmp_path / "<i>videos").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "file.mp4").touch()
    folders = scan_control.show_folders(str(tmp_path))
    assert "&lt;i&gt;videos" in folders and ".hidden" not in folders and "file.mp4" not in folders
    assert str(Path.home()) in scan_control.show_folders("/nowhere/at/all")
    assert scan_control.add_folder("/a\n\n /b ", "/a") == "/a\n/b"


def test_a_scan_without_a_readable_folder_is_refused(shelf: Path) -> None:
    queue = JobQueue(shelf)
    for folders in ("", "relative/path", "/nowhere/at/all"):
        assert 'role="alert"' in scan_control.start_scan(shelf, queue, scan_control.ScanForm(folders))
        assert 'role="alert"' in scan_control.estimate_cost(shelf, scan_control.ScanForm(folders))
    assert queue.waiting_jobs() == []


def test_jobs_wait_for_their_turn_and_outlive_their_queue_object(shelf: Path) -> None:
    with Library.open(shelf) as writer:
        other_run = runs.start(
            writer, "scan", "/of/another/process"
        )  # by this process, so the run counts as active
        queue = JobQueue(shelf)
        assert not queue.submit("scan", "first", ["--version"])
        assert not queue.submit("scan", "second", ["retag", "--db", "/nowhere/x.db"])
        assert not queue.submit("scan", "third", ["--version"])
        second_queue = JobQueue(shelf)
        assert [job.subject for job in second_queue.waiting_jobs()] == ["first", "second", "third"]
        second_queue.cancel(second_queue.waiting_jobs()[2].number)
        assert "second" in scan_control.show_progress(shelf, second_queue)
        runs.finish(writer, other_run, "done")
    deadline = time.monotonic() + 120
    while (second_queue.waiting_jobs() or second_queue.current_job()) and time.monotonic() < deadline:
        second_queue.start_next()
        time.sleep(0.1)
    assert second_queue.waiting_jobs() == [] and second_queue.current_job() is None
    assert second_queue.failure.startswith("there is no library at /nowhere/x.db")
    assert "/nowhere/x.db" in scan_control.show_progress(shelf, second_queue)
    assert not second_queue.interrupt()


def test_a_run_has_a_speed_and_an_estimated_time() -> None:
    progress = {"videos": 3, "of": 9, "video_ms": 120_000, "of_ms": 480_000}
    run = runs.Run(
        1, "scan", "x", 1, "h", "running", "2026-01-01T00:00:00+00:00", "2026-01-01T00:01:00+00:00", progress
    )
    assert runs.estimate_run(run) == runs.RunEstimate(2.0, 180.0)
    assert runs.estimate_run(run._replace(progress={})) == runs.RunEstimate(None, None)
    half_a_minute_paused = {**progress, "worked_s": 30.0}
    assert runs.estimate_run(run._replace(progress=half_a_minute_paused)) == runs.RunEstimate(4.0, 90.0)


def test_the_page_imports_no_inference_runtime() -> None:
    """The page's functions need no torch. Another test measures the memory of the whole server."""
    import subprocess

    code = "import sys, vtag.app.ui.page; print([m for m in ('torch', 'onnxruntime') if m in sys.modules])"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert process.stdout.strip() == "[]"


def test_events_that_update_the_same_component_share_a_serial_group(shelf: Path, tmp_path: Path) -> None:
    """Otherwise a late answer to an earlier request would overwrite a newer one."""
    from vtag.app.ui.gradio_events import serial_groups
    from vtag.app.ui.page import build_page
    from vtag.engine.jobs.model_downloads import ModelDownloads

    page = build_page(shelf, JobQueue(shelf), ModelDownloads(), tmp_path)
    groups = serial_groups(page)
    groups_by_component: dict[str, set[str]] = {}
    for number, function in page.fns.items():
        assert not function.queue or function.fn is None  # Gradio's queue can lose an answer
        for component in function.outputs:
            if name := getattr(component, "elem_id", None):
                groups_by_component.setdefault(name, set()).add(groups.get(number, "at once"))
    ungrouped = {"at once"}  # the event that fills the page when it opens
    for name, group in {
        "vtag-results": "search",
        "vtag-watch": "watch",
        "vtag-timeline": "watch",
        "vtag-tags": "watch",
        "vtag-trial": "examples",
        "vtag-examples": "examples",
        "vtag-choices": "examples",
        "vtag-models": "models",
    }.items():
        assert groups_by_component[name] - ungrouped == {group}, name
        assert ("at once" in groups_by_component[name]) == (group in ("search", "watch")), name


def test_the_library_lists_its_labels(shelf: Path) -> None:
    with Library.open(shelf) as writer:
        assert page_queries.labels(writer.connection) == sorted(
            name for name in LABELS if name != "none of these"
        )


def test_a_running_training_shows_its_curves(shelf: Path) -> None:
    from vtag.app.ui.html_charts import confusion_matrix
    from vtag.app.ui.html_jobs import jobs_panel

    history = {
        "loss": [2.0, 1.0],
        "accuracy": [0.2, 0.6],
        "val_loss": [None, 1.2],
        "val_accuracy": [None, None],
    }
    with Library.open(shelf) as writer:
        run = runs.start(writer, "finetune", "/models/mine")
        progress = {"epoch": 3, "of": 30, "loss": 0.9, "accuracy": 0.7, "history": history}
        runs.report(writer, run, progress)
        panel = jobs_panel(runs.recent_runs(writer.connection), None, [], "")
    assert "epoch 3 of 30" in panel and "loss 0.900, 70 % right" in panel
    assert panel.count("<polyline") == 3 and "training: 1.000" in panel  # val_accuracy was not measured
    assert "<b>" not in confusion_matrix(["a<b>", "c"], [[3, 1], [0, 2]])


def test_a_folder_is_trained_once_at_a_time_and_an_unfinished_training_goes_on(
    shelf: Path, vtag_home: Path, tmp_path: Path
) -> None:
    with Library.open(shelf) as writer:
        runs.start(writer, "scan", "something else")  # so that every later job waits
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
    arguments = queue.waiting_jobs()[2].arguments
    assert (
        " ".join(arguments[-6:]) == f"--train stages=2 --epochs 5 -- {folder}" and "--resume" not in arguments
    )
    assert (
        training_control.show_progress(shelf, queue).count(">Remove<") == 2
    )  # the trainings, not the retag job
    queue.cancel(queue.waiting_jobs()[2].number)
    state_folder = vtag_home / "models" / ".clips-network.training"
    state_folder.mkdir(parents=True)
    (state_folder / "state.safetensors").touch()
    assert "clips-network</strong> was left" in training_control.show_progress(shelf, queue)
    assert "goes on as the model clips-network" in training_control.start_training(
        shelf, queue, folder, "stages=2", 5
    )
    assert "--resume" in queue.waiting_jobs()[2].arguments
    training_control.discard_unfinished(shelf, queue, "../../clips-network")
    assert state_folder.exists()
    assert "was left" not in training_control.discard_unfinished(shelf, queue, "clips-network")
    assert not state_folder.exists()


def test_a_library_without_moments_shows_its_videos_and_a_hint(library: Library, tmp_path: Path) -> None:
    """As after a scan with the starter, which finds nothing in most footage. Otherwise there is nothing to press."""
    for number in range(2):
        add_video(library, tmp_path / "clips" / f"{number} <b>.mp4", seed=number)
    results = search.show_results(library.path, search.SearchForm())
    assert results.count("vtag-card") == 2 and "&lt;b&gt;" in results and "<b>" not in results
    assert "retag --threshold" in results and 'data-do="similar"' in results
    ranges, message = custom_tags.find_candidates(library.path, " ")
    assert [video_range.display.rsplit("/", 1)[1] for video_range in ranges] == [
        "1 <b>.mp4",
        "0 <b>.mp4",
    ] and message == ""
    runs.start(library, "scan", "clips")
    assert "Scan shows what runs" in search.show_results(library.path, search.SearchForm())
