"""How far mastery can be trusted: sampled against expected, and half of the templates against the other.

Both take rows of the tables `mastery` and `mastery_templates`; facts that were not scored are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from sftknow_core.measure.levels import N_LEVELS, level_of, level_of_expected

Confusion = tuple[tuple[int, ...], ...]
"""[5][5] facts: the row is the first level, the column the second."""


@dataclass(frozen=True)
class Agreement:
    """Sampled against expected mastery."""

    n: int
    """Facts with both."""
    spearman: float | None
    """Rank correlation of R and expected mastery; None when one of them is constant."""
    mean_abs_difference: float | None
    """Mean of |R - expected|, 0 to 1; None without facts."""
    confusion: Confusion
    """Sampled level (row) against the level of expected mastery (column)."""


def sampled_against_expected(mastery: Iterable[Mapping[str, Any]]) -> Agreement:
    """From rows of table `mastery`."""
    rows = [row for row in mastery if row["r"] is not None and row["expected_mastery"] is not None]
    sampled = np.array([row["r"] for row in rows])
    expected = np.array([row["expected_mastery"] for row in rows])
    varies = len(rows) > 1 and np.ptp(sampled) > 0 and np.ptp(expected) > 0
    return Agreement(
        n=len(rows),
        spearman=float(stats.spearmanr(sampled, expected).statistic) if varies else None,
        mean_abs_difference=float(np.abs(sampled - expected).mean()) if rows else None,
        confusion=_confusion(
            [row["level"] for row in rows],
            [level_of_expected(row["expected_mastery"], row["n_samples"]) for row in rows],
        ),
    )


def split_half(templates: Iterable[Mapping[str, Any]]) -> Confusion:
    """The level by the even templates (row) against the level by the odd ones (column).

    From rows of table `mastery_templates`. What lies off the diagonal is how often a level is another one for
    the choice of templates alone. Facts with a single template are left out.
    """
    counts: dict[str, dict[int, list[int]]] = defaultdict(lambda: {0: [0, 0], 1: [0, 0]})
    for row in templates:
        half = counts[row["fact_id"]][row["template"] % 2]
        half[0] += row["n_correct"]
        half[1] += row["n_samples"]
    whole = [halves for halves in counts.values() if halves[0][1] and halves[1][1]]
    return _confusion([level_of(*halves[0]) for halves in whole], [level_of(*halves[1]) for halves in whole])


def _confusion(first: Sequence[int], second: Sequence[int]) -> Confusion:
    table = np.zeros((N_LEVELS, N_LEVELS), dtype=int)
    for pair in zip(first, second, strict=True):
        table[pair] += 1
    return tuple(tuple(int(n) for n in row) for row in table)
