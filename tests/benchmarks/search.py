"""How long searches take in a library as large as a lifetime's: `python tests/benchmarks/search.py [--videos N]`.

Builds the library once (minutes; kept in --folder) and prints p50 and p95 of each kind of query, without and (+) with
less sure moments, then what a search takes as a command beside a Python that only imports sqlite3.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from big_library import BACKBONE, build

from vtag.assets import kinetics400_labels
from vtag.engine.library.analysis.similar import find_similar, query_from_content
from vtag.engine.library.database import open_reader
from vtag.engine.library.search.moments import search, search_videos
from vtag.engine.library.store.feature_cache import cache_folder

_LABELS = kinetics400_labels()  # in the order of their frequency in the library
_COMMON, _RARE = _LABELS[:20], _LABELS[380:]
_GROUPS = ("dancing", '"ball sports"', '"water sports"', "cooking", '"musical instruments"')


def queries() -> dict[str, list[str]]:
    """Queries of each kind."""
    pairs = list(zip(_COMMON[::2], _COMMON[1::2], strict=True))
    return {
        "a common word": [f'"{label}"' for label in _COMMON],
        "a rare word": [f'"{label}"' for label in _RARE],
        "a group": [*_GROUPS],
        "THEN, both common": [f'"{a}" THEN<10s "{b}"' for a, b in pairs],
        "THEN, one rare": [f'"{a}" THEN "{b}"' for a, b in zip(_COMMON, _RARE, strict=True)],
        "AND, both common": [f'"{a}" AND "{b}"' for a, b in pairs],
        "AND, one rare": [f'"{a}" AND "{b}"' for a, b in zip(_COMMON, _RARE, strict=True)],
        "-not": [f'"{a}" -"{b}"' for a, b in pairs],
        "a common word of long moments": [f'"{label}" longer:10.6s' for label in _COMMON],
        "a common word in a path": [f'"{label}" path:"trip 7/*"' for label in _COMMON],
        "a common word of a year": [f'"{label}" after:2014 before:2015' for label in _COMMON],
        "all moments of a path": ['path:"/trip 7/"', "path:*clip99*.mp4"],
        "all that was confirmed": ["is:confirmed"],
        "a word that nothing fits": ["xyzzy"],
        "a common word, less sure only": [f'"{label}" score<0.25' for label in _COMMON],
        "a rare word, less sure only": [f'"{label}" score<0.25' for label in _RARE],
        "no word: the best of each label": [""],
    }


Taken = tuple[float, float]  # milliseconds on the clock, milliseconds of this process's work


def timed(action: Callable[[], object], times: int) -> list[Taken]:
    """What each call takes."""
    taken = []
    for _ in range(times):
        begun, worked = time.perf_counter(), time.process_time()
        action()
        taken.append((1000 * (time.perf_counter() - begun), 1000 * (time.process_time() - worked)))
    return taken


def report(what: str, taken: Sequence[Taken]) -> None:
    """One line."""
    clock, work = np.percentile(taken, [50, 95], axis=0).T
    print(
        f"{what:<34} p50 {clock[0]:8.1f} ms  p95 {clock[1]:8.1f} ms   processor: p50 {work[0]:8.1f} ms  "
        f"p95 {work[1]:8.1f} ms   ({len(taken)} runs)",
        flush=True,
    )


def main() -> None:
    """Build, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--segments", type=int, default=10_000_000)
    parser.add_argument("--less-sure", type=int, default=2_000_000)
    parser.add_argument("--features", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "vtag-benchmark-search")
    told = parser.parse_args()
    name = f"{told.videos}-{told.segments}-{told.less_sure}-{told.features}"
    path = told.folder / name / "library.db"
    if not path.with_name("complete").exists():
        begun = time.monotonic()
        build(
            path,
            videos=told.videos,
            segments=told.segments,
            less_sure=told.less_sure,
            features=told.features,
        )
        path.with_name("complete").touch()
        print(f"built in {time.monotonic() - begun:.0f} s")
    print(f"{path}: {path.stat().st_size / 2**20:.0f} MB")
    with closing(open_reader(path)) as reader:
        for what, texts in queries().items():
            for suffix, less_sure in (("", "none"), (" +", "fill")):
                ask = functools.partial(search, reader, less_sure=less_sure)
                taken = [
                    t for text in texts for t in timed(lambda text=text, ask=ask: ask(text), told.repeat)
                ]
                report(what + suffix, taken)
        for sort in ("date", "length"):
            ask = functools.partial(search, reader, sort=sort)
            report(
                f"a common word by {sort}",
                [
                    t
                    for label in _COMMON[:5]
                    for t in timed(lambda label=label, ask=ask: ask(f'"{label}"'), 2)
                ],
            )
        report("a common word by video", timed(lambda: search_videos(reader, f'"{_COMMON[0]}"'), 5))
    more_like_this(path, told.repeat)
    commands(path)


def more_like_this(path: Path, repeat: int) -> None:
    """The cache of features made, then read: first as it comes, then from memory."""
    begun = time.monotonic()
    report("similar, the cache made", timed(lambda: _similar(path, 1), 1))
    size = sum(file.stat().st_size for file in cache_folder(path).iterdir())
    print(f"  ({size / 2**20:.0f} MB, {time.monotonic() - begun:.0f} s)")
    report(
        "similar", [t for content in range(2, 12) for t in timed(lambda c=content: _similar(path, c), repeat)]
    )


def _similar(path: Path, content: int) -> None:
    like = query_from_content(path, content, 5000, BACKBONE)
    assert like is not None
    assert find_similar(path, like)


def commands(path: Path) -> None:
    """A search as a command, and what Python itself takes."""
    bare = [sys.executable, "-c", "import sqlite3"]
    command = [sys.executable, "-m", "vtag.app", "search", f'"{_COMMON[0]}"', "--db", str(path)]
    for what, arguments in (("python -c 'import sqlite3'", bare), ("vtag search, a common word", command)):
        run = lambda arguments=arguments: subprocess.run(arguments, check=True, capture_output=True)  # noqa: E731
        report(what, timed(run, 10))


if __name__ == "__main__":
    main()
