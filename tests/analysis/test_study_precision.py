"""Which effects a study can detect: half-widths expected from its settings, against intervals of simulated studies."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from fake_study import make, mean_of
from scipy import stats

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.precision import (
    Variances,
    assumed,
    comparisons,
    half_width,
    measured,
    precision,
    questions_needed,
    variances,
)
from sftknow_core.specs import QuestionSpec, Rule, StudySpec
from sftknow_core.stats import contrast as contrast_module

CELLS = Variances(0.02**2, 0.1, 0.2)
SPEC = StudySpec(
    name="x", questions=QuestionSpec(per_level=40), per_level_by_size={1920: 100},
    seeds_by_size={1920: (0, 1, 2, 3, 4)}, rule=Rule(margin_pp=2.0),
)  # fmt: skip


def simulated(rng: np.random.Generator, n_seeds: int, n: int, of: Variances) -> np.ndarray:
    """Differences [S, 5 n] with these variances."""
    seeds, questions = rng.normal(0, sqrt(of.seed), (n_seeds, 1)), rng.normal(0, sqrt(of.question), 5 * n)
    return 0.03 + seeds + questions + rng.normal(0, sqrt(of.both), (n_seeds, 5 * n))


@pytest.mark.parametrize(
    ("n_seeds", "n", "of"),
    [
        (3, 20, CELLS),
        (3, 100, CELLS),
        (5, 100, CELLS),
        (5, 40, Variances(0.0, 0.05, 0.1)),
        (3, 100, Variances(0.05**2, 0.02, 0.05)),
        (1, 40, CELLS),
    ],
)
def test_mean_half_width_of_simulated_contrasts(
    monkeypatch: pytest.MonkeyPatch, n_seeds: int, n: int, of: Variances
) -> None:
    monkeypatch.setattr(
        contrast_module, "sign_flip", lambda *_, **__: 1.0
    )  # slow, and no part of the interval
    rng, levels = np.random.default_rng(1), np.repeat(np.arange(5), n)
    halves = []
    for _ in range(400):
        found = contrast_module.contrast(simulated(rng, n_seeds, n, of), levels, step=None)
        halves.append((found.high - found.low) / 2)
    assert half_width([n] * 5, n_seeds, of) == pytest.approx(np.mean(halves), rel=0.1)


def test_without_spread_between_seeds_it_is_the_t_interval_of_questions() -> None:
    """One seed, one level, 25 questions of variance .25: t(24) .1 = 2.064 x 0.1."""
    found = half_width([25], 1, Variances(0.0, 0.25, 0.0))
    assert found == pytest.approx(2.0639 * 0.1, abs=1e-4)
    # two levels of 25: the variance is halved, with 48 degrees of freedom
    both = half_width([25, 25], 1, Variances(0.0, 0.25, 0.0))
    assert both == pytest.approx(float(stats.t.isf(0.025, 48)) * sqrt(0.01 / 2))


def test_variances_of_cells_come_back() -> None:
    """Mean of the estimates over 60 simulated contrasts of 4 seeds; each is unbiased."""
    rng, levels = np.random.default_rng(2), np.repeat(np.arange(5), 60)
    given = Variances(0.05**2, 0.08, 0.15)
    found = variances((simulated(rng, 4, 60, given), levels) for _ in range(60))
    assert (found.question, found.both) == pytest.approx((0.08, 0.15), rel=0.05)
    assert sqrt(found.seed) == pytest.approx(0.05, rel=0.15)


def test_questions_needed_are_the_fewest() -> None:
    n = questions_needed(5, 5, CELLS, 0.05)
    assert n is not None
    assert half_width([n] * 5, 5, CELLS) <= 0.05 < half_width([n - 1] * 5, 5, CELLS)
    assert questions_needed(5, 8, CELLS, 0.05) < n  # type: ignore[operator]
    # seeds that differ by 2 pp: three of them cannot give less than about 4.3 x 2 / sqrt(3) = 5 pp, less a tenth
    assert questions_needed(5, 3, CELLS, 0.04) is None


def test_comparisons_of_a_study_with_more_at_the_largest_size() -> None:
    """Across sizes the 40 questions and three seeds that all have; at N = 1,920 its own 100 and five."""
    asked = {"60": (40,) * 5, "240": (40,) * 5, "1920": (100,) * 5}
    found = {one.claims: one for one in comparisons(SPEC, asked, assumed())}
    assert (found["P1b"].n_seeds, found["P1b"].n_by_level) == (3, (40,) * 5)
    assert (found["R1, R2, R6, U1"].n_seeds, found["R1, R2, R6, U1"].n_by_level) == (5, (100,) * 5)
    given = assumed()
    assert found["P1b"].half_width == half_width([40] * 5, 3, given.cells)
    assert found["P2d"].half_width == half_width([100], 5, given.cells)
    assert found["P2b"].of.seed == 2 * given.cells.seed
    # slope over levels 0 to 4, from end to end: weights -.8, -.4, 0, .4, .8, whose squares sum to 1.6
    assert found["R4"].of.both == pytest.approx(1.6 * given.restored.both)
    assert found["U2"].of.both == pytest.approx(given.restored.both / 5)


def test_what_a_dry_run_says() -> None:
    asked = {"60": (40,) * 5, "240": (40,) * 5, "1920": (100, 100, 100, 100, 97)}
    said = {row["claims"]: row for row in precision(SPEC, asked, assumed())["claims"]}
    assert said["P1b"]["decides"] == said["R1, R2, R6, U1"]["decides"] == "no: fewer than 100 questions"
    full = precision(SPEC, {**asked, "1920": (100,) * 5}, assumed())
    rows = {row["claims"]: row for row in full["claims"]}
    assert rows["R1, R2, R6, U1"]["decides"] == "yes"
    assert (full["margin_pp"], full["counted"]) == (2.0, True)
    assert {row["seeds"] for row in full["needed"] if row["claims"] == "P1b"} == {3, 5, 8, 12}
    before = precision(SPEC, {}, assumed())  # mastery is not known: as many as the study asks for
    assert not before["counted"]
    assert before["claims"][1]["per_level"] == 40 and before["claims"][4]["per_level"] == 100
    every = precision(SPEC.but(questions=QuestionSpec(), per_level_by_size={}), {}, assumed())
    assert every["claims"][0]["half_width_pp"] is None
    assert every["claims"][0]["decides"] == "not known before mastery"
    without = SPEC.but(sizes=(60, 240), per_level_by_size={}, seeds_by_size={}, rule=Rule())
    assert precision(without, {}, assumed())["claims"][1]["decides"] == "no: not run"


def test_variances_of_earlier_cells() -> None:
    """The made-up world: right where u + e < accuracy with e of sd .02, so that of two seeds' answers to questions that
    lie far from the accuracy none differs, and restoring moves what lies between."""
    study = Study(make(mean_of, levels=("0", "2"), sizes=("1920",), ks=(0.0, 20.0)))
    found = measured(study, "study x")
    assert found is not None
    right = [study.grid().row(cell, seed, which) for cell, seed, which in every_state(study)]
    assert found.accuracy == pytest.approx(np.mean(right))
    assert found.seed_sd < 0.01 and found.cells.question > found.cells.both > 0
    assert "study x" in found.source
    one_seed = make(mean_of, levels=("0", "2"), sizes=("1920",), seeds=(3,), ks=(0.0, 20.0))
    assert measured(Study(one_seed), "x") is None
    assert replace(found, source="") != assumed()


def every_state(study: Study):  # type: ignore[no-untyped-def]
    from sftknow_core.analysis.grid import TUNED

    return [(cell, seed, TUNED) for cell in study.grid().cells() for seed in (3, 4, 5)]
