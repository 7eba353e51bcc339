"""Seeds as replicates: one number a seed -> mean, sd and t interval, or a plain word that one seed has no spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from scipy import optimize, special, stats

from sftknow_core.stats.intervals import t_interval

ONE_SEED = "one seed: its spread is not known"
MIN_SEEDS = 3
"""A t interval over two seeds is 12.7 standard errors wide: fewer than three decide nothing."""
_SMALLEST_P = 1e-15


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
    normal quantile, so that the interval speaks for both: half-width^2 = t(n - 1)^2 sd^2 / n + z^2 extra_variance. p is
    the alpha whose interval just reaches the null, as in stats/contrast.py. Raises SpecError without values.
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

    def half_width(alpha: float) -> float:
        t, z = -special.stdtrit(n - 1, alpha / 2), -special.ndtri(alpha / 2)
        return sqrt(t**2 * own**2 + z**2 * extra_variance)

    half, distance = half_width(0.05), abs(estimate.mean - null)
    if distance >= half_width(_SMALLEST_P):
        p_value = _SMALLEST_P
    elif distance <= half_width(1 - 1e-9):
        p_value = 1.0
    else:
        p_value = optimize.brentq(lambda a: half_width(a) - distance, _SMALLEST_P, 1 - 1e-9, xtol=1e-16)
    return SeedMean(estimate.mean, estimate.sd, estimate.mean - half, estimate.mean + half, p_value, n, "")
