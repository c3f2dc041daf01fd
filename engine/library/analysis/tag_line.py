"""The line of a tag: the score from which a moment is surely of the tag. Pure functions of scores; nothing is read.

A person says Yes and No to some moments. The line lies between their scores, and can be moved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LIKELY = 0.65  # the lowest line of a tag of which only examples are known; measured: docs/finetune.md
SURE_PRECISION = 0.8  # of what is known above a line, at least this share is to be right
_STEPS = 10_000  # a line is a whole number of these parts
_TAIL_SHARE, _TAIL_END = (
    0.20,
    0.02,
)  # shares of the windows above the two quantiles that give the tail's slope
_MIN_TAIL_WINDOWS = (
    2000  # in fewer, a few moments of the tag are too large a share to tell the tail from them
)
_MIN_SLOPE = 0.1  # of log-odds


class LinePreview(NamedTuple):
    """What a tag finds from `line` on.

    `wrong` is the expected number of wrong ones among `found - confirmed`, the moments that nobody judged yet.
    """

    line: float
    found: int  # moments: those that were confirmed, and those from the line on that were not rejected
    confirmed: int
    wrong: float
    below: float | None  # the highest score below the line that was not judged


def choose_line(
    yes: Sequence[float], no: Sequence[float], *, at_least: float = 0.0, quiet: float = 0.0
) -> float:
    """The line between the scores of what shows a tag and of what does not, rounded down.

    Without a `no` it is the lowest `yes`. If all `yes` are above all `no`, it is the middle of the gap in log-odds,
    or higher in the gap, towards `quiet`. If they overlap, it is the lowest `yes` from which SURE_PRECISION is right;
    if there is none, everything that is known lies below the line.

    Args:
        yes: scores of what shows the tag; at least one.
        no: scores of what does not show it.
        at_least: the lowest possible line.
        quiet: the score from which other footage has hardly any moments.
    """
    line = lowest = min(yes)
    if no and max(no) < lowest:
        line = min(lowest, max(_middle(max(no), lowest), quiet))
    elif no:
        line = _lowest_precise(yes, no)
    return round_down(max(line, at_least))


def round_down(line: float) -> float:
    """A line as it is stored: never above the score that it stands for, and below 1, which means "never sure"."""
    return min(_STEPS - 1, max(1, math.floor(line * _STEPS + 1e-9))) / _STEPS


def preview_line(
    line: float,
    scores: Sequence[float],
    verdicts: Sequence[bool | None],
    *,
    held_out_scores: tuple[Sequence[float], Sequence[float]] = ((), ()),
    windows: NDArray[np.float64] | None = None,
) -> LinePreview:
    """What a tag finds with its line at `line`, and about how much of it is wrong from what is known.

    Two estimates of the wrong share are compared, and the larger counts: the share of No among what was judged
    and lies above the line, and what the tail of all windows would have above the line by chance.

    Args:
        line: the score from which a moment is of the tag.
        scores: the best score of each moment, found or not.
        verdicts: what a person said of each moment: True (Yes), False (No), None (nothing).
        held_out_scores: scores of Yes and No from heads that were not trained on them, if there are any.
        windows: the scores of all windows of the library, if there are many.
    """
    unjudged = sorted(score for score, verdict in zip(scores, verdicts, strict=True) if verdict is None)
    above = [score for score in unjudged if score >= line]
    confirmed = sum(verdict is True for verdict in verdicts)
    yes, no = held_out_scores if any(held_out_scores) else _judged(scores, verdicts)
    share = wrong_share(line, yes, no)
    by_chance = 0.0 if windows is None else tail_count(windows, line)
    below = unjudged[len(unjudged) - len(above) - 1] if len(above) < len(unjudged) else None
    wrong = max(share * len(above), min(by_chance, float(len(above))))
    return LinePreview(line, confirmed + len(above), confirmed, wrong, below)


def wrong_share(line: float, yes: Sequence[float], no: Sequence[float]) -> float:
    """The share of No among what was judged and scores at least `line`; half a Yes and half a No are added.

    So it is one half if nothing is known, and small only if much is known.
    """
    wrong = sum(score >= line for score in no) + 0.5
    return wrong / (wrong + sum(score >= line for score in yes) + 0.5)


def tail_count(windows: NDArray[np.float64], line: float) -> float:
    """How many of `windows` [N] would score at least `line` by chance; 0 with too few windows to say.

    The upper tail of the log-odds is continued as an exponential, as in `calibrate_threshold`, so that the windows
    that show the tag do not count unless they are many.
    """
    if len(windows) < _MIN_TAIL_WINDOWS:
        return 0.0
    quantiles = np.asarray(np.quantile(windows, (1 - _TAIL_SHARE, 1 - _TAIL_END)))
    level, upper = _log_odds(quantiles).tolist()
    slope = max((upper - level) / math.log(_TAIL_SHARE / _TAIL_END), _MIN_SLOPE)
    excess = max(0.0, float(_log_odds(np.array([line]))[0]) - level)
    return float(_TAIL_SHARE * len(windows) * math.exp(-excess / slope))


def _judged(
    scores: Sequence[float], verdicts: Sequence[bool | None]
) -> tuple[Sequence[float], Sequence[float]]:
    pairs = list(zip(scores, verdicts, strict=True))
    return [s for s, verdict in pairs if verdict is True], [s for s, verdict in pairs if verdict is False]


def _lowest_precise(yes: Sequence[float], no: Sequence[float]) -> float:
    for line in map(round_down, sorted(yes)):
        right = sum(score >= line for score in yes)
        if right >= SURE_PRECISION * (right + sum(score >= line for score in no)):
            return line
    return (1 + max(no)) / 2


def _middle(low: float, high: float) -> float:
    """The probability in the middle of two, in log-odds."""
    odds = float(_log_odds(np.array([low, high])).mean())
    return min(high, 1 / (1 + math.exp(-odds)))


def _log_odds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(scores, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(bounded) - np.log1p(-bounded))
