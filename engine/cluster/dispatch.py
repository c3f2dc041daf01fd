"""Decides which worker of a cluster gets which video. Knows nothing of Ray.

A video that cannot be read goes to another node once. Of the videos that a dead worker had, nobody knows which one
killed it: each of them waits for the others and then runs alone. One that loses its second worker is given up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

_MAX_DEATHS = 2  # of workers that had a video


@dataclass
class QueuedVideo:
    """A video that was submitted and is not done."""

    job_id: int
    deaths: int = 0  # of workers that had it
    refused_by: str = ""  # the node that could not read it, if one could not
    reason: str = ""  # and why
    worker: str = ""  # that has it; empty while it waits


@dataclass
class AssignedWorker:
    """A worker, the node that it is on, and the videos that it has, at most `limit`."""

    node: str
    limit: int
    videos: dict[int, QueuedVideo] = field(default_factory=dict)


@dataclass(frozen=True)
class Loss:
    """The videos of a dead worker: those that begin again, and those that are given up, with the reason."""

    restarted: tuple[int, ...]
    given_up: tuple[tuple[int, str], ...]


class Dispatcher:
    """The queue of a cluster's scan, and which worker has which video."""

    def __init__(self) -> None:
        self._workers: dict[str, AssignedWorker] = {}
        self._videos: dict[int, QueuedVideo] = {}
        self._waiting: deque[QueuedVideo] = deque()
        self._suspects: deque[QueuedVideo] = deque()  # that lost a worker

    @property
    def unfinished(self) -> int:
        """How many videos are not done."""
        return len(self._videos)

    @property
    def capacity(self) -> int:
        """How many videos the workers can have at once."""
        return sum(worker.limit for worker in self._workers.values())

    def add_worker(self, worker: str, node: str, limit: int) -> None:
        """A worker takes videos from now on, at most `limit` at a time."""
        self._workers[worker] = AssignedWorker(node, limit)

    def submit(self, job_id: int) -> None:
        """Queue a video."""
        self._videos[job_id] = video = QueuedVideo(job_id)
        self._waiting.append(video)

    def next_videos(self, worker: str) -> list[int]:
        """The videos that a worker gets now."""
        own = self._workers[worker]
        taken = []
        if any(video.deaths for video in own.videos.values()):
            return []  # it runs alone
        for video in [v for v in self._waiting if v.refused_by != own.node][: own.limit - len(own.videos)]:
            self._waiting.remove(video)
            taken.append(video)
        if not taken and not own.videos and not self._waiting and self._suspects:
            taken.append(self._suspects.popleft())
        for video in taken:
            video.worker = worker
            own.videos[video.job_id] = video
        return [video.job_id for video in taken]

    def worker_of(self, job_id: int) -> str | None:
        """The worker that has a video; None if none has."""
        video = self._videos.get(job_id)
        return video.worker or None if video else None

    def finish(self, job_id: int) -> None:
        """A video is done."""
        video = self._videos.pop(job_id)
        del self._workers[video.worker].videos[job_id]

    def fail(self, job_id: int, reason: str) -> str | None:
        """A worker could not read a video: the reason if that is final, None if it goes to another node."""
        video = self._videos[job_id]
        node = self._workers[video.worker].node
        if video.refused_by or not self._has_other_node(node):
            self.finish(job_id)
            return reason
        del self._workers[video.worker].videos[job_id]
        video.worker, video.refused_by, video.reason = "", node, reason
        (self._suspects if video.deaths else self._waiting).append(video)
        return None

    def lose_worker(self, worker: str, *, is_death: bool) -> Loss:
        """A worker is gone, and its videos go to others. Unless it died, no video is suspected."""
        lost = self._workers.pop(worker)
        restarted, given_up = [], []
        for video in lost.videos.values():
            video.worker = ""
            video.deaths += is_death
            if video.deaths < _MAX_DEATHS:
                (self._suspects if video.deaths else self._waiting).append(video)
                restarted.append(video.job_id)
            else:
                del self._videos[video.job_id]
                given_up.append(
                    (video.job_id, f"{video.deaths} workers of the cluster died while they had it")
                )
        given_up += self._refused_by_all()
        return Loss(tuple(restarted), tuple(given_up))

    def _refused_by_all(self) -> Iterator[tuple[int, str]]:
        """Take out the waiting videos that every node that is left could not read."""
        nodes = {worker.node for worker in self._workers.values()}
        for queue in (self._waiting, self._suspects):
            for video in list(queue):
                if video.refused_by and nodes <= {video.refused_by}:
                    queue.remove(video)
                    del self._videos[video.job_id]
                    yield video.job_id, video.reason

    def _has_other_node(self, node: str) -> bool:
        return any(worker.node != node for worker in self._workers.values())
