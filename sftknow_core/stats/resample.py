"""How far apart several cells lie: permutations of runs, and an interval of the spread.

Notation: C cells, S seeds, Q questions; `right` is [C, S, Q], the same questions for all; `a` is [C, S], one
level-balanced accuracy a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import hypot, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import studentized_range

from sftknow_core.errors import SpecError
from sftknow_core.stats.contrast import contrast

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Largest minus smallest cell mean, against the same with the cells' labels dealt out again over the runs."""

    value: float
    null_mean: float
    null_low: float
    """2.5% quantile of the permuted spreads."""
    null_high: float
    """97.5% quantile."""
    p_value: float
    """One-sided: (1 + #{permuted >= observed}) / (1 + n_permutations)."""


def level_means(right: ArrayLike, levels: ArrayLike) -> Array:
    """[..., Q] -> [..., L]: the mean over the questions of each level that is present, in increasing level."""
    table, at = np.asarray(right, dtype=np.float64), np.asarray(levels, dtype=np.int64)
    if not at.size or table.shape[-1:] != at.shape:
        raise SpecError(
            f"level_means: got {table.shape} answers and {at.shape} levels; needs the same questions"
        )
    return np.stack([table[..., at == value].mean(axis=-1) for value in np.unique(at)], axis=-1)


def spread_permutation(a: ArrayLike, *, n_permutations: int = 9_999, seed: int = 0) -> Spread:
    """Spread of the cells' means over seeds, a [C >= 2, S]; labels are permuted over all C * S runs.

    Raises SpecError on other shapes.
    """
    table = np.asarray(a, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2:
        raise SpecError(f"spread_permutation: got {table.shape}; needs [cells >= 2, seeds]")
    rng = np.random.default_rng(seed)
    observed = float(np.ptp(table.mean(axis=1)))
    runs = np.tile(table.ravel(), (n_permutations, 1))
    permuted = rng.permuted(runs, axis=1).reshape(n_permutations, *table.shape)
    null = np.ptp(permuted.mean(axis=2), axis=1)
    as_large = int((null >= observed - 1e-12).sum())
    low, high = np.quantile(null, [0.025, 0.975])
    return Spread(
        value=observed,
        null_mean=float(null.mean()),
        null_low=float(low),
        null_high=float(high),
        p_value=(1 + as_large) / (1 + n_permutations),
    )


@dataclass(frozen=True)
class SpreadInterval:
    """Largest minus smallest cell mean, with a 95% interval of the true one."""

    value: float
    low: float
    """Never below 0."""
    high: float
    half: float
    """Half-width before `low` is cut at 0."""


def spread_interval(right: ArrayLike, levels: ArrayLike, alpha: float = 0.05) -> SpreadInterval:
    """Spread of the cells' true level-balanced accuracies, right [C >= 2, S, Q], over seeds and questions.

    All pairs of cells lie within q se of their true differences at once (Tukey), so the largest difference does:
    the studentised range inverted. se^2 is half the mean variance of a pair's paired difference; seeds and questions
    take their own quantile each, as in `contrast`: half^2 = q(C, (C - 1)(S - 1))^2 V_s + q(C, df_q)^2 V_q. It holds the
    true spread in 94 to 99% of simulations, a spread of 0 included; it is conservative, as few pairs are the largest.
    Raises SpecError on other shapes, or when no level has two questions.
    """
    table, at = np.asarray(right, dtype=np.float64), np.asarray(levels, dtype=np.int64)
    if table.ndim != 3 or len(table) < 2:
        raise SpecError(f"spread_interval: got {table.shape}; needs [cells >= 2, seeds, questions]")
    n_cells, n_seeds, _ = table.shape
    pairs = [contrast(one - other, at).spread for one, other in combinations(table, 2)]
    of_questions, of_seeds = (
        float(np.mean([getattr(p, name) for p in pairs])) / 2 for name in ("questions", "seeds")
    )
    df_questions = float(np.mean([pair.df_questions for pair in pairs]))
    half = studentized_range.isf(alpha, n_cells, df_questions) * sqrt(of_questions)
    if n_seeds > 1:
        half = hypot(
            half, studentized_range.isf(alpha, n_cells, (n_cells - 1) * (n_seeds - 1)) * sqrt(of_seeds)
        )
    value = float(np.ptp(level_means(table, at).mean(axis=(1, 2))))
    return SpreadInterval(value, max(0.0, value - float(half)), value + float(half), float(half))
