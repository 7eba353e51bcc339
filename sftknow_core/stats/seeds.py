"""Seeds as replicates: one number a seed -> mean, sd and t interval, or a plain word that one seed has no spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import sqrt

from scipy import optimize, special

from sftknow_core.stats.intervals import t_interval

_SMALLEST_P = 1e-15
_NO_SPREAD = 1e-24
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
    """Two-sided p of the null value, by the same rule as the interval; None with one seed."""
    n: int
    note: str
    """Why there is no interval; "" where there is one."""
    own_variance: float = field(default=0.0, repr=False)
    """sd^2 / n."""
    extra_variance: float = field(default=0.0, repr=False)
    """As given to `over_seeds`."""

    def half_width(self, alpha: float) -> float:
        """Of the 1 - alpha interval."""
        t, z = -special.stdtrit(self.n - 1, alpha / 2), -special.ndtri(alpha / 2)
        return sqrt(t**2 * self.own_variance + z**2 * self.extra_variance)

    def p_at(self, null: float) -> float | None:
        """Two-sided p of "the mean is `null`": the alpha whose interval just reaches it. None with one seed."""
        if self.sd is None:
            return None
        far = abs(self.mean - null)
        if self.own_variance + self.extra_variance < _NO_SPREAD:  # equal values: every test would divide by 0
            return 1.0 if far < 1e-12 else 0.0
        if not self.extra_variance:
            return 2 * float(special.stdtr(self.n - 1, -far / sqrt(self.own_variance)))
        if far >= self.half_width(_SMALLEST_P):
            return _SMALLEST_P
        if far <= self.half_width(1 - 1e-9):
            return 1.0
        return float(optimize.brentq(lambda a: self.half_width(a) - far, _SMALLEST_P, 1 - 1e-9, xtol=1e-16))


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
    found = SeedMean(
        estimate.mean, estimate.sd, None, None, None, n, "", estimate.sd**2 / n, extra_variance
    )  # fmt: skip
    half = found.half_width(0.05)
    return replace(
        found, low=found.mean - half, high=found.mean + half, p_value=found.p_at(null)
    )  # fmt: skip
