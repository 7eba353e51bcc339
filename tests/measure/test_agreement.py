"""Sampled against expected mastery, and one half of the templates against the other, by hand."""

import pytest

from sftknow_core.measure.levels import sampled_against_expected, split_half


def fact(r, expected, level, n_samples=210):
    return {"r": r, "expected_mastery": expected, "level": level, "n_samples": n_samples}


def test_agreement_by_hand():
    """Ranks of R 1, 2, 3, 4 and of expected 1, 3, 2, 4: Spearman 1 - 6 * 2 / (4 * 15) = 0.8.
    Differences 0, 0.1, 0.1, 0.2: mean 0.1."""
    rows = [
        fact(0.0, 0.0, 0),
        fact(0.2, 0.3, 1),
        fact(0.3, 0.2, 2),
        fact(0.9, 0.7, 4),
        fact(None, None, None, 0),
    ]
    agreement = sampled_against_expected(rows)
    assert (agreement.n, agreement.spearman) == (4, pytest.approx(0.8))
    assert agreement.mean_abs_difference == pytest.approx(0.1)
    assert agreement.confusion == (
        (1, 0, 0, 0, 0),
        (0, 0, 1, 0, 0),
        (0, 1, 0, 0, 0),
        (0, 0, 0, 0, 0),
        (0, 0, 0, 1, 0),
    )


def test_nothing_to_correlate():
    empty = sampled_against_expected([])
    assert (empty.n, empty.spearman, empty.mean_abs_difference) == (0, None, None)
    constant = sampled_against_expected([fact(0.5, 0.1, 2), fact(0.5, 0.2, 2)])
    assert (constant.n, constant.spearman) == (2, None)


def test_split_half_by_hand():
    """Fact a: even templates 0 and 2 have 20 of 20, the odd one 2 of 10: levels 4 and 1. Fact b: 0 and 0.
    Fact c has one template only."""
    counts = [("a", 0, 10), ("a", 1, 2), ("a", 2, 10), ("b", 0, 0), ("b", 1, 0), ("c", 0, 5)]
    rows = [{"fact_id": f, "template": t, "n_correct": n, "n_samples": 10} for f, t, n in counts]
    confusion = split_half(rows)
    assert confusion[4][1] == confusion[0][0] == 1
    assert sum(map(sum, confusion)) == 2
