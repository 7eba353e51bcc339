"""Choosing k: the rule on grids worked by hand."""

import numpy as np
import pytest

from sftknow_core.errors import SpecError
from sftknow_core.stats.choose import choose_k
from sftknow_core.stats.intervals import Estimate, level_balanced


def estimate(value, se):
    return Estimate(value=value, se=se, low=0, high=1, missing_levels=())


def test_own_standard_error():
    """Best 20 with 0.50, se 0.03: 5 (0.48) is within, 1 (0.46) and 0 are not."""
    values = {0: (0.40, 0.03), 1: (0.46, 0.03), 5: (0.48, 0.02), 20: (0.5, 0.03)}
    grid = {k: estimate(value, se) for k, (value, se) in values.items()}
    choice = choose_k(grid)
    assert (choice.k_percent, choice.best_k_percent, choice.se_kind) == (5, 20, "own")
    assert [c.within for c in choice.candidates] == [False, False, True, True]
    assert choice.candidates[1].gap == pytest.approx(0.04)


def test_pairing_resolves_what_the_own_error_does_not():
    """100 questions of one level, k = 10 gains four and loses none: the gap 0.04 lies above the paired SE
    sqrt(0.04 * 0.96 / 99) = 0.0197, but below the own SE sqrt(0.44 * 0.56 / 100) = 0.0496."""
    levels = np.full(100, 2)
    tuned, restored = np.arange(100) < 40, np.arange(100) < 44
    right = {0: tuned, 10: restored}
    accuracies = {k: level_balanced([0, 0, int(r.sum()), 0, 0], [0, 0, 100, 0, 0]) for k, r in right.items()}
    paired = choose_k(accuracies, right, levels)
    assert (paired.k_percent, paired.se_kind) == (10, "paired")
    assert paired.candidates[0].se == pytest.approx((0.04 * 0.96 / 99) ** 0.5)
    assert choose_k(accuracies).k_percent == 0


def test_equal_accuracies_choose_the_smaller_k():
    grid = {0: estimate(0.3, 0), 5: estimate(0.5, 0), 20: estimate(0.5, 0)}
    choice = choose_k(grid)
    assert (choice.k_percent, choice.best_k_percent) == (5, 5)


def test_restoring_nothing_can_win():
    assert choose_k({0: estimate(0.5, 0.01), 60: estimate(0.2, 0.01)}).k_percent == 0


def test_several_seeds_are_paired_jointly():
    rng = np.random.default_rng(0)
    levels = np.repeat(np.arange(5), 20)
    right = {0: rng.random((3, 100)) < 0.4, 5: rng.random((3, 100)) < 0.6}
    accuracies = {k: estimate(float(r.mean()), 0.03) for k, r in right.items()}
    assert choose_k(accuracies, right, levels).se_kind == "paired"


def test_a_grid_without_zero_is_refused():
    with pytest.raises(SpecError, match="must hold 0"):
        choose_k({5: estimate(0.5, 0.1)})


def test_answers_for_a_part_of_the_grid_are_refused():
    grid = {0: estimate(0.5, 0.1), 5: estimate(0.5, 0.1)}
    with pytest.raises(SpecError, match="every k of the grid"):
        choose_k(grid, {0: [1, 0]}, [0, 0])
    with pytest.raises(SpecError, match="levels of their questions"):
        choose_k(grid, {0: [1, 0], 5: [1, 1]})
