"""Flips by run and level against statsmodels, and the churn between seeds by hand."""

import numpy as np
import pandas as pd
import pytest
from fake_study import make, rows
from statsmodels.stats.contingency_tables import mcnemar

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.flips import FLIP_COLUMNS, TEST_COLUMNS, flip_table, flips, seed_churn
from sftknow_core.analysis.grid import CHOSEN, TUNED, Cell, StudyTables
from sftknow_core.analysis.grid import COLUMNS as TABLE_COLUMNS


def accuracy(level, size, k, test, strategy):
    return 0.5 + (0.1 if k else 0) - 0.02 * test


@pytest.fixture(scope="module")
def study():
    return Study(make(accuracy, levels=("2",), sizes=("60",), per_level=60, ks=(0.0, 20.0)))


def test_flips_are_mcnemars_by_run_and_level(study):
    """About 0.1 of 60 questions change from wrong to right, none back."""
    table = flips(study)
    assert list(table.columns) == TEST_COLUMNS
    assert len(table) == 3 * 5
    assert set(table["n_gained"]) <= {4, 5, 6, 7, 8}
    assert (table["n_lost"] == 0).all()
    row = table.iloc[0]
    grid = study.grid()
    at = grid.levels == row["test_level"]
    was, now = (grid.row(Cell("2", "60"), row["seed"], which)[at] for which in (TUNED, CHOSEN))
    counts = [[np.sum((was == a) & (now == b)) for b in (1, 0)] for a in (1, 0)]
    assert row["p"] == pytest.approx(mcnemar(counts, exact=True).pvalue)
    # one family: the smallest p of all 15 rows counts 15 times
    assert table["p_holm"].min() == pytest.approx(15 * table["p"].min())


def test_churn_is_what_two_seeds_disagree_on(study):
    found = seed_churn(study)
    assert len(found) == 5
    grid = study.grid()
    right = [grid.row(Cell("2", "60"), seed, TUNED)[grid.levels == 0] for seed in (3, 4, 5)]
    expected = [np.mean(right[a] != right[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert found["churn"].iloc[0] == pytest.approx(np.mean(expected))


def test_the_table_says_what_lies_beyond_churn():
    """20 questions of one level and three seeds. Tuned: seeds 3 and 4 have the first 10 right, seed 5 the first 12, so
    pairs disagree on 0, 2 and 2 of 20: churn 4 / 60. Restored: all have 16, so 6, 6 and 4 are gained: p = 2 / 2^6,
    2 / 2^6, 2 / 2^4, by Holm 3 / 32, 3 / 32 and 1 / 8. Changed 0.3, 0.3 and 0.2; mean 4 / 15, less 1 / 15 is 0.2."""
    right = {("tuned", 3): 10, ("tuned", 4): 10, ("tuned", 5): 12}
    chains, states, answers = [], [], []
    for seed in (3, 4, 5):
        chains.append((f"c{seed}", "2", "60", 60, seed, "full"))
        states += [(f"c{seed}", "tuned", "tuned", None, 0.0, None, 0.0, 0.0, False)]
        states += [(f"c{seed}", "restored", "restored", "top", 20.0, None, 0.9, 0.5, True)]
        for state in ("tuned", "restored"):
            n = right.get((state, seed), 16)
            answers.append(rows(f"c{seed}", state, "qa", "test", 1, np.arange(20) < n))
    tables = StudyTables(
        pd.DataFrame(chains, columns=list(TABLE_COLUMNS["chains"])),
        pd.DataFrame(states, columns=list(TABLE_COLUMNS["states"])),
        pd.concat(answers, ignore_index=True),
    )
    table = flip_table(Study(tables), "words")
    assert table.frame["n_gained"].tolist() == [6, 6, 4]
    assert table.frame["p_holm"].tolist() == pytest.approx([3 / 32, 3 / 32, 1 / 8])
    assert table.frame["churn"].tolist() == pytest.approx([1 / 15] * 3)
    assert table.frame["beyond_churn"].mean() == pytest.approx(0.2)
    assert table.shown.iloc[0].to_dict() == {
        "domain": "in", "train level": "2", "N": "60", "method": "full", "test level": "1", "questions": "20",
        "seeds": "3, 4, 5", "lost, by seed": "0, 0, 0", "gained, by seed": "6, 6, 4", "p (Holm) < 0.05": "0 of 3",
        "prompt": "zero-shot", "changed": "26.7%", "churn": "6.7%", "beyond churn": "+20.0%",
    }  # fmt: skip
    assert "20 questions a number, 3 seeds a cell, split test, matcher 'words'" in table.caption
    assert "Holm over all 3 tests of a prompt and domain" in table.caption


def test_a_study_that_restored_nothing_has_no_flips():
    tables = make(accuracy, levels=("2",), sizes=("60",), per_level=20, ks=(0.0,))
    table = flip_table(Study(tables), "words")
    assert table.reason == "NOT RUN: no k was chosen on dev"
    assert list(table.frame.columns) == list(FLIP_COLUMNS)


def test_one_seed_has_no_churn():
    assert seed_churn(Study(make(accuracy, levels=("2",), sizes=("60",), seeds=(3,), per_level=20))).empty
