"""McNemar and Holm: hand-worked, and against statsmodels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from sftknow_core.errors import SpecError
from sftknow_core.stats.paired import holm, mcnemar


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


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.04 times 3, 2, 1 = 0.03, 0.04, 0.04, running maximum; the untested stays None."""
    assert holm([0.04, None, 0.01, 0.02]) == pytest.approx([0.04, None, 0.03, 0.04])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([None]) == [None]
    with pytest.raises(SpecError, match="p values lie in"):
        holm([1.2])
