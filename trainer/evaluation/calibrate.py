"""Thresholds for a stated number of false moments an hour, from scores of windows that show none of the labels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_LEAST, _MOST = 0.05, 0.999
_LEAST_WINDOWS = 20
_LEVEL, _UPPER = 0.20, 0.02  # shares of the windows above which the tail is fitted
_LEAST_SLOPE = 0.1


def calibrate_threshold(scores: NDArray[np.float64], hours: float, per_hour: float) -> float:
    """The score that windows of other footage pass `per_hour` times an hour.

    `scores` [N] are one label's probabilities in N windows, which took `hours`, and of which hardly any shows it. The
    upper tail of the log-odds is taken as exponential (peaks over a threshold: Pickands 1975, with shape 0) and its
    slope read off two quantiles, for two reasons: the hours are too few to see so rare an event, and a library may
    hold, unknown to anybody, moments of the very label: fewer than 2 % of the windows do not move the threshold.
    """
    if len(scores) < _LEAST_WINDOWS:
        return float(np.clip(scores.max(initial=0.45) + 0.05, 0.5, _MOST))
    odds = _log_odds(scores)
    level, upper = np.quantile(odds, (1 - _LEVEL, 1 - _UPPER))
    slope = max((upper - level) / math.log(_LEVEL / _UPPER), _LEAST_SLOPE)
    found = level + slope * max(0.0, math.log(_LEVEL * len(scores) / max(hours * per_hour, 1e-9)))
    return float(np.clip(1 / (1 + math.exp(-found)), _LEAST, _MOST))


def _log_odds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(scores, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(bounded) - np.log1p(-bounded))
