"""Counts and small samples in, estimates with 95% intervals out.

- one proportion: Wilson;
- the level-balanced accuracy, the mean over mastery levels of their accuracies (Ye et al. 2025, section 3);
- a mean of few values (templates of a fact, seeds of a cell): Student t.

Nothing here returns NaN: what cannot be computed is None, and an empty input is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sftknow_core.errors import SpecError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A level-balanced accuracy."""

    value: float
    """Mean over the levels present of the accuracy of a level, 0..1."""
    se: float
    """sqrt(sum_l p_l (1 - p_l) / n_l) / L: the sampling of the questions, nothing else."""
    low: float
    """Lower end of the interval, 0..1."""
    high: float
    """Upper end of the interval, 0..1."""
    missing_levels: tuple[int, ...]
    """Levels without questions, left out of the mean."""


@dataclass(frozen=True)
class MeanEstimate:
    """The mean of a few values; with one value there is no spread, and sd, low and high are None."""

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int


@lru_cache(2**14)  # few counts, asked for again by every state of a study; scipy takes a millisecond for each
def wilson(n_right: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson interval of a proportion: (low, high) within [0, 1].

    Raises SpecError unless 0 <= n_right <= n and n >= 1: zero questions are "not scored", not an interval.
    """
    _check_counts(n_right, n)
    interval = stats.binomtest(int(n_right), int(n)).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def level_balanced(n_right: Sequence[int], n: Sequence[int], level: float = 0.95) -> Estimate:
    """Mean over levels of n_right[l] / n[l], level l at index l; levels with n = 0 are named and left out.

    The interval adds the Wilson intervals of the levels in squares (MOVER: Zou, Huang and Zhang,
    Computational Statistics & Data Analysis 53, 2009): it stays within [0, 1] and keeps a width where every
    level is at 0 or 1, where value +- 1.96 se has none; for large n the two agree.
    Raises SpecError when the lengths differ, a count is impossible, or no level has a question.
    """
    if len(n_right) != len(n):
        raise SpecError(f"level_balanced: got {len(n_right)} counts of right and {len(n)} of questions")
    present = [index for index, count in enumerate(n) if count > 0]
    if not present:
        raise SpecError("level_balanced: no level has a question; leave this accuracy unscored")
    p = np.array([n_right[index] / n[index] for index in present])
    ends = np.array([wilson(n_right[index], n[index], level) for index in present])
    counts = np.array([n[index] for index in present], dtype=float)
    value = float(p.mean())
    return Estimate(
        value=value,
        se=sqrt(float((p * (1 - p) / counts).sum())) / len(present),
        low=max(0.0, value - _root_of_squares(p - ends[:, 0])),
        high=min(1.0, value + _root_of_squares(ends[:, 1] - p)),
        missing_levels=tuple(index for index, count in enumerate(n) if count == 0),
    )


def t_bounds(
    values: ArrayLike, level: float = 0.95, clip: tuple[float, float] | None = None
) -> tuple[Array, Array]:
    """Student t interval of the mean of each row: [n_rows, n_values >= 2] -> (low, high), each [n_rows].

    clip: the range the mean can have, e.g. (0, 1) for a share.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] < 2:
        raise SpecError(f"t_bounds: got shape {rows.shape}; needs rows of at least 2 values")
    n_values = rows.shape[1]
    mean = rows.mean(axis=1)
    half = stats.t.ppf(0.5 + level / 2, n_values - 1) * rows.std(axis=1, ddof=1) / sqrt(n_values)
    low, high = mean - half, mean + half
    if clip is not None:
        low, high = np.clip(low, *clip), np.clip(high, *clip)
    return low, high


def t_interval(
    values: Sequence[float], level: float = 0.95, clip: tuple[float, float] | None = None
) -> MeanEstimate:
    """Mean, sample sd (n - 1) and t interval of a few values, e.g. one per seed or one per template."""
    n = len(values)
    if n == 0:
        raise SpecError("t_interval: got no values")
    mean = float(np.mean(values))
    if n == 1:
        return MeanEstimate(mean=mean, sd=None, low=None, high=None, n=1)
    low, high = t_bounds([list(values)], level, clip)
    sd = float(np.std(values, ddof=1))
    return MeanEstimate(mean=mean, sd=sd, low=float(low[0]), high=float(high[0]), n=n)


def _check_counts(n_right: int, n: int) -> None:
    if n < 1 or not 0 <= n_right <= n:
        raise SpecError(f"got {n_right} right of {n}; allowed: 0 <= right <= n and n >= 1")


def _root_of_squares(distances: Array) -> float:
    """Half-width of a mean from the half-widths of its L independent parts."""
    return float(np.sqrt((distances**2).sum())) / len(distances)


def weighted_sum(
    weights: Sequence[float], n_hits: Sequence[int], n: Sequence[int], level: float = 0.95
) -> tuple[float, float, float]:
    """sum_i w_i p_i of independent proportions p_i = n_hits[i] / n[i] -> (value, low, high); weights may be negative.

    The interval adds the Wilson intervals of the parts in squares (MOVER: Zou and Donner, Statistics in Medicine 27,
    2008), so that a part at 0 or 1 keeps a width. Raises SpecError when lengths differ or a count is impossible.
    """
    if not len(weights) == len(n_hits) == len(n) or not len(n):
        raise SpecError(f"weighted_sum: got {len(weights)} weights, {len(n_hits)} hits and {len(n)} trials")
    value = 0.0
    below, above = [], []
    for weight, hits, trials in zip(weights, n_hits, n, strict=True):
        low, high = wilson(hits, trials, level)
        p = hits / trials
        value += weight * p
        ends = sorted((weight * low, weight * high))
        below.append(weight * p - ends[0])
        above.append(ends[1] - weight * p)
    return value, value - float(np.linalg.norm(below)), value + float(np.linalg.norm(above))
