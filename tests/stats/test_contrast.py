"""Contrasts: hand-worked, against scipy, and what must hold for all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from sftknow_core.errors import SpecError
from sftknow_core.stats.contrast import contrast, sign_flip, trend_weights
from sftknow_core.stats.intervals import level_balanced
from sftknow_core.stats.paired import holm
from sftknow_core.stats.resample import spread_interval, spread_permutation
from sftknow_core.stats.seeds import ONE_SEED, over_seeds


def test_one_seed_by_hand():
    """x = 1, 0, 0, 0 | 0, 1, 1, 0: means 1/4 and 1/2. Variances over n: 0.25 / 4 and (1/3) / 4 = 0.0625 and 0.083333,
    over 2^2: SE^2 = 0.036458; df = 3 * (1/16 + 1/12)^2 / (1/16^2 + 1/12^2) = 5.88."""
    found = contrast([1, 0, 0, 0, 0, 1, 1, 0], [0] * 4 + [3] * 4)
    assert found.value == 0.375
    assert found.se**2 == pytest.approx(0.0364583, abs=1e-6)
    df = 3 * (1 / 16 + 1 / 12) ** 2 / (1 / 16**2 + 1 / 12**2)
    half = stats.t.isf(0.025, df) * found.se
    assert (found.low, found.high) == pytest.approx((0.375 - half, 0.375 + half))
    assert found.population == "questions"
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.375 / found.se, df))


def test_seeds_alone_are_a_t_interval():
    """All questions alike within a seed, many of them: only the three seeds 0.1, 0.2, 0.3 vary."""
    x = np.repeat([[0.1], [0.2], [0.3]], 4_000, axis=1)
    found = contrast(x, np.zeros(4_000), step=None)
    expected = stats.ttest_1samp([0.1, 0.2, 0.3], 0)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(expected.pvalue)


def test_one_seed_without_the_floor_by_hand():
    """d = 1, 0 | 0, 0, 0 in two levels: D = (1/2 + 0) / 2 = 0.25. Level 0 has variance 0.5 over 2 questions, so without
    the floor SE^2 = 0.5 / (2^2 * 2) = 0.0625, all from 2 questions: df = 1, half-width 12.7062 * 0.25."""
    found = contrast([1, 0, 0, 0, 0], [0, 0, 1, 1, 1], step=None)
    assert (found.value, found.se, found.df) == pytest.approx((0.25, 0.25, 1.0))
    assert (found.low, found.high) == pytest.approx((0.25 - 12.7062 / 4, 0.25 + 12.7062 / 4), abs=1e-4)
    assert found.p_value == pytest.approx(0.5)  # t = 1 on one degree of freedom
    assert found.population == "questions"


def test_one_seed_and_level_is_the_t_test_of_the_differences():
    d = np.random.default_rng(1).integers(-1, 2, 50)
    expected = stats.ttest_1samp(d, 0)
    found = contrast(d, np.zeros(50))
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(expected.pvalue)


def test_two_seeds_by_hand():
    """d of the seeds: 1, 0 | 0, 0 and 1, 0 | 0, 1. D = 0.25 and 0.5, s_seed^2 / 2 = 0.015625. Seed means
    1, 0 | 0, 0.5: variances 0.5 and 0.125, over 2^2 * 2: 0.0625 and 0.015625. SE^2 = 0.09375."""
    found = contrast([[1, 0, 0, 0], [1, 0, 0, 1]], [0, 0, 1, 1], step=None)
    assert (found.value, found.se**2) == pytest.approx((0.375, 0.09375))
    assert found.population == "seeds and questions"


def test_a_change_is_the_difference_of_the_level_balanced_accuracies():
    rng = np.random.default_rng(3)
    levels = rng.integers(0, 5, size=200)
    before, after = rng.random(200) < 0.4, rng.random(200) < 0.6
    n = [int((levels == index).sum()) for index in range(5)]

    def accuracy(right):
        return level_balanced([int(right[levels == index].sum()) for index in range(5)], n).value

    found = contrast(after.astype(float) - before, levels)
    assert found.value == pytest.approx(accuracy(after) - accuracy(before))


def test_a_level_with_one_question_is_named_and_left_out():
    found = contrast([1, 0, 1, 0], [1, 1, 1, 4])
    assert (found.missing_levels, found.n_questions) == ((4,), 3)


def test_nothing_changed_in_few_questions_is_no_proof_of_equality():
    """No change in 98 questions: se 1 / 100, as if about one had changed; the half-width is t(97) / 100."""
    found = contrast(np.zeros((3, 98)), np.zeros(98))
    assert (found.low, found.high) == pytest.approx(
        (-stats.t.isf(0.025, 97) / 100, stats.t.isf(0.025, 97) / 100)
    )
    assert found.p_value == 1.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.floats(-0.6, 0.6))
def test_everything_flips_with_the_sign(seed, n_seeds, drift):
    rng = np.random.default_rng(seed)
    x = np.clip(np.round(rng.normal(drift, 0.6, (n_seeds, 30))), -1, 1)
    levels = np.repeat([1, 2, 4], 10)
    one, other = contrast(x, levels), contrast(-x, levels)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert one.p_value == pytest.approx(other.p_value)
    assert one.p_questions == pytest.approx(other.p_questions)
    assert one.low <= one.value <= one.high


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_the_p_value_is_where_the_interval_reaches_the_null(seed, n_seeds):
    rng = np.random.default_rng(seed)
    x, levels = rng.integers(-1, 2, (n_seeds, 24)).astype(float), np.repeat([0, 1], 12)
    found = contrast(x, levels)
    assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)
    assert contrast(x, levels, null=found.high).p_value == pytest.approx(0.05, abs=1e-6)


def test_sign_flip_agrees_with_scipy():
    rng = np.random.default_rng(4)
    x = rng.integers(-2, 3, 14) / 2
    levels = np.repeat([0, 2], 7)
    expected = stats.permutation_test(
        (x,), lambda v, axis=-1: v.mean(axis=axis), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip(x, levels, n_permutations=60_000) == pytest.approx(expected.pvalue, abs=0.01)


def test_sign_flip_agrees_with_scipy_for_two_seeds_and_uneven_levels():
    rng = np.random.default_rng(5)
    levels = np.repeat([0, 1, 4], [4, 6, 3])
    x = ((rng.random((2, 13)) < 0.7).astype(float) - (rng.random((2, 13)) < 0.3)).mean(axis=0)
    weight = np.array([1 / (3 * (levels == index).sum()) for index in levels])
    expected = stats.permutation_test(
        (x,), lambda v, axis=-1: (v * weight).sum(axis=axis), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip(x, levels, n_permutations=100_000) == pytest.approx(expected.pvalue, abs=0.006)


def test_sign_flip_is_seeded_and_never_zero():
    x, levels = [1] * 60, [3] * 60
    first = sign_flip(x, levels, n_permutations=999, seed=4)
    assert first == sign_flip(x, levels, n_permutations=999, seed=4) == 1 / 1000


def test_sign_flip_holds_its_level_when_nothing_changed():
    """Before and after drawn alike: p <= 0.1 in about one of ten draws."""
    rng = np.random.default_rng(9)
    levels = np.repeat(np.arange(5), 30)
    drawn = [(rng.random(150) < 0.5).astype(float) - (rng.random(150) < 0.5) for _ in range(400)]
    p_values = np.array([sign_flip(x, levels, n_permutations=999) for x in drawn])
    assert np.mean(p_values <= 0.1) == pytest.approx(0.1, abs=0.045)


def test_sign_flip_needs_many_questions_to_be_small():
    assert sign_flip([1, 1, 1], [0, 0, 0]) == pytest.approx(0.25, abs=0.02)
    assert sign_flip([0, 0], [0, 0]) == 1.0


def test_trend_weights_give_the_rise_of_the_least_squares_line():
    places, y = [6, 8, 11], np.array([1.0, 2.5, 2.0])
    slope = stats.linregress(places, y).slope
    assert trend_weights(places) @ y == pytest.approx(slope * 5)
    assert trend_weights([1, 3]) == pytest.approx([-1, 1])
    with pytest.raises(SpecError, match="two different places"):
        trend_weights([2, 2])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_monotone_and_never_smaller(p_values):
    adjusted = holm(p_values)
    assert all(a >= p - 1e-12 and a <= 1 for a, p in zip(adjusted, p_values, strict=True))
    assert adjusted == pytest.approx(multipletests(p_values, method="holm")[1])
    order = np.argsort(p_values, kind="stable")
    assert list(np.array(adjusted)[order]) == sorted(adjusted)


@pytest.mark.parametrize(
    ("x", "levels", "message"),
    [
        ([1, 0], [0], "needs"),
        ([np.nan, 0], [0, 0], "not finite"),
        ([1, 0], [0, 1], "no level has 2 questions"),
    ],
)
def test_what_does_not_fit_is_refused(x, levels, message):
    with pytest.raises(SpecError, match=message):
        contrast(x, levels)


def test_the_spread_of_two_cells_is_their_difference():
    """For two cells the studentised range is sqrt(2) t: with one seed the half-width is that of the contrast."""
    rng = np.random.default_rng(1)
    levels = np.repeat(np.arange(5), 40)
    right = np.stack([rng.random((1, 200)) < p for p in (0.3, 0.7)]).astype(float)
    pair, found = contrast(right[1] - right[0], levels), spread_interval(right, levels)
    assert found.value == pytest.approx(pair.value)
    assert (found.low, found.high) == pytest.approx((pair.low, pair.high), rel=1e-6)
    three = spread_interval(np.concatenate([right, right[:1]]), levels)
    assert three.value == found.value
    assert three.half > 0.6 * found.half  # pairs of equal cells have only the floor of a question's step
    with pytest.raises(SpecError, match="cells >= 2"):
        spread_interval(right[:1], levels)


def test_p_and_interval_agree():
    """p at a value is below 0.05 just where the interval leaves it out: counts, nats, and means over seeds."""
    rng = np.random.default_rng(2)
    levels = np.repeat([3, 4], 30)
    nats = rng.gamma(0.9, 1, (3, 60)) + rng.normal(0, 0.1, (3, 1))
    found = [contrast(nats, levels, step=None), contrast(rng.integers(-1, 2, (3, 60)).astype(float), levels)]
    for one in found:
        for inside, at in (
            (True, one.low + 1e-4),
            (False, one.low - 1e-4),
            (True, one.high - 1e-4),
            (False, one.high + 1e-4),
        ):
            assert (one.p_at(at) > 0.05) is inside
    for extra in (0.0, 0.001, 0.1):
        mean = over_seeds([0.1, 0.25, 0.3], extra_variance=extra)
        for inside, at in ((True, mean.low + 1e-6), (False, mean.low - 1e-6), (False, mean.high + 1e-6)):
            assert (mean.p_at(at) > 0.05) is inside


def test_spread_permutation_by_hand():
    """Two cells of two runs 0, 0 and 1, 1: of the 6 ways to split four runs, 2 have spread 1, the others 0."""
    found = spread_permutation([[0, 0], [1, 1]], n_permutations=30_000)
    assert (found.value, found.null_low, found.null_high) == (1, 0, 1)
    assert found.p_value == pytest.approx(1 / 3, abs=0.01)
    assert found.null_mean == pytest.approx(1 / 3, abs=0.01)
    assert spread_permutation([[1, 1], [1, 1]]).p_value == 1


def test_over_seeds_by_hand():
    """0.1, 0.2, 0.3: as scipy; with one seed there is no spread, and it says so."""
    expected = stats.ttest_1samp([0.1, 0.2, 0.3], 0.05)
    found = over_seeds([0.1, 0.2, 0.3], null=0.05)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.sd) == pytest.approx((expected.confidence_interval().low, 0.1))
    wider = over_seeds([0.1, 0.2, 0.3], extra_variance=0.01)
    assert wider.high == pytest.approx(0.2 + ((found.high - 0.2) ** 2 + 1.959964**2 * 0.01) ** 0.5)
    one = over_seeds([0.4])
    assert (one.low, one.note) == (None, ONE_SEED)
