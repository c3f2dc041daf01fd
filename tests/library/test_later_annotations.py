"""The last verdict on a range counts, whichever command or page recorded it, at any speed and by any clock."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.library_factory import fill_library
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtag.app.commands import annotate as terminal
from vtag.app.times import parse_time
from vtag.app.ui import teaching
from vtag.engine.library import timestamps
from vtag.engine.library.annotations import annotation_log, merging
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search.moments import search

TAG = "wave"


@pytest.fixture
def tagged(library: LibraryWriter, tmp_path: Path) -> LibraryWriter:
    """Two videos of 8 s with a model's moments in them."""
    fill_library(library, tmp_path / "v", 2)
    return library


def answer_in_teach(library: LibraryWriter, *answers: bool) -> str:
    """The verdict after presses of Yes and No in Teach, one directly after the other."""
    for is_it in answers:
        teaching.record_example(library, TAG, 1, 1000, 3000, is_example=is_it)
    (word,) = annotation_log.list_annotations(library.connection)
    return word.verdict


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_the_last_answer_in_teach_counts(tagged: LibraryWriter, count: int) -> None:
    assert (
        answer_in_teach(tagged, *(number % 2 == 0 for number in range(count)))
        == ("rejected", "added")[count % 2]
    )


def test_a_yes_after_a_no_counts(tagged: LibraryWriter) -> None:
    assert answer_in_teach(tagged, False, True) == "added"


def test_a_no_to_almost_the_same_range_counts(tagged: LibraryWriter) -> None:
    """A whole video and its range from beginning to end are two slots, but mean the same to a person."""
    annotation_log.add(tagged, 1, TAG)
    teaching.record_example(tagged, TAG, 1, 0, 8000, is_example=False)
    assert not search(tagged.connection, TAG)
    annotation_log.add(tagged, 1, TAG)
    assert [(m.start_ms, m.end_ms) for m in search(tagged.connection, TAG)] == [(0, 8000)]


def test_a_repeated_annotation_counts_as_a_new_one(tagged: LibraryWriter) -> None:
    annotation_log.add(tagged, 1, TAG, 1000, 3000)
    annotation_log.record_verdict(tagged, 1, TAG, "rejected", 0, 8000)
    assert annotation_log.add(tagged, 1, TAG, 1000, 3000).id
    assert [(m.start_ms, m.end_ms) for m in search(tagged.connection, TAG)] == [(1000, 3000)]
    assert not annotation_log.add(tagged, 1, TAG, 1000, 3000).id


def test_an_imported_future_annotation_is_dated_today(tagged: LibraryWriter) -> None:
    """Also if the same annotation was overruled before. Importing the same file again changes nothing."""
    annotation_log.add(tagged, 1, TAG, 1000, 3000)
    annotation_log.record_verdict(tagged, 1, TAG, "rejected", 0, 8000)
    future = annotation_log.list_annotations(tagged.connection)[0]._replace(
        said_at="9000-01-01T00:00:00+00:00"
    )
    assert merging.merge_annotations(tagged, [future]).id
    assert len(search(tagged.connection, TAG)) == 1
    assert not merging.merge_annotations(tagged, [future]).id
    later = future._replace(verdict="rejected", said_at="9000-01-01T00:00:01+00:00")
    assert merging.merge_annotations(tagged, [later, future]).id and not search(tagged.connection, TAG)
    assert not merging.merge_annotations(tagged, [later, future]).id
    past = future._replace(label="another", said_at="2024-01-01T00:00:00.000000+00:00")
    assert merging.merge_annotations(tagged, [past]).after == (past,)
    assert not merging.merge_annotations(tagged, [past]).id
    unknown = future._replace(label="a third", said_at="9100-01-01T00:00:00+00:00")  # after one that is known
    assert [a.label for a in merging.merge_annotations(tagged, [later, unknown]).after] == ["a third"]


def test_timestamps_of_other_formats_are_compared_as_times(tagged: LibraryWriter) -> None:
    annotation_log.add(tagged, 1, TAG, 1000, 3000)
    (word,) = annotation_log.list_annotations(tagged.connection)
    second = word.said_at.split(".")[0]
    for earlier in (f"{second}+00:00", f"{second}Z"):
        assert not merging.merge_annotations(tagged, [word._replace(verdict="rejected", said_at=earlier)]).id
    later_time = datetime.fromisoformat(word.said_at) + timedelta(microseconds=1)
    zone = timezone(timedelta(hours=-11))
    rejected = word._replace(verdict="rejected", said_at=later_time.astimezone(zone).isoformat())
    assert merging.merge_annotations(tagged, [rejected]).after == (
        rejected._replace(said_at=later_time.isoformat(timespec="microseconds")),
    )


def test_the_clock_always_increases(monkeypatch: pytest.MonkeyPatch) -> None:
    increasing_clock = timestamps._IncreasingClock()
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    times = []
    for instant in (
        noon,
        noon,
        noon - timedelta(days=1),
        noon + timedelta(seconds=1),
        datetime.max.replace(tzinfo=UTC),
    ):
        monkeypatch.setattr(timestamps, "_machine_time", lambda instant=instant: instant)
        times.append(timestamps.format_timestamp(increasing_clock.read()))
    assert times == sorted(set(times)) and times[0] == "2026-03-01T12:00:00.000000+00:00"
    assert increasing_clock.read() == datetime.max.replace(tzinfo=UTC)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process cannot be changed here")
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00", "no time"])
def test_any_timestamp_is_displayed(monkeypatch: pytest.MonkeyPatch, zone: str, instant: str) -> None:
    with monkeypatch.context() as context:
        context.setenv("TZ", zone)
        time.tzset()
        text = timestamps.local_minute(instant)
        assert timestamps.local_minute("2026-03-01T12:00:00+00:00") in (
            "2026-03-01 07:00",
            "2026-03-01 21:00",
        )
    time.tzset()
    assert text == instant or len(text) <= len("2026-03-01 07:00")


@pytest.mark.parametrize("latest", [None, "", "no time", "1999-01-01T00:00:00+00:00"])
def test_an_invalid_or_earlier_time_does_not_move_the_clock(latest: str | None) -> None:
    assert timestamps.now_after(latest) < timestamps.now()


# --- any command, any order, any clock ---------------------------------------------------------------------------


class Step(NamedTuple):
    """One verdict of a person: by which command or page, on which range, and how the clock moved before it."""

    door: str
    tag: str
    span: tuple[int, int]
    is_it: bool
    clock_moves: timedelta


RANGES = [(0, 8000), (1000, 3000), (1500, 3500), (2000, 3000), (5000, 6500)]
CLOCK_MOVES = [
    timedelta(0),  # twice in the same instant
    timedelta(microseconds=1),
    timedelta(milliseconds=300),
    timedelta(seconds=1),
    timedelta(days=2),
    timedelta(milliseconds=-700),
    timedelta(days=-400),
]
STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["teach", "watch", "terminal", "moment in watch", "moment in terminal", "import"]),
        st.sampled_from([TAG, "yoga"]),
        st.sampled_from(RANGES),
        st.booleans(),
        st.sampled_from(CLOCK_MOVES),
    ),
    min_size=2,
    max_size=10,
)


class Person:
    """Records verdicts on the first of two videos, by calling the functions of the commands and of the page."""

    def __init__(self, library: Path, file: Path) -> None:
        self.library, self.file = library, file

    def say(self, step: Step) -> tuple[int, int] | None:
        """The annotated range; None if this command or page has nothing to annotate."""
        doors: dict[str, Callable[[Step], tuple[int, int] | None]] = {
            "teach": self.teach,
            "watch": self.watch,
            "terminal": self.terminal,
            "import": self.import_file,
        }
        return doors[step.door](step) if step.door in doors else self.judge_moment(step)

    def teach(self, step: Step) -> tuple[int, int]:
        with LibraryWriter.open(self.library) as writer:
            teaching.record_example(writer, step.tag, 1, *step.span, is_example=step.is_it)
        return step.span

    def watch(self, step: Step) -> tuple[int, int] | None:
        if not step.is_it:
            return None
        start_ms, end_ms = (parse_time(f"{ms / 1000:g}") for ms in step.span)
        with LibraryWriter.open(self.library) as writer:
            annotation_log.add(writer, 1, step.tag, start_ms, end_ms)
        return step.span

    def terminal(self, step: Step) -> tuple[int, int] | None:
        if not step.is_it:
            return None
        is_whole = step.span == (0, 8000)
        span = (None, None) if is_whole else step.span
        terminal.add(self.file, step.tag, *span, db=self.library)
        return step.span

    def judge_moment(self, step: Step) -> tuple[int, int] | None:
        """Confirm or reject the first moment of the tag that lies in the range."""
        for moment in self.moments(step.tag, rejected=True):
            if _is_half_in(moment, step.span):
                break
        else:
            return None
        if step.door == "moment in watch":
            with LibraryWriter.open(self.library) as writer:
                (annotation_log.confirm if step.is_it else annotation_log.reject)(writer, [moment[0]])
        else:
            (terminal.confirm if step.is_it else terminal.reject)([moment[0]], db=self.library)
        return moment[1], moment[2]

    def import_file(self, step: Step) -> tuple[int, int]:
        """Import an annotation of another machine, dated a little later, in whole seconds and with a zone."""
        with LibraryWriter.open(self.library) as library:
            annotations = annotation_log.list_annotations(library.connection)
            (key,) = library.connection.execute("SELECT key FROM contents WHERE id = 1").fetchone()
        latest = max([datetime.fromisoformat(word.said_at) for word in annotations], default=_clock_reads[0])
        instant = (latest + timedelta(seconds=2)).replace(microsecond=0).astimezone(timestamps_zone)
        verdict = "added" if step.is_it else "rejected"
        entry = {"content": key, "label": step.tag, "start_ms": step.span[0], "end_ms": step.span[1]}
        file = self.library.with_name("words.jsonl")
        file.write_text(json.dumps({**entry, "verdict": verdict, "said_at": instant.isoformat()}), "utf-8")
        terminal.import_words(file, db=self.library)
        return step.span

    def moments(self, tag: str, *, rejected: bool = False) -> list[tuple[int, int, int]]:
        """Id, start and end of the tag's moments in the video; with rejected ones on request."""
        with LibraryWriter.open(self.library) as library:
            rows = library.connection.execute(
                "SELECT s.id, s.start_ms, s.end_ms FROM segments s JOIN labels l ON l.id = s.label_id "
                "WHERE s.content_id = 1 AND l.name = ? AND (? OR s.verdict IS NOT 'rejected')",
                (tag, rejected),
            )
            return rows.fetchall()


def _is_half_in(moment: tuple[int, int, int], span: tuple[int, int]) -> bool:
    """Whether half of a moment lies in a range."""
    _, start, end = moment
    return 2 * (min(end, span[1]) - max(start, span[0])) >= end - start


timestamps_zone = timezone(timedelta(hours=5))
_clock_reads = [datetime(2026, 3, 1, 12, tzinfo=UTC)]


@given(steps=STEPS, is_one_process=st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_last_verdict_on_a_range_counts(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[Step],
    is_one_process: bool,
) -> None:
    folder = tmp_path_factory.mktemp("person")
    with LibraryWriter.open(folder / "library.db") as library:
        fill_library(library, folder / "v", 2)
    person = Person(folder / "library.db", folder / "v" / "0.mp4")
    _clock_reads[0] = datetime(2026, 3, 1, 12, tzinfo=UTC)
    monkeypatch.setattr(timestamps, "_machine_time", lambda: _clock_reads[0])
    monkeypatch.setattr(timestamps, "_CLOCK", timestamps._IncreasingClock())
    for step in steps:
        _clock_reads[0] += step.clock_moves
        if not is_one_process:  # each command of the terminal is a process of its own
            monkeypatch.setattr(timestamps, "_CLOCK", timestamps._IncreasingClock())
        if judged_range := person.say(step):
            moments = [moment for moment in person.moments(step.tag) if _is_half_in(moment, judged_range)]
            assert bool(moments) == step.is_it, step
    with LibraryWriter.open(person.library) as library:
        said_at = [word.said_at for word in annotation_log.list_annotations(library.connection)]
        changed_at = [change.at for change in annotation_log.list_changes(library.connection)]
    assert len(set(said_at)) == len(said_at)
    assert changed_at == sorted(set(changed_at), reverse=True)
    assert {len(at) for at in said_at + changed_at} <= {len("2026-03-01T12:00:00.000000+00:00")}
