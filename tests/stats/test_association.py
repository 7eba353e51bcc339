"""Associations: against statsmodels and scipy, by hand, and by simulation."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.discrete.conditional_models import ConditionalLogit

from sftknow_core.errors import SpecError
from sftknow_core.stats.association import conditional_logit, spearman


def test_spearman_by_hand():
    """Ranks 1..6 against 1, 2, 3, 4, 6, 5: r = 1 - 6 * 2 / (6 * 35) = 33 / 35."""
    found = spearman([1, 2, 3, 4, 5, 6], [10, 20, 30, 40, 60, 50])
    assert found.value == pytest.approx(33 / 35)
    r = 33 / 35
    half = 1.959964 * ((1 + r**2 / 2) / 3) ** 0.5
    assert found.low == pytest.approx(np.tanh(np.arctanh(r) - half))
    assert spearman([1, 2, 3, 4, 5], [5, 4, 3, 2, 1]).value == pytest.approx(-1)


@pytest.mark.parametrize(("x", "y"), [([1, 2, 3], [1, 2, 3]), ([1] * 5, [1, 2, 3, 4, 5])])
def test_spearman_refuses_what_cannot_correlate(x, y):
    with pytest.raises(SpecError, match="both must vary"):
        spearman(x, y)


def test_runs_of_a_cell_are_no_independent_runs():
    """Six runs, each three times over: the correlation stays, and with it the standard error of leaving out a run
    and its copies. Alone, 18 runs would make it (1 + r^2 / 2) / 15 instead."""
    x, y = np.repeat([1, 2, 3, 4, 5, 6], 3), np.repeat([20, 10, 30, 50, 40, 60], 3)
    cells = np.repeat(list("abcdef"), 3).tolist()
    alone, grouped = spearman(x, y), spearman(x, y, cells)
    assert grouped.value == alone.value
    left = [
        stats.spearmanr(x[[c != out for c in cells]], y[[c != out for c in cells]])[0] for out in "abcdef"
    ]
    z = np.arctanh(left)
    se = max(np.sqrt(5 / 6 * ((z - z.mean()) ** 2).sum()), np.sqrt((1 + alone.value**2 / 2) / 15))
    half = stats.t.isf(0.025, 5) * se
    assert (grouped.low, grouped.high) == pytest.approx(
        np.tanh(np.arctanh(alone.value) + np.array([-half, half]))
    )
    assert grouped.high - grouped.low > alone.high - alone.low
    assert grouped.p_value == pytest.approx(2 * stats.t.sf(np.arctanh(alone.value) / se, 5))
    with pytest.raises(SpecError, match="12 runs in 4 cells"):
        spearman(x[:12], y[:12], cells[:12])


def test_the_logit_leaves_out_a_cell_at_a_time():
    """Every run twice, in cells of two: se^2 = 6 / 7 * sum of squares over the seven fits without one of them."""
    right, x = (np.repeat(table, 2, 0) for table in drawn(7, 40, -0.8, seed=1))
    cells = np.repeat(range(7), 2)
    found, loose = conditional_logit(right, x, cells.tolist()), conditional_logit(right, x)
    left = np.array([conditional_logit(right[cells != out], x[cells != out]).value for out in range(7)])
    se = np.sqrt(6 / 7 * ((left - left.mean()) ** 2).sum())
    assert found.value == loose.value
    assert found.high == pytest.approx(found.value + stats.t.isf(0.025, 6) * se)
    assert found.high - found.low > loose.high - loose.low
    assert conditional_logit(right, x, list(range(14))) == loose


def drawn(n_runs, n_questions, beta, seed):
    rng = np.random.default_rng(seed)
    x = rng.gamma(2, 1, (n_runs, n_questions))
    latent = rng.normal(0, 1.5, n_questions) + beta * (x - 2)
    return rng.random((n_runs, n_questions)) < 1 / (1 + np.exp(-latent)), x


def test_conditional_logit_agrees_with_statsmodels():
    right, x = drawn(7, 40, -0.8, seed=1)
    groups = np.tile(np.arange(40), (7, 1))
    expected = ConditionalLogit(right.ravel().astype(int), x.ravel()[:, None], groups=groups.ravel()).fit(
        disp=0
    )
    found = conditional_logit(right, x)
    assert found.value == pytest.approx(expected.params[0], abs=1e-4)
    assert found.n == int((right.any(axis=0) & ~right.all(axis=0)).sum())
    assert found.low < found.value < found.high


def test_conditional_logit_by_hand():
    """Six questions, each right in one of six runs; x is 1 in two runs, and four questions are right in those:
    2 exp(beta) / (2 exp(beta) + 4) = 4 / 6, so exp(beta) = 4."""
    right = np.zeros((6, 6), dtype=bool)
    right[[0, 0, 1, 1, 2, 3], np.arange(6)] = True
    x = np.repeat([[1.0], [1.0], [0.0], [0.0], [0.0], [0.0]], 6, axis=1)
    assert conditional_logit(right, x).value == pytest.approx(np.log(4))


def test_conditional_logit_flips_with_the_sign():
    right, x = drawn(6, 60, -0.5, seed=2)
    one, other = conditional_logit(right, x), conditional_logit(right, -x)
    assert (one.value, one.low) == pytest.approx((-other.value, -other.high))
    assert one.p_value == pytest.approx(other.p_value)


def test_conditional_logit_covers():
    held = []
    for seed in range(60):
        right, x = drawn(8, 40, -0.5, seed)
        found = conditional_logit(right, x)
        held.append(found.low <= -0.5 <= found.high)
    assert np.mean(held) >= 0.88


def test_conditional_logit_needs_change():
    with pytest.raises(SpecError, match="right in some runs"):
        conditional_logit(np.ones((5, 3), dtype=bool), np.random.default_rng(0).random((5, 3)))
    with pytest.raises(SpecError, match="runs >= 5"):
        conditional_logit([[1, 0]], [[0.1, 0.2]])


def test_stats_agree_on_p():
    x, y = np.random.default_rng(0).normal(size=(2, 12))
    assert spearman(x, y).p_value == pytest.approx(stats.spearmanr(x, y).pvalue)
