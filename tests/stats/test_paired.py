"""Paired comparisons: hand-worked, against statsmodels and scipy, and by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from sftknow_core.errors import SpecError
from sftknow_core.stats.intervals import level_balanced
from sftknow_core.stats.paired import holm, mcnemar, paired_difference, permutation_test


def test_mcnemar_by_hand():
    """1 lost, 5 gained: p = 2 * P(X <= 1), X ~ Binomial(6, 1/2) = 2 * (1 + 6) / 64."""
    before = [1, 0, 0, 0, 0, 0, 1, 0]
    after = [0, 1, 1, 1, 1, 1, 1, 0]
    result = mcnemar(before, after)
    assert (result.n_lost, result.n_gained) == (1, 5)
    assert result.p_value == pytest.approx(14 / 64)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_agrees_with_statsmodels(pairs):
    before, after = zip(*pairs, strict=True)
    table = [[sum(b == x and a == y for b, a in pairs) for y in (True, False)] for x in (True, False)]
    if table[0][1] + table[1][0]:
        assert mcnemar(before, after).p_value == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)
    else:
        assert mcnemar(before, after).p_value == 1.0


def test_mcnemar_needs_the_same_questions():
    with pytest.raises(SpecError, match=r"shapes \(2,\) and \(1,\)"):
        mcnemar([1, 0], [1])


def test_one_seed_by_hand():
    """d = 1, 0 | 0, 0, 0 in two levels: D = (1/2 + 0) / 2 = 0.25. Level 0 has variance 0.5 over 2 questions,
    so SE^2 = 0.5 / (2^2 * 2) = 0.0625, all from 2 questions: df = 1, half-width 12.7062 * 0.25, clipped."""
    result = paired_difference([0, 0, 1, 0, 0], [1, 0, 1, 0, 0], [0, 0, 1, 1, 1])
    assert (result.value, result.se, result.df) == pytest.approx((0.25, 0.25, 1.0))
    assert (result.low, result.high) == (-1.0, 1.0)
    assert result.p_value == pytest.approx(0.5)  # t = 1 on one degree of freedom
    assert result.missing_levels == (2, 3, 4)
    assert result.population == "questions"


def test_two_seeds_by_hand():
    """d of the seeds: 1, 0 | 0, 0 and 1, 0 | 0, 1. D = 0.25 and 0.5, s_seed^2 / 2 = 0.015625. Seed means
    1, 0 | 0, 0.5: variances 0.5 and 0.125, over 2^2 * 2: 0.0625 and 0.015625. SE^2 = 0.09375,
    df = 0.09375^2 / (0.0625^2 + 2 * 0.015625^2) = 2."""
    before = [[0, 0, 1, 0], [0, 0, 1, 0]]
    after = [[1, 0, 1, 0], [1, 0, 1, 1]]
    result = paired_difference(before, after, [0, 0, 1, 1])
    assert (result.value, result.se**2, result.df) == pytest.approx((0.375, 0.09375, 2.0))
    assert result.population == "seeds and questions"


def test_difference_is_the_difference_of_the_level_balanced_accuracies():
    rng = np.random.default_rng(3)
    levels = rng.integers(0, 5, size=200)
    before, after = rng.random(200) < 0.4, rng.random(200) < 0.6
    n = [int((levels == index).sum()) for index in range(5)]

    def accuracy(right):
        return level_balanced([int(right[levels == index].sum()) for index in range(5)], n).value

    result = paired_difference(before, after, levels)
    assert result.value == pytest.approx(accuracy(after) - accuracy(before))


def test_standard_error_and_interval_hold_over_draws_of_questions():
    rng = np.random.default_rng(11)
    levels = np.repeat(np.arange(5), [30, 40, 50, 40, 30])
    lost, gained = 0.05 + 0.02 * levels, 0.10 + 0.03 * levels
    truth = np.mean([0.05 + 0.01 * index for index in range(5)])
    values, errors, covered = [], [], []
    for _ in range(400):
        u = rng.random(levels.shape)
        before, after = u < lost, (u >= lost) & (u < lost + gained)
        result = paired_difference(before, after, levels)
        values.append(result.value)
        errors.append(result.se)
        covered.append(result.low <= truth <= result.high)
    assert np.std(values) == pytest.approx(np.mean(errors), rel=0.12)
    assert 0.925 <= np.mean(covered) <= 0.985


def test_nothing_changed_has_no_p_value():
    result = paired_difference([1, 0, 1], [1, 0, 1], [0, 0, 0])
    assert (result.value, result.se, result.low, result.high) == (0, 0, 0, 0)
    assert result.df is None
    assert result.p_value is None


def test_a_level_with_one_question_is_named_and_left_out():
    result = paired_difference([0, 0, 0, 1], [1, 0, 1, 1], [1, 1, 1, 4])
    assert result.missing_levels == (0, 2, 3, 4)
    assert result.n_questions == 3


@pytest.mark.parametrize(
    ("before", "after", "levels", "message"),
    [
        ([0, 1], [0, 1, 1], [0, 0], "over the same questions"),
        ([0, 1], [0, 1], [0, 0, 0], "over the same questions"),
        ([0, 1], [0, 1], [0, 5], "allowed: 0..4"),
        ([0, 1], [0, 1], [0, 1], "no level has 2 questions"),
    ],
)
def test_what_does_not_fit_is_refused(before, after, levels, message):
    with pytest.raises(SpecError, match=message):
        paired_difference(before, after, levels)


def test_permutation_by_hand():
    """Three questions, all gained: only the 2 of 8 sign patterns that agree throughout reach |T|."""
    result = permutation_test([0, 0, 0], [1, 1, 1], [2, 2, 2], n_permutations=40_000)
    assert result.value == 1.0
    assert result.p_value == pytest.approx(0.25, abs=0.01)


def test_permutation_agrees_with_scipy_for_two_seeds():
    rng = np.random.default_rng(5)
    levels = np.repeat([0, 1, 4], [4, 6, 3])
    before, after = rng.random((2, 13)) < 0.3, rng.random((2, 13)) < 0.7
    weight = np.array([1 / (3 * (levels == index).sum()) for index in levels])

    def statistic(x, y, axis=-1):
        return ((y - x) * weight).sum(axis=axis)

    expected = stats.permutation_test(
        (before.mean(axis=0), after.mean(axis=0)),
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    result = permutation_test(before, after, levels, n_permutations=100_000)
    assert result.value == pytest.approx(expected.statistic)
    assert result.p_value == pytest.approx(expected.pvalue, abs=0.006)


def test_permutation_is_seeded_and_never_zero():
    before, after, levels = [0] * 60, [1] * 60, [3] * 60
    first = permutation_test(before, after, levels, n_permutations=999, seed=4)
    assert first == permutation_test(before, after, levels, n_permutations=999, seed=4)
    assert first.p_value == 1 / 1000
    assert permutation_test(before, before, levels).p_value == 1.0


def test_permutation_holds_its_level_when_nothing_changed():
    """Before and after drawn alike: p <= 0.1 in about one of ten draws."""
    rng = np.random.default_rng(9)
    levels = np.repeat(np.arange(5), 30)
    p_values = [
        permutation_test(rng.random(150) < 0.5, rng.random(150) < 0.5, levels, n_permutations=999).p_value
        for _ in range(400)
    ]
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.045)


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.04 times 3, 2, 1 = 0.03, 0.04, 0.04, running maximum; the untested stays None."""
    assert holm([0.04, None, 0.01, 0.02]) == pytest.approx([0.04, None, 0.03, 0.04])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([None]) == [None]
    with pytest.raises(SpecError, match="p values lie in"):
        holm([1.2])
