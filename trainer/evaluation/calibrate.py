"""Thresholds for an accepted number of false moments an hour, from the scores of windows without the labels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_MIN_THRESHOLD, _MAX_THRESHOLD = 0.05, 0.999
_MIN_WINDOWS = 20  # with fewer, no tail can be fitted
_LEVEL, _UPPER = 0.20, 0.02  # shares of the windows above the two quantiles that give the slope
_MIN_SLOPE = 0.1  # of log-odds


def calibrate_threshold(scores: NDArray[np.float64], hours: float, per_hour: float) -> float:
    """The score that windows of other footage exceed `per_hour` times an hour.

    Such events are too rare to count in a few hours of footage, so the tail of the scores is extrapolated: the upper
    tail of the log-odds is taken as exponential (peaks over a threshold, Pickands 1975, with shape 0), and its slope
    comes from two quantiles. The quantiles also make the threshold robust: unknown moments of the label in less than
    2 % of the windows do not change it.

    Args:
        scores: the label's probabilities [N] in windows that hardly ever show it.
        hours: total length of the windows.
        per_hour: the accepted number of false moments an hour.
    """
    if len(scores) < _MIN_WINDOWS:
        return float(np.clip(scores.max(initial=0.45) + 0.05, 0.5, _MAX_THRESHOLD))
    odds = _log_odds(scores)
    level, upper = np.quantile(odds, (1 - _LEVEL, 1 - _UPPER))
    slope = max((upper - level) / math.log(_LEVEL / _UPPER), _MIN_SLOPE)
    threshold = level + slope * max(0.0, math.log(_LEVEL * len(scores) / max(hours * per_hour, 1e-9)))
    return float(np.clip(1 / (1 + math.exp(-threshold)), _MIN_THRESHOLD, _MAX_THRESHOLD))


def _log_odds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(scores, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(bounded) - np.log1p(-bounded))
