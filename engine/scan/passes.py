"""Coarse first: which windows each pass over a library looks at, so that all of it can be searched soon.

The first pass looks at about the square root of a video's windows, evenly spread, three at least: an hour's 1,690
become 42, and 200 hours are searchable after the time of five. The second looks at every fourth window, the third
at all that is left. What a pass saw is kept, and no pass looks at it again.
"""

from __future__ import annotations

import math

from vtag.engine.video.read.sampling import Sampling, count_regular_windows, regular_window

PASSES = 3
COARSE_FROM_MS = 3_600_000  # of video to look at; less of it is looked at whole at once
_LEAST = 3
_EVERY = 4
_WHOLE_BELOW = 16  # windows: a video of so few is finished in the second pass


def starts_of(number: int, length_ms: int | None, sampling: Sampling) -> frozenset[int] | None:
    """The starts (ms) of the windows that pass `number` (from 1) looks at; None: all.

    `length_ms` may be an estimate, None if there is none: then the first pass looks at the beginning.
    """
    if number >= PASSES:
        return None
    windows = count_regular_windows(length_ms, sampling) if length_ms else _LEAST + 1
    if windows <= (_LEAST if number == 1 else _WHOLE_BELOW):
        return None
    if number == 1:
        some = max(_LEAST, math.isqrt(windows - 1) + 1)
        chosen = {int((i + 0.5) * windows / some) for i in range(some)}
    else:
        chosen = set(range(0, windows, _EVERY))
    return frozenset(regular_window(k, sampling).start_ms for k in chosen)
