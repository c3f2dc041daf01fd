"""Which worker of a cluster gets which video, as a state machine: none is lost, none runs twice at once."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.engine.cluster.dispatch import Dispatcher
from vtag.engine.cluster.options import map_path, parse_path_map

NODES = {"a1": "a", "a2": "a", "b1": "b"}


def two_nodes(videos: int = 6, limit: int = 2) -> Dispatcher:
    dispatcher = Dispatcher()
    for worker, node in NODES.items():
        dispatcher.add_worker(worker, node, limit)
    for job_id in range(videos):
        dispatcher.submit(job_id)
    return dispatcher


def test_a_worker_has_no_more_than_its_limit() -> None:
    dispatcher = two_nodes()
    assert [dispatcher.next_videos(worker) for worker in NODES] == [[0, 1], [2, 3], [4, 5]]
    assert dispatcher.next_videos("a1") == []
    dispatcher.submit(6)
    dispatcher.finish(1)
    assert dispatcher.next_videos("a1") == [6]


def test_a_video_that_cannot_be_read_goes_to_another_node_once() -> None:
    dispatcher = two_nodes(1)
    assert dispatcher.next_videos("a1") == [0]
    assert dispatcher.fail(0, "not here") is None
    assert dispatcher.next_videos("a2") == []  # the same node
    assert dispatcher.next_videos("b1") == [0]
    assert dispatcher.fail(0, "neither here") == "neither here"
    assert dispatcher.unfinished == 0


def test_a_video_that_no_node_is_left_for_is_given_up_with_the_reason() -> None:
    dispatcher = two_nodes(1)
    dispatcher.next_videos("b1")
    assert dispatcher.fail(0, "not here") is None
    dispatcher.lose_worker("a1", is_death=True)
    assert dispatcher.lose_worker("a2", is_death=True).given_up == ((0, "not here"),)


def test_the_videos_of_a_dead_worker_run_alone_after_the_others_and_the_second_death_tells_which() -> None:
    dispatcher = two_nodes(5, limit=2)
    assert dispatcher.next_videos("a1") == [0, 1]
    assert dispatcher.lose_worker("a1", is_death=True).restarted == (0, 1)
    assert dispatcher.next_videos("a2") == [2, 3]
    assert dispatcher.next_videos("b1") == [4]
    dispatcher.finish(4)
    assert dispatcher.next_videos("b1") == [0]  # alone, although two would fit
    assert dispatcher.next_videos("b1") == []
    loss = dispatcher.lose_worker("b1", is_death=True)
    assert loss.restarted == () and [job_id for job_id, _ in loss.given_up] == [0]
    for job_id in (2, 3):
        dispatcher.finish(job_id)
    assert dispatcher.next_videos("a2") == [1]
    dispatcher.finish(1)
    assert dispatcher.unfinished == 0


def test_a_worker_whose_model_failed_casts_no_suspicion() -> None:
    dispatcher = two_nodes(2)
    assert dispatcher.next_videos("a1") == [0, 1]
    assert dispatcher.lose_worker("a1", is_death=False).given_up == ()
    assert dispatcher.next_videos("a2") == [0, 1]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_video_ends_exactly_once(data: st.DataObject) -> None:
    dispatcher = two_nodes(videos := 8)
    workers = dict(NODES)
    running: dict[int, str] = {}
    ended: Counter[int] = Counter()
    for number in range(200):
        if not dispatcher.unfinished:
            break
        if not workers or not running or data.draw(st.integers(0, 9)) == 0:
            workers[f"new{number}"] = node = data.draw(st.sampled_from("ab"))
            dispatcher.add_worker(f"new{number}", node, 2)
        for worker in workers:
            for job_id in dispatcher.next_videos(worker):
                assert job_id not in running
                running[job_id] = worker
        if not running:
            continue
        job_id = data.draw(st.sampled_from(sorted(running)))
        action = data.draw(st.sampled_from(("finish", "fail", "die")))
        if action == "finish":
            dispatcher.finish(job_id)
            ended[job_id] += 1
            del running[job_id]
        elif action == "fail":
            ended[job_id] += dispatcher.fail(job_id, "why") is not None
            del running[job_id]
        else:
            worker = running[job_id]
            loss = dispatcher.lose_worker(worker, is_death=True)
            del workers[worker]
            ended.update(job_id for job_id, _ in loss.given_up)
            running = {job: other for job, other in running.items() if other != worker}
    assert max(ended.values(), default=0) <= 1
    assert sum(ended.values()) + dispatcher.unfinished == videos


def test_a_folder_may_be_elsewhere_on_the_nodes(tmp_path: Path) -> None:
    """Also one that is named by a link: the videos' paths have none."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    here, link = os.fsencode(tmp_path / "a"), tmp_path / "link"
    path_map = parse_path_map([f"{link}=/data/a", f"{link}/b=/other/"], [os.fsencode(link)])
    assert map_path(here + b"/x.mp4", path_map) == b"/data/a/x.mp4"
    assert map_path(here + b"/b/x.mp4", path_map) == b"/other/x.mp4"
    assert map_path(here + b"bout.mp4", path_map) == here + b"bout.mp4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=/b", "maps no folder"),
        ("/a", "maps no folder"),
        ("/elsewhere=/b", "nothing that is scanned is in"),
    ],
)
def test_a_map_that_is_none_or_of_no_use_is_an_error(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        parse_path_map([text], [os.fsencode(tmp_path)])
