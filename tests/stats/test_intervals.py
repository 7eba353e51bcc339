"""Intervals: numbers worked by hand, statsmodels as the independent check, coverage by simulation."""

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from sftknow_core.errors import SpecError
from sftknow_core.stats.intervals import level_balanced, t_bounds, t_interval, wilson


def test_wilson_by_hand():
    """8 of 10, z^2 = 3.841459: centre (0.8 + 0.192073) / 1.384146 = 0.716740, half-width
    1.959964 / 1.384146 * sqrt(0.016 + 0.009604) = 0.226577."""
    assert wilson(8, 10) == pytest.approx((0.490163, 0.943317), abs=3e-6)


@pytest.mark.parametrize(("n_right", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (7, 200), (123, 400)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_agrees_with_statsmodels(n_right, n, level):
    expected = proportion_confint(n_right, n, alpha=1 - level, method="wilson")
    assert wilson(n_right, n, level) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n_right", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_not_a_proportion(n_right, n):
    with pytest.raises(SpecError, match=f"got {n_right} right of {n}"):
        wilson(n_right, n)


def test_level_balanced_by_hand():
    """p = 1/2 of 2 and 3/4 of 4, other levels empty: mean 0.625,
    variance (0.25 / 2 + 0.1875 / 4) / 2^2 = 0.04296875."""
    estimate = level_balanced([1, 3, 0, 0, 0], [2, 4, 0, 0, 0])
    assert estimate.value == 0.625
    assert estimate.se == pytest.approx(0.04296875**0.5)
    assert estimate.missing_levels == (2, 3, 4)
    assert 0 < estimate.low < 0.625 < estimate.high < 1


def test_level_balanced_with_one_level_is_wilson():
    estimate = level_balanced([0, 0, 8, 0, 0], [0, 0, 10, 0, 0])
    assert (estimate.low, estimate.high) == pytest.approx(wilson(8, 10))


def test_level_balanced_interval_has_a_width_where_every_level_is_at_the_floor():
    estimate = level_balanced([0] * 5, [20] * 5)
    assert estimate.se == 0
    assert estimate.low == 0
    assert 0.01 < estimate.high < 0.1


def test_level_balanced_interval_approaches_the_normal_one():
    n_right, n = [5_000, 20_000, 40_000, 60_000, 80_000], [100_000] * 5
    estimate = level_balanced(n_right, n)
    assert estimate.low == pytest.approx(estimate.value - 1.959964 * estimate.se, abs=2e-5)
    assert estimate.high == pytest.approx(estimate.value + 1.959964 * estimate.se, abs=2e-5)


def test_level_balanced_covers_the_truth():
    p, n = np.array([0.02, 0.2, 0.4, 0.7, 0.95]), np.array([30, 60, 40, 30, 50])
    rng = np.random.default_rng(7)
    drawn = rng.binomial(n, p, size=(600, 5))
    estimates = [level_balanced(row.tolist(), n.tolist()) for row in drawn]
    covered = np.mean([e.low <= p.mean() <= e.high for e in estimates])
    assert 0.93 <= covered <= 0.985
    values = [e.value for e in estimates]
    assert np.std(values) == pytest.approx(np.mean([e.se for e in estimates]), rel=0.1)


def test_level_balanced_needs_a_question():
    with pytest.raises(SpecError, match="no level has a question"):
        level_balanced([0, 0], [0, 0])
    with pytest.raises(SpecError, match="2 counts of right and 1"):
        level_balanced([0, 0], [4])


def test_t_interval_of_three_seeds_by_hand():
    """Mean 0.4, sd 0.1, t(2) = 4.302653: half-width 4.302653 * 0.1 / sqrt(3) = 0.248414."""
    estimate = t_interval([0.3, 0.4, 0.5])
    assert (estimate.mean, estimate.sd) == pytest.approx((0.4, 0.1))
    assert (estimate.low, estimate.high) == pytest.approx((0.151586, 0.648414), abs=1e-6)
    assert t_interval([0.3, 0.4, 0.5], clip=(0.2, 0.6)).high == 0.6


def test_t_interval_agrees_with_statsmodels():
    values = np.random.default_rng(0).normal(size=21)
    estimate = t_interval(values.tolist(), level=0.9)
    assert (estimate.low, estimate.high) == pytest.approx(DescrStatsW(values).tconfint_mean(alpha=0.1))


def test_one_value_has_no_spread():
    estimate = t_interval([0.3])
    assert (estimate.mean, estimate.sd, estimate.low, estimate.high) == (0.3, None, None, None)


def test_t_bounds_is_t_interval_row_by_row():
    rows = np.random.default_rng(1).uniform(size=(4, 21))
    low, high = t_bounds(rows, clip=(0, 1))
    for row, row_low, row_high in zip(rows, low, high, strict=True):
        estimate = t_interval(row.tolist(), clip=(0, 1))
        assert (estimate.low, estimate.high) == pytest.approx((row_low, row_high))


def test_t_refuses_too_few_values():
    with pytest.raises(SpecError, match="got no values"):
        t_interval([])
    with pytest.raises(SpecError, match="at least 2 values"):
        t_bounds([[1.0], [2.0]])
