"""Of all that a person says of a range, the last thing stands: through every door, at any speed, by any clock."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.shelf import fill
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtag.app.commands import annotate as terminal
from vtag.app.ui import teach, watch
from vtag.engine.library import timestamps
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import Library
from vtag.engine.library.search.moments import search

TAG = "wave"


@pytest.fixture
def seen(library: Library, tmp_path: Path) -> Library:
    """Two videos of 8 s with a model's moments in them."""
    fill(library, tmp_path / "v", 2)
    return library


def answer(library: Library, *answers: bool) -> str:
    """The verdict that stands after Yes and No were pressed in Teach, one directly after the other."""
    for is_it in answers:
        assert teach.say(library.path, TAG, 1, 1000, 3000, is_it=is_it) == ""
    (word,) = annotation_log.list_annotations(library.connection)
    return word.verdict


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_the_last_answer_in_teach_stands(seen: Library, count: int) -> None:
    assert answer(seen, *(number % 2 == 0 for number in range(count))) == ("rejected", "added")[count % 2]


def test_a_yes_after_a_no_stands(seen: Library) -> None:
    assert answer(seen, False, True) == "added"


def test_a_no_to_nearly_the_same_range_stands(seen: Library) -> None:
    """A video as a whole and its range from beginning to end are two places, and one thing to a person."""
    annotation_log.add(seen, 1, TAG)
    assert teach.say(seen.path, TAG, 1, 0, 8000, is_it=False) == ""
    assert not search(seen.connection, TAG)
    annotation_log.add(seen, 1, TAG)
    assert [(m.start_ms, m.end_ms) for m in search(seen.connection, TAG)] == [(0, 8000)]


def test_what_is_said_again_counts_anew(seen: Library) -> None:
    annotation_log.add(seen, 1, TAG, 1000, 3000)
    annotation_log.record_verdict(seen, 1, TAG, "rejected", 0, 8000)
    assert annotation_log.add(seen, 1, TAG, 1000, 3000).id
    assert [(m.start_ms, m.end_ms) for m in search(seen.connection, TAG)] == [(1000, 3000)]
    assert not annotation_log.add(seen, 1, TAG, 1000, 3000).id


def test_an_imported_word_of_a_clock_that_is_ahead_counts_from_today_on(seen: Library) -> None:
    """Also where the same was said before, and something else since; but the same file again changes nothing."""
    annotation_log.add(seen, 1, TAG, 1000, 3000)
    annotation_log.record_verdict(seen, 1, TAG, "rejected", 0, 8000)
    ahead = annotation_log.list_annotations(seen.connection)[0]._replace(said_at="9000-01-01T00:00:00+00:00")
    assert annotation_log.merge_annotations(seen, [ahead]).id
    assert len(search(seen.connection, TAG)) == 1
    assert not annotation_log.merge_annotations(seen, [ahead]).id
    later = ahead._replace(verdict="rejected", said_at="9000-01-01T00:00:01+00:00")
    assert annotation_log.merge_annotations(seen, [later, ahead]).id and not search(seen.connection, TAG)
    assert not annotation_log.merge_annotations(seen, [later, ahead]).id


def test_a_time_in_another_format_is_compared_as_a_time(seen: Library) -> None:
    annotation_log.add(seen, 1, TAG, 1000, 3000)
    (word,) = annotation_log.list_annotations(seen.connection)
    second = word.said_at.split(".")[0]
    for earlier in (f"{second}+00:00", f"{second}Z"):
        assert not annotation_log.merge_annotations(
            seen, [word._replace(verdict="rejected", said_at=earlier)]
        ).id
    hence = datetime.fromisoformat(word.said_at) + timedelta(microseconds=1)
    zone = timezone(timedelta(hours=-11))
    rejected = word._replace(verdict="rejected", said_at=hence.astimezone(zone).isoformat())
    assert annotation_log.merge_annotations(seen, [rejected]).after == (
        rejected._replace(said_at=hence.isoformat(timespec="microseconds")),
    )


def test_no_time_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = timestamps._IncreasingClock()
    hour = datetime(2026, 3, 1, 12, tzinfo=UTC)
    times = []
    for when in (
        hour,
        hour,
        hour - timedelta(days=1),
        hour + timedelta(seconds=1),
        datetime.max.replace(tzinfo=UTC),
    ):
        monkeypatch.setattr(timestamps, "_machine_time", lambda when=when: when)
        times.append(timestamps.format_timestamp(clock.read()))
    assert times == sorted(set(times)) and times[0] == "2026-03-01T12:00:00.000000+00:00"
    assert clock.read() == datetime.max.replace(tzinfo=UTC)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process cannot be changed here")
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize("when", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00", "no time"])
def test_any_time_is_shown(monkeypatch: pytest.MonkeyPatch, zone: str, when: str) -> None:
    with monkeypatch.context() as there:
        there.setenv("TZ", zone)
        time.tzset()
        shown = timestamps.local_minute(when)
        assert timestamps.local_minute("2026-03-01T12:00:00+00:00") in (
            "2026-03-01 07:00",
            "2026-03-01 21:00",
        )
    time.tzset()
    assert shown == when or len(shown) <= len("2026-03-01 07:00")


@pytest.mark.parametrize("latest", [None, "", "no time", "1999-01-01T00:00:00+00:00"])
def test_what_is_no_later_time_does_not_move_the_clock(latest: str | None) -> None:
    assert timestamps.now_after(latest) < timestamps.now()


# --- any door, any order, any clock ---------------------------------------------------------------------------


class Step(NamedTuple):
    """One thing that a person says: through which door, of which range, whether it is so, and what the clock did."""

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
    """Says things of the first of two videos through every door, as each is called by what stands before it."""

    def __init__(self, library: Path, file: Path) -> None:
        self.library, self.file = library, file

    def say(self, step: Step) -> tuple[int, int] | None:
        """The range that was judged; None if this door has nothing to judge."""
        doors: dict[str, Callable[[Step], tuple[int, int] | None]] = {
            "teach": self.teach,
            "watch": self.watch,
            "terminal": self.terminal,
            "import": self.import_file,
        }
        return doors[step.door](step) if step.door in doors else self.judge_moment(step)

    def teach(self, step: Step) -> tuple[int, int]:
        assert teach.say(self.library, step.tag, 1, *step.span, is_it=step.is_it) == ""
        return step.span

    def watch(self, step: Step) -> tuple[int, int] | None:
        if not step.is_it:
            return None
        start, end = (f"{ms / 1000:g}" for ms in step.span)
        assert "vtag-error" not in watch.add(self.library, 1, step.tag, start, end, "")[1]
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
            (watch.confirm if step.is_it else watch.reject)(self.library, 1, moment[0], "")
        else:
            (terminal.confirm if step.is_it else terminal.reject)([moment[0]], db=self.library)
        return moment[1], moment[2]

    def import_file(self, step: Step) -> tuple[int, int]:
        """Another machine's word, said a little later by its own clock, which writes whole seconds and a zone."""
        with Library.open(self.library) as library:
            said = annotation_log.list_annotations(library.connection)
            (key,) = library.connection.execute("SELECT key FROM contents WHERE id = 1").fetchone()
        latest = max([datetime.fromisoformat(word.said_at) for word in said], default=_clock_reads[0])
        when = (latest + timedelta(seconds=2)).replace(microsecond=0).astimezone(timestamps_zone)
        verdict = "added" if step.is_it else "rejected"
        entry = {"content": key, "label": step.tag, "start_ms": step.span[0], "end_ms": step.span[1]}
        file = self.library.with_name("words.jsonl")
        file.write_text(json.dumps({**entry, "verdict": verdict, "said_at": when.isoformat()}), "utf-8")
        terminal.import_words(file, db=self.library)
        return step.span

    def moments(self, tag: str, *, rejected: bool = False) -> list[tuple[int, int, int]]:
        """Id, start and end of the moments of the tag that stand in the video; also those that were rejected."""
        with Library.open(self.library) as library:
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
def test_the_last_thing_said_of_a_range_stands(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[Step],
    is_one_process: bool,
) -> None:
    folder = tmp_path_factory.mktemp("person")
    with Library.open(folder / "library.db") as library:
        fill(library, folder / "v", 2)
    person = Person(folder / "library.db", folder / "v" / "0.mp4")
    _clock_reads[0] = datetime(2026, 3, 1, 12, tzinfo=UTC)
    monkeypatch.setattr(timestamps, "_machine_time", lambda: _clock_reads[0])
    monkeypatch.setattr(timestamps, "_CLOCK", timestamps._IncreasingClock())
    for step in steps:
        _clock_reads[0] += step.clock_moves
        if not is_one_process:  # each command of the terminal is a process of its own
            monkeypatch.setattr(timestamps, "_CLOCK", timestamps._IncreasingClock())
        if judged := person.say(step):
            standing = [moment for moment in person.moments(step.tag) if _is_half_in(moment, judged)]
            assert bool(standing) == step.is_it, step
    with Library.open(person.library) as library:
        said_at = [word.said_at for word in annotation_log.list_annotations(library.connection)]
        changed_at = [change.at for change in annotation_log.list_changes(library.connection)]
    assert len(set(said_at)) == len(said_at)
    assert changed_at == sorted(set(changed_at), reverse=True)
    assert {len(at) for at in said_at + changed_at} <= {len("2026-03-01T12:00:00.000000+00:00")}
