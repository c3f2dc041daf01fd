"""Long calls of the page: Gradio asks for values in any thread; what is under way is listed, and can be stopped."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from vtag.app.ui import long_calls
from vtag.app.ui.activities import Activities
from vtag.app.ui.long_calls import STOPPED, LongCall


class Form(BaseModel):
    of: int = Field(3, ge=1)


def next_elsewhere(values: Generator[dict[str, Any], None, None]) -> dict[str, Any] | None:
    """The next value, asked for in a thread of its own."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(next, values, None).result()


def make_call(
    folder: Path, ended: threading.Event, title: str = "Count"
) -> tuple[Generator[dict[str, Any], None, None], Activities]:
    """A call that counts rows with a connection, which belongs to one thread; and the list of what is under way."""

    def count(form: Form) -> Generator[dict[str, Any], None, None]:
        db = sqlite3.connect(folder / "x.db")
        try:
            for number in range(form.of):
                db.execute("SELECT 1").fetchone()
                yield {"done": number, "of": form.of, "what": f"row {number}"}
            yield {"sentence": "Counted."}
        finally:
            db.close()
            ended.set()

    activities = Activities()
    call = LongCall("count", Form, count, title=title)
    return long_calls._guarded(call, activities)({"of": 3}), activities  # type: ignore[return-value]


def test_a_connection_is_used_in_the_thread_that_it_belongs_to(tmp_path: Path) -> None:
    ended = threading.Event()
    values, activities = make_call(tmp_path, ended)
    assert next_elsewhere(values) == {"done": 0, "of": 3, "what": "row 0"}
    assert activities.listed() == [{"number": 1, "title": "Count", "done": 0, "of": 3, "what": "row 0"}]
    assert [next_elsewhere(values) for _ in range(4)][-2:] == [{"sentence": "Counted."}, None]
    assert ended.is_set()
    assert activities.listed() == []


def test_a_call_ends_when_it_is_stopped_or_its_page_is_closed(tmp_path: Path) -> None:
    ended = threading.Event()
    values, activities = make_call(tmp_path, ended)
    next_elsewhere(values)
    assert activities.stop(1)
    assert next_elsewhere(values) == {"sentence": STOPPED, "is_stopped": True}
    assert next_elsewhere(values) is None
    assert ended.is_set()
    assert not activities.stop(1)
    ended.clear()
    values, activities = make_call(tmp_path, ended)
    next_elsewhere(values)
    values.close()
    assert ended.is_set()
    assert activities.listed() == []


def test_a_value_that_cannot_be_used_and_an_error_of_the_library_are_said(tmp_path: Path) -> None:
    def fail(_: Form) -> Generator[dict[str, Any], None, None]:
        yield {"done": 0, "of": 1, "what": "x"}
        raise sqlite3.OperationalError("disk I/O error")

    run = long_calls._guarded(LongCall("fail", Form, fail), Activities())
    assert list(run({"of": 0})) == [{"error": "Of has to be at least 1", "field": "of"}]
    assert list(run({}))[-1] == {"error": "the library cannot be read now (disk I/O error): try again"}
