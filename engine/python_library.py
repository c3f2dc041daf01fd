"""`vtag.engine.Library`: a library of videos for Python programs. docs/python.md describes it.

Each method calls what the commands call. Times are milliseconds as a player shows them. A method opens the library
for itself, so that one object serves many threads, and nothing has to be closed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from vtag.engine.errors import LibraryError
from vtag.engine.paths import library_path
from vtag.engine.text import display_path, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vtag.engine.library import database
    from vtag.engine.library.analysis.similar import SimilarMoment
    from vtag.engine.library.certainty import Sensitivity
    from vtag.engine.library.search.moments import LessSure, Moment
    from vtag.engine.scan.events import ScanEvent
    from vtag.engine.scan.options import ScanOptions
    from vtag.engine.video_clock import VideoClock

AnyPath = str | os.PathLike[str] | bytes


class VideoFeatures(NamedTuple):
    """What a model saw in a video: for each window its time and its pooled feature.

    `windows` int64 [W, 2]: start_ms and end_ms. `features` float16 [W, V, D]: V views, usually one.
    """

    windows: NDArray[np.int64]
    features: NDArray[np.float16]


class Library:
    """A library of tagged videos. `path` is its file; `scan` and `annotate` create it if it is missing."""

    def __init__(self, path: AnyPath | None = None) -> None:
        """The library at `path`, by default the user's."""
        self.path = library_path(None if path is None else Path(os.fsdecode(path)))

    @classmethod
    def open(cls, path: AnyPath | None = None) -> Library:
        """The library at `path`, by default the user's."""
        return cls(path)

    def __repr__(self) -> str:
        return f"Library({str(self.path)!r})"

    # --- finding ----------------------------------------------------------------------------------------------

    def search(
        self,
        query: str = "",
        *,
        limit: int | None = 50,
        min_score: float = 0.0,
        model: str | None = None,
        sort: Literal["score", "date", "length"] = "score",
        less_sure: LessSure = "fill",
        sensitivity: Sensitivity | None = None,
    ) -> list[Moment]:
        """Moments that match `query` (docs/search.md): sure ones first, each group best first.

        Args:
            query: as `vtag search` takes it; without one, the best moment of each label.
            limit: of moments; None returns all.
            less_sure: none; fill: until there are ten moments; all.
            sensitivity: low, normal or high: which moments are sure; None is the library's.

        Raises QueryError; LibraryError if there is no library; ValueError if `sort`, `less_sure` or `sensitivity`
        is none of the words above.
        """
        from vtag.engine.library.search.moments import LESS_SURE, SORTS, search
        from vtag.engine.library.search.player_times import MomentClocks

        _check_choice("sort", sort, SORTS)
        _check_choice("less_sure", less_sure, LESS_SURE)
        with self._reader() as reader:
            moments = search(
                reader,
                query,
                min_score=min_score,
                limit=limit,
                model=model,
                sort=sort,
                less_sure=less_sure,
                min_margin=_min_margin(sensitivity),
            )
            return MomentClocks(reader).to_player(moments)

    def moments(
        self, path: AnyPath, *, less_sure: LessSure = "fill", sensitivity: Sensitivity | None = None
    ) -> list[Moment]:
        """The moments of one video, by time; the arguments are those of `search`.

        A file that was moved is known by its bytes. Raises LibraryError if it was not scanned.
        """
        from vtag.engine.library.search.contents import require_content
        from vtag.engine.library.search.moments import LESS_SURE, content_moments
        from vtag.engine.library.search.player_times import MomentClocks

        _check_choice("less_sure", less_sure, LESS_SURE)
        with self._reader() as reader:
            content = require_content(reader, file := _absolute(path))
            moments = content_moments(
                reader, content.id, file, less_sure=less_sure, min_margin=_min_margin(sensitivity)
            )
            return MomentClocks(reader).to_player(moments)

    def moments_with_ids(self, ids: Iterable[int]) -> list[Moment]:
        """The moments with these ids, in their order, without those that are gone; sequences by their first step."""
        from vtag.engine.library.search.player_times import MomentClocks
        from vtag.engine.library.views.results import find_by_ids

        with self._reader() as reader:
            return MomentClocks(reader).to_player(find_by_ids(reader, ids))

    def similar(
        self, path: AnyPath, at_ms: int | None = None, *, limit: int = 20, device: str = "auto"
    ) -> list[SimilarMoment]:
        """Moments that look like `path` at `at_ms`, or like all of it, most similar first.

        A video that was not scanned goes through the library's model. Raises LibraryError, VideoError.
        """
        from vtag.engine.library.analysis.similar import find_similar
        from vtag.engine.library.store.clocks import content_clock
        from vtag.engine.scan.similarity import similarity_query

        query = similarity_query(self.path, _absolute(path), at_ms, device=device)
        with self._reader() as reader:
            return [
                moment._replace(
                    start_ms=clock.player_ms(moment.start_ms), end_ms=clock.player_ms(moment.end_ms)
                )
                for moment in find_similar(self.path, query, limit=limit)
                for clock in [content_clock(reader, moment.content_id)]
            ]

    def labels(self) -> dict[str, int]:
        """The labels that the library knows, and how many sure moments each has; most first."""
        from vtag.engine.library.search.moments import label_counts

        with self._reader() as reader:
            return dict(label_counts(reader))

    def features(self, path: AnyPath, *, model: str | None = None) -> VideoFeatures:
        """The features of a video by the library's model, or by another one that scanned it.

        Raises LibraryError if the video was not scanned with it.
        """
        from vtag.engine.library.search.contents import require_content
        from vtag.engine.library.store import heads
        from vtag.engine.library.store.clocks import content_clock
        from vtag.engine.library.store.observations import densest

        with self._reader() as reader:
            content = require_content(reader, file := _absolute(path))
            clock = content_clock(reader, content.id)
        with self._writer() as library:
            backbone = heads.load_head(library, heads.require_model(library, model)).backbone_hash
            observation = densest(library.observations, content.key, backbone)
        if observation is None:
            raise LibraryError(
                f"{display_path(file)} was not scanned with {printable(model or 'the library model')}: "
                "`vtag scan --model` does it"
            )
        return VideoFeatures(_on_player_clock(observation.windows, clock), observation.features)

    # --- changing ---------------------------------------------------------------------------------------------

    def scan(
        self,
        paths: AnyPath | Iterable[AnyPath],
        *,
        model: str | None = None,
        options: ScanOptions | None = None,
    ) -> Iterator[ScanEvent]:
        """Scan the videos at and below `paths`; yields what happens, at last a ScanFinished.

        Nothing is scanned before the first event is asked for. To stop, stop asking: what is finished is kept.

        Args:
            model: a name or a path; by default the library's own, else the best that is installed.
            options: as those of `vtag scan`.

        Raises VtagError if the scan as a whole cannot run; a video that cannot be read is an event.
        """
        from vtag.engine.scan.model_selection import choose_model, register_model
        from vtag.engine.scan.options import ScanOptions
        from vtag.engine.scan.scan import scan

        options = options or ScanOptions()
        folders = [paths] if isinstance(paths, (str, bytes, os.PathLike)) else list(paths)
        with self._writer() as library:
            checkpoint, source = choose_model(library, model, options.device)
            if not options.dry_run:
                register_model(library, checkpoint, source)
            yield from scan(library, [_absolute(path) for path in folders], checkpoint, options)

    def annotate(
        self,
        path: AnyPath,
        label: str,
        start_ms: int | None = None,
        end_ms: int | None = None,
        *,
        verdict: Literal["added", "confirmed", "rejected"] = "added",
    ) -> bool:
        """Say that a video shows `label`, or that it does not; in all of it, or in a range.

        Returns whether that was new. It overrules models and earlier annotations, and `undo` takes it back.

        Args:
            path: a video, scanned or not.
            verdict: added, confirmed or rejected.

        Raises LibraryError if the video, the label or the range cannot be used.
        """
        from vtag.engine.library.annotations import annotation_log
        from vtag.engine.library.annotations.player_times import range_on_library_clock
        from vtag.engine.scan.content_facts import register_video

        if verdict not in annotation_log.VERDICTS:
            raise LibraryError(f"a verdict is one of {', '.join(annotation_log.VERDICTS)}, not {verdict!r}")
        with self._writer() as library:
            content_id = register_video(library, _absolute(path))
            start, end = range_on_library_clock(library.connection, content_id, start_ms, end_ms)
            change = annotation_log.record_verdict(library, content_id, label, verdict, start, end)
            return bool(change.id)

    def undo(self) -> None:
        """Take back the latest annotation that was not taken back yet. Raises LibraryError if there is none."""
        from vtag.engine.library.annotations import undo_redo

        with self._writer() as library:
            undo_redo.undo(library)

    def cut(
        self,
        moments: Iterable[Moment],
        folder: AnyPath,
        *,
        reencode: bool = False,
        name: str = "{name} {start} {label}",
    ) -> Iterator[Path]:
        """Write moments as video files into a folder that exists; yields each file when it is complete.

        A clip whose file exists is not written again. Packets are copied from the key frame before a moment on;
        `reencode` is exact. `name` is the template of `vtag cut --name`. Raises VideoError if a moment cannot be cut.
        """
        from vtag.engine.clip_stems import clip_stems
        from vtag.engine.library.search.player_times import MomentClocks
        from vtag.engine.video.write.clip_names import check_template
        from vtag.engine.video.write.cut import candidate_suffixes, cut

        check_template(name)
        player_moments = list(moments)
        with self._reader() as reader:
            own_moments = MomentClocks(reader).to_library(player_moments)
        for moment, stem in clip_stems(own_moments, player_moments, name, _absolute(folder)):
            suffixes = candidate_suffixes(moment.path, reencode=reencode)
            paths = (stem + suffix.encode() for suffix in suffixes)
            path = next(filter(os.path.lexists, paths), None)
            if path is None:
                path = cut(moment.path, moment.start_ms, moment.end_ms, stem, reencode=reencode).path
            yield Path(os.fsdecode(path))

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        from vtag.engine.library.database import library_error, open_reader

        with closing(open_reader(self.path)) as reader:
            try:
                yield reader
            except sqlite3.Error as error:
                raise library_error(self.path, error) from error

    def _writer(self) -> database.LibraryWriter:
        from vtag.engine.library import database

        return database.LibraryWriter.open(self.path)


def _absolute(path: AnyPath) -> bytes:
    return os.path.abspath(os.fsencode(path))


def _min_margin(sensitivity: Sensitivity | None) -> float | None:
    from vtag.engine.library.certainty import SENSITIVITIES, min_margin_of

    if sensitivity is None:
        return None
    _check_choice("sensitivity", sensitivity, SENSITIVITIES)
    return min_margin_of(sensitivity)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: it has to be {', '.join(choices[:-1])} or {choices[-1]}")


def _on_player_clock(windows: NDArray[np.int64], clock: VideoClock) -> NDArray[np.int64]:
    """Ranges [W, 2] with the player's times."""
    import numpy as np

    if clock.is_plain:
        return windows
    times = [clock.player_ms(time_ms) for time_ms in windows.ravel().tolist()]
    return np.array(times, np.int64).reshape(windows.shape)
