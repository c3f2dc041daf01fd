"""Which windows each pass over the videos scans: coarse passes first, so that all videos can be searched soon.

The first pass scans about the square root of a video's windows, evenly spread and at least three. Of an hour's 1,690
windows it scans 42, so 200 hours can be searched after the time that five take. The second pass scans every fourth
window, the third all others. No pass scans a window again.
"""

from __future__ import annotations

import math

from vtag.engine.video.read.sampling import Sampling, count_regular_windows, regular_window

PASSES = 3
COARSE_FROM_MS = 3_600_000  # total length from which a scan has coarse passes; shorter scans need none
_MIN_FIRST = 3  # windows in the first pass
_SECOND_STEP = 4  # the second pass scans every fourth window
_COMPLETE_BELOW = 16  # windows: the second pass completes a video that has no more


def window_starts(number: int, length_ms: int | None, sampling: Sampling) -> frozenset[int] | None:
    """The starts (ms) of the windows that pass `number` (from 1) scans; None: all windows.

    `length_ms` may be an estimate. If it is None, the first pass scans the beginning of the video.
    """
    if number >= PASSES:
        return None
    windows = count_regular_windows(length_ms, sampling) if length_ms else _MIN_FIRST + 1
    if windows <= (_MIN_FIRST if number == 1 else _COMPLETE_BELOW):
        return None
    if number == 1:
        count = max(_MIN_FIRST, math.isqrt(windows - 1) + 1)
        indices = {int((i + 0.5) * windows / count) for i in range(count)}
    else:
        indices = set(range(0, windows, _SECOND_STEP))
    return frozenset(regular_window(k, sampling).start_ms for k in indices)
