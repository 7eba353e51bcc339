"""Coefficients and clustered covariances against statsmodels, a null and a planted effect in simulations, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.discrete.conditional_models import ConditionalLogit
from statsmodels.stats.sandwich_covariance import cov_cluster

from sftknow_core.errors import SpecError
from sftknow_core.stats.logit import conditional_logit, logit, two_way

RUNS, QUESTIONS = 12, 80


def drawn(seed, effect=0.8, run_spread=0.0):
    """Rows run x question: x varies with both; questions have their own intercepts, runs a shift of spread."""
    rng = np.random.default_rng(seed)
    run, question = np.repeat(np.arange(RUNS), QUESTIONS), np.tile(np.arange(QUESTIONS), RUNS)
    x = rng.normal(size=(RUNS * QUESTIONS, 2))
    own = rng.normal(size=QUESTIONS)[question] + run_spread * rng.normal(size=RUNS)[run]
    y = rng.random(len(run)) < 1 / (1 + np.exp(-(own + x @ [effect, 0.0])))
    return y.astype(float), x, question, run


def test_logit_is_statsmodels_with_either_cluster() -> None:
    y, x, question, run = drawn(0)
    design = np.column_stack([np.ones(len(y)), x])
    names = ["one", "a", "b"]
    ours = logit(y, design, names, (run, question))
    theirs = sm.Logit(y, design).fit(disp=0)
    assert [c.value for c in ours.coefficients] == pytest.approx(theirs.params, abs=1e-7)
    scores = design * (y - theirs.predict())[:, None]
    bread = np.linalg.inv(-theirs.model.hessian(theirs.params))
    a, b, both = (bread @ middle @ bread for middle in two_way(scores, (run, question)))
    for found, groups, n in ((a, run, RUNS), (b, question, QUESTIONS)):
        expected = cov_cluster(theirs, groups, use_correction=False) * n / (n - 1)
        assert found == pytest.approx(expected, rel=1e-6)
    wide = np.maximum.reduce([np.diag(a), np.diag(b), np.diag(a + b - both)])
    t = 2.200985  # Student's 97.5% with 11 degrees of freedom
    halves = [(c.high - c.low) / 2 for c in ours.coefficients]
    assert halves == pytest.approx(t * np.sqrt(wide), rel=1e-5)


def test_conditional_logit_is_statsmodels() -> None:
    y, x, question, run = drawn(1)
    ours = conditional_logit(y, x, ["a", "b"], question, (run, question))
    theirs = ConditionalLogit(y, x, groups=question).fit(disp=0)
    assert [c.value for c in ours.coefficients] == pytest.approx(theirs.params, abs=1e-4)


def test_groups_are_worked_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    y, x, question, run = drawn(3)
    whole = conditional_logit(y, x, ["a", "b"], question, (run, question))
    monkeypatch.setattr("sftknow_core.stats.logit._CELLS", 500)
    parts = conditional_logit(y, x, ["a", "b"], question, (run, question))
    for one, other in zip(parts.coefficients, whole.coefficients, strict=True):
        assert (one.value, one.low) == pytest.approx((other.value, other.low), abs=1e-8)


def test_conditional_logit_by_hand() -> None:
    """Two rows a group, x = 0 and 1: of ten groups with one event seven have it at x = 1, so exp(b) = 7 / 3. A group
    without events says nothing."""
    y = np.array([0, 1] * 7 + [1, 0] * 3 + [0, 0], dtype=float)
    x = np.array([0, 1] * 11, dtype=float)[:, None]
    group = np.repeat(np.arange(11), 2)
    found = conditional_logit(y, x, ["x"], group, (np.arange(22) % 5, group))
    assert found.coefficients[0].value == pytest.approx(np.log(7 / 3), abs=1e-6)
    assert (found.n, found.n_events) == (20, 10)


def test_a_planted_effect_is_found_and_a_null_one_is_not() -> None:
    """Over 60 draws with a shift of each run: b = 0.8 is covered and found, b = 0 is covered in about 95%."""
    planted, null, found = 0, 0, 0
    for seed in range(60):
        y, x, question, run = drawn(100 + seed, run_spread=0.3)
        a, b = conditional_logit(y, x, ["a", "b"], question, (run, question)).coefficients
        planted += a.low <= 0.8 <= a.high
        found += a.p_value < 0.05 and a.value > 0
        null += b.low <= 0 <= b.high
    assert found == 60 and planted >= 53 and null >= 53


def test_an_effect_of_the_run_takes_its_width_from_the_runs() -> None:
    """A column that is one number a run: with a shift of each run, the interval is wide although rows are many."""
    wrong = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y, _, question, run = drawn(seed, run_spread=0.8)
        level = rng.permutation(np.arange(RUNS) % 2).astype(float)[run][:, None]
        (only,) = conditional_logit(y, level, ["level"], question, (run, question)).coefficients
        wrong += not only.low <= 0 <= only.high
    assert wrong <= 9  # 5% of 60 are 3; with independent rows it would be about 40


def test_what_has_no_answer_is_refused() -> None:
    y, x, question, run = drawn(2)
    with pytest.raises(SpecError, match="make up one another"):
        logit(y, np.column_stack([x[:, 0], x[:, 0]]), ["a", "again"], (run, question))
    with pytest.raises(SpecError, match="without error"):
        logit((x[:, 0] > 0).astype(float), x[:, :1], ["a"], (run, question))
    with pytest.raises(SpecError, match="no group has rows of both"):
        conditional_logit(np.ones(len(y)), x, ["a", "b"], question, (run, question))
    with pytest.raises(SpecError, match="got 1 and 80 clusters"):
        logit(y, x, ["a", "b"], (np.zeros(len(y)), question))
    with pytest.raises(SpecError, match=r"needs \[n\]"):
        logit(y, x, ["a"], (run, question))
