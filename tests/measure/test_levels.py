"""Levels in whole numbers, and when one is borderline."""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.weightstats import DescrStatsW

from sftknow_core.errors import SpecError
from sftknow_core.measure.levels import is_borderline, level_of, level_of_expected, mastery_of


@pytest.mark.parametrize(
    ("n_correct", "level"),
    [(0, 0), (1, 1), (52, 1), (53, 2), (105, 2), (106, 3), (157, 3), (158, 4), (210, 4)],
)
def test_levels_of_210_completions(n_correct, level):
    """210 / 4 = 52.5 and 3 * 52.5 = 157.5 lie between counts; 105 / 210 = 1/2 still belongs to level 2."""
    assert level_of(n_correct, 210) == level


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_level_is_the_ceiling_of_four_times_r(counts):
    assert level_of(*counts) == ceil(4 * Fraction(*counts))


@pytest.mark.parametrize(("n_correct", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(n_correct, n):
    with pytest.raises(SpecError, match=f"got {n_correct} right of {n}"):
        level_of(n_correct, n)


def test_mastery_by_hand():
    """Three templates of two samples: means 0, 1/2, 1; R = 1/2 (level 2), sd 1/2, t(2) = 4.3027: half-width
    4.3027 * 0.5 / sqrt(3) = 1.242, clipped."""
    mastery = mastery_of([0, 1, 2], 2)
    assert (mastery.n_correct, mastery.n_total, mastery.r, mastery.level) == (3, 6, 0.5, 2)
    assert (mastery.r_low, mastery.r_high, mastery.borderline) == (0.0, 1.0, True)


def test_interval_is_that_of_the_template_means():
    n_correct = np.random.default_rng(2).integers(4, 9, size=21)
    mastery = mastery_of(n_correct.tolist(), 10)
    assert (mastery.r_low, mastery.r_high) == pytest.approx(DescrStatsW(n_correct / 10).tconfint_mean())


def test_all_wrong_and_all_right_have_no_width():
    nothing, everything = mastery_of([0] * 21, 10), mastery_of([10] * 21, 10)
    assert (nothing.level, nothing.r_low, nothing.r_high, nothing.borderline) == (0, 0, 0, False)
    assert (everything.level, everything.r_low, everything.borderline) == (4, 1, False)


def test_one_template_has_no_interval():
    mastery = mastery_of([3], 10)
    assert (mastery.r_low, mastery.r_high, mastery.borderline) == (None, None, None)


@pytest.mark.parametrize(
    ("low", "high", "borderline"),
    [
        (0.1, 0.2, False),
        (0.2, 0.3, True),
        (0.25, 0.3, True),
        (0.2, 0.25, False),
        (0.26, 0.5, False),
        (0, 1, True),
    ],
)
def test_borderline_means_two_levels(low, high, borderline):
    """A boundary itself belongs to the level below it."""
    assert is_borderline(low, high) is borderline


@pytest.mark.parametrize(
    ("expected", "level"),
    [(0, 0), (1 / 210, 0), (0.005, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.75, 3), (0.9, 4), (1, 4)],
)
def test_levels_of_expected_mastery(expected, level):
    assert level_of_expected(expected, 210) == level
