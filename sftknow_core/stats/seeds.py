"""Seeds as replicates: one number a seed -> mean, sd and t interval, or a plain word that one seed has no spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy import stats

from sftknow_core.stats.intervals import t_interval

ONE_SEED = "one seed: its spread is not known"
MIN_SEEDS = 3
"""A t interval over two seeds is 12.7 standard errors wide: fewer than three decide nothing."""


@dataclass(frozen=True)
class SeedMean:
    """A mean over seeds."""

    mean: float
    sd: float | None
    """Sample sd (n - 1); None with one seed."""
    low: float | None
    """95% t interval of the mean; None with one seed."""
    high: float | None
    p_value: float | None
    """Two-sided t test of the null value; None with one seed."""
    n: int
    note: str
    """Why there is no interval; "" where there is one."""


def over_seeds(values: Sequence[float], null: float = 0.0, extra_variance: float = 0.0) -> SeedMean:
    """Mean of one value a seed; the interval speaks for seeds.

    extra_variance: variance of the mean from elsewhere (drawing the questions), taken as known and added with the
    normal quantile, so that the interval speaks for both. Raises SpecError without values.
    """
    estimate = t_interval(list(values))
    if estimate.sd is None:
        return SeedMean(estimate.mean, None, None, None, None, 1, ONE_SEED)
    n = len(values)
    own = estimate.sd / sqrt(n)
    if own**2 + extra_variance < 1e-24:  # equal values: every test but the exact one would divide by 0
        p_value = 1.0 if abs(estimate.mean - null) < 1e-12 else 0.0
        return SeedMean(estimate.mean, estimate.sd, estimate.mean, estimate.mean, p_value, n, "")
    if not extra_variance:
        p_value = 2 * float(stats.t.sf(abs(estimate.mean - null) / own, n - 1))
        return SeedMean(estimate.mean, estimate.sd, estimate.low, estimate.high, p_value, n, "")
    half = sqrt(
        (float(stats.t.isf(0.025, n - 1)) * own) ** 2 + float(stats.norm.isf(0.025)) ** 2 * extra_variance
    )
    variance = own**2 + extra_variance
    df = variance**2 / (own**4 / (n - 1)) if own else np.inf
    p_value = 2 * float(stats.t.sf(abs(estimate.mean - null) / sqrt(variance), df))
    return SeedMean(estimate.mean, estimate.sd, estimate.mean - half, estimate.mean + half, p_value, n, "")
