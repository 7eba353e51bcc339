"""Questions that change sides between two states of one run: exact McNemar by run and level, Holm over all of them.

The only place for McNemar: over runs or over levels it would count the same question, or unlike questions, as one
sample. What two seeds alone disagree on (`seed_churn`) is the floor for reading these numbers.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.grid import CHOSEN, TUNED, Which
from sftknow_core.stats.paired import holm, mcnemar

COLUMNS = ["level", "size", "method", "seed", "test_level", "n", "n_lost", "n_gained", "p", "p_holm"]


def flips(study: Study, before: Which = TUNED, after: Which = CHOSEN, domain: str = "in") -> pd.DataFrame:
    """One row a chain and test level (COLUMNS); chains that lack a state have none. p_holm: over all rows, one family.

    n_lost: right before and wrong after; n_gained: the other way round.
    """
    grid = study.grid(domain)
    rows = []
    for cell in grid.cells():
        was, now = grid.by_seed(cell, before), grid.by_seed(cell, after)
        for seed in sorted(set(was) & set(now)):
            for level in np.unique(grid.levels):
                at = grid.levels == level
                found = mcnemar(was[seed][at] == 1, now[seed][at] == 1)
                counts = (int(at.sum()), found.n_lost, found.n_gained)
                rows.append((*cell, seed, int(level), *counts, found.p_value))
    table = pd.DataFrame(rows, columns=COLUMNS[:-1])
    return table.assign(p_holm=pd.Series(holm(table["p"].tolist()), index=table.index, dtype="float64"))


def seed_churn(study: Study, which: Which = TUNED, domain: str = "in") -> pd.DataFrame:
    """level, size, method, test_level, churn: share of questions on which two seeds disagree, mean over their pairs."""
    grid = study.grid(domain)
    rows = []
    for cell in grid.cells():
        pairs = list(combinations(grid.by_seed(cell, which).values(), 2))
        for level in np.unique(grid.levels) if pairs else ():
            at = grid.levels == level
            rows.append((*cell, int(level), float(np.mean([np.mean(a[at] != b[at]) for a, b in pairs]))))
    return pd.DataFrame(rows, columns=["level", "size", "method", "test_level", "churn"])
