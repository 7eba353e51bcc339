"""How well a model masters a fact: counts of right completions -> R, its interval, a level from 0 to 4.

R = right completions / completions (Ye et al. 2025, section 3.1). Level 0: R = 0; level i in 1..4: R in
((i - 1) / 4, i / 4]. Templates differ a lot, so the interval of R comes from the means of the templates (t
interval, clipped to [0, 1]) and not from their samples as if those were independent draws.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from sftknow_core.errors import SpecError
from sftknow_core.stats.intervals import t_interval

N_LEVELS = 5
BOUNDARIES = (0.25, 0.5, 0.75)
"""Upper ends of levels 1 to 3. The step from 0 to above 0 is judged by expected mastery instead."""


@dataclass(frozen=True)
class Mastery:
    """The mastery of one fact."""

    n_correct: int
    n_total: int
    r: float
    """n_correct / n_total."""
    r_low: float | None
    """95% interval of R over templates; None with fewer than two templates."""
    r_high: float | None
    level: int
    borderline: bool | None
    """Whether the interval holds values of two levels; None without an interval."""


def level_of(n_correct: int, n_total: int) -> int:
    """0 when nothing was right, else ceil(4 n_correct / n_total), in whole numbers. Raises SpecError."""
    if n_total < 1 or not 0 <= n_correct <= n_total:
        raise SpecError(f"level: got {n_correct} right of {n_total}; allowed: 0 <= right <= n and n >= 1")
    return -(-4 * n_correct // n_total)


def level_of_expected(expected: float, n_total: int) -> int:
    """The level of an expected mastery: 0 up to one completion in n_total, then by the same boundaries."""
    return 0 if expected <= 1 / n_total else sum(expected > boundary for boundary in (0.0, *BOUNDARIES))


def mastery_of(n_correct: Sequence[int], n_samples: int) -> Mastery:
    """From the right completions of each template, n_samples completions a template."""
    total, n_total = sum(n_correct), n_samples * len(n_correct)
    level = level_of(total, n_total)
    interval = t_interval((np.asarray(n_correct) / n_samples).tolist(), clip=(0.0, 1.0))
    return Mastery(
        n_correct=total,
        n_total=n_total,
        r=total / n_total,
        r_low=interval.low,
        r_high=interval.high,
        level=level,
        borderline=is_borderline(interval.low, interval.high),
    )


def is_borderline(low: float | None, high: float | None) -> bool | None:
    """Whether [low, high] crosses a boundary b: low <= b < high, as b itself belongs to the level below."""
    if low is None or high is None:
        return None
    return any(low <= boundary < high for boundary in BOUNDARIES)


# How far mastery can be trusted: sampled against expected, and half of the templates against the other.
#
# Both take rows of the tables `mastery` and `mastery_templates`; facts that were not scored are left out.


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
