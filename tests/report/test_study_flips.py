"""Flips by run and level against statsmodels, and the churn between seeds by hand."""

import numpy as np
import pytest
from fake_study import make
from statsmodels.stats.contingency_tables import mcnemar

from sftknow_core.report.study_context import Study
from sftknow_core.report.study_flips import COLUMNS, flips, seed_churn
from sftknow_core.report.study_grid import CHOSEN, TUNED, Cell


def accuracy(level, size, k, test, strategy):
    return 0.5 + (0.1 if k else 0) - 0.02 * test


@pytest.fixture(scope="module")
def study():
    return Study(make(accuracy, levels=("2",), sizes=("60",), per_level=60, ks=(0.0, 20.0)))


def test_flips_are_mcnemars_by_run_and_level(study):
    """About 0.1 of 60 questions change from wrong to right, none back."""
    table = flips(study)
    assert list(table.columns) == COLUMNS
    assert len(table) == 3 * 5
    assert set(table["n_gained"]) <= {4, 5, 6, 7, 8}
    assert (table["n_lost"] == 0).all()
    row = table.iloc[0]
    grid = study.grid()
    at = grid.levels == row["test_level"]
    was, now = (grid.row(Cell("2", "60"), row["seed"], which)[at] for which in (TUNED, CHOSEN))
    counts = [[np.sum((was == a) & (now == b)) for b in (1, 0)] for a in (1, 0)]
    assert row["p"] == pytest.approx(mcnemar(counts, exact=True).pvalue)
    assert (table["p_holm"] >= table["p"]).all()


def test_churn_is_what_two_seeds_disagree_on(study):
    found = seed_churn(study)
    assert len(found) == 5
    grid = study.grid()
    rows = [grid.row(Cell("2", "60"), seed, TUNED)[grid.levels == 0] for seed in (3, 4, 5)]
    expected = [np.mean(rows[a] != rows[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert found["churn"].iloc[0] == pytest.approx(np.mean(expected))


def test_one_seed_has_no_churn():
    assert seed_churn(Study(make(accuracy, levels=("2",), sizes=("60",), seeds=(3,), per_level=20))).empty
