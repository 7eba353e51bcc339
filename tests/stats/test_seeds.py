"""Means over seeds with the variance of something else on top: the interval and p are one rule."""

from __future__ import annotations

from itertools import product

import pytest
from scipy import stats

from sftknow_core.stats.seeds import over_seeds

SPREADS = [(0.0, 0.0, 0.0), (0.1, 0.2, 0.3), (0.19, 0.2, 0.21), (0.0, 0.6), (0.1, 0.15, 0.2, 0.25, 0.3)]
EXTRA = [0.0, 1e-8, 1e-4, 0.0025, 0.01, 1.0]


def cases() -> list[tuple[tuple[float, ...], float, float]]:
    """(values, extra variance, null) around every end of an interval, a little inside and a little outside."""
    found = []
    for values, extra in product(SPREADS, EXTRA):
        one = over_seeds(values, extra_variance=extra)
        assert one.low is not None and one.high is not None
        width = max(one.high - one.low, 1e-3)
        for end, off in product((one.low, one.high), (-0.2, -0.01, -1e-4, 1e-4, 0.01, 0.2)):
            found.append((values, extra, end + off * width))
    return found


def test_the_interval_excludes_the_null_exactly_where_p_is_below_5_percent() -> None:
    """By Satterthwaite's p, as before, 0.1, 0.2 and 0.3 with a small extra variance had an interval and a p at odds."""
    checked = cases()
    assert len(checked) == 5 * 6 * 12
    for values, extra, null in checked:
        found = over_seeds(values, null, extra_variance=extra)
        assert found.low is not None and found.high is not None and found.p_value is not None
        assert (null < found.low or null > found.high) == (found.p_value < 0.05), (values, extra, null)


def test_a_case_that_two_rules_decided_differently() -> None:
    """Two seeds: t(1) = 12.7 for their spread, 1.96 for the extra; Satterthwaite's df of 26 made p small."""
    values, extra, null = (0.19, 0.21), 0.0025, 0.0
    found = over_seeds(values, null, extra_variance=extra)
    own = 0.01
    variance = own**2 + extra
    former = 2 * stats.t.sf(0.2 / variance**0.5, variance**2 / own**4)
    half = (stats.t.isf(0.025, 1) ** 2 * own**2 + 1.959964**2 * extra) ** 0.5
    assert found.high == pytest.approx(0.2 + half)
    assert former < 0.001 < 0.005 < (found.p_value or 0) < 0.05


@pytest.mark.parametrize("values", SPREADS[1:])
def test_without_extra_variance_it_is_the_t_test(values: tuple[float, ...]) -> None:
    """A variance of next to nothing comes to the same, so that there is no jump."""
    expected = stats.ttest_1samp(values, 0.04).pvalue
    assert over_seeds(values, 0.04).p_value == pytest.approx(expected)
    assert over_seeds(values, 0.04, extra_variance=1e-18).p_value == pytest.approx(expected, rel=1e-6)


def test_equal_seeds_leave_the_other_variance_alone() -> None:
    """A z test: 0.3 with variance 0.01 is 3 standard errors from 0."""
    found = over_seeds((0.3, 0.3, 0.3), extra_variance=0.01)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(3))
    assert found.high == pytest.approx(0.3 + 0.1 * stats.norm.isf(0.025))


def test_p_lies_between_the_smallest_and_1() -> None:
    assert over_seeds((0.2, 0.2), 0.2, extra_variance=0.01).p_value == 1.0
    assert over_seeds((5.0, 5.0), extra_variance=1e-6).p_value == 1e-15
