"""Which of several cells is best, and how far apart they lie: bootstraps and permutations of runs.

Notation: C cells, S seeds, Q questions; `right` is [C, S, Q], the same questions for all; `a` is [C, S], one
level-balanced accuracy a run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sftknow_core.errors import SpecError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bootstrapped:
    """How often each cell had the highest level-balanced accuracy, and its lead over the best of the others."""

    shares: tuple[float, ...]
    """By cell; they sum to 1. Ties share."""
    leads: tuple[float, ...]
    """A(cell) - the highest A among the others, as observed."""
    low: tuple[float, ...]
    """`tail` quantile of the lead over the draws, 2.5% unless asked otherwise (percentile interval)."""
    high: tuple[float, ...]


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


def bootstrap_best(
    right: ArrayLike, levels: ArrayLike, *, n_draws: int = 1_000, seed: int = 0, tail: float = 0.025
) -> Bootstrapped:
    """Resample seeds, and questions within their level, jointly for all cells (so the pairing stays).

    right: [C >= 2, S, Q] right or not; tail: share of the draws beyond either end of a lead.
    Raises SpecError on other shapes.
    """
    table, at = np.asarray(right, dtype=np.float64), np.asarray(levels, dtype=np.int64)
    if table.ndim != 3 or len(table) < 2:
        raise SpecError(f"bootstrap_best: got {table.shape}; needs [cells >= 2, seeds, questions]")
    rng = np.random.default_rng(seed)
    n_seeds = table.shape[1]
    groups = [np.flatnonzero(at == value) for value in np.unique(at)]
    drawn = np.zeros((n_draws, len(table)))
    for number in range(n_draws):
        seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds)) / n_seeds
        weights = np.zeros(len(at))
        for group in groups:
            weights[group] = rng.multinomial(len(group), np.full(len(group), 1 / len(group))) / len(group)
        drawn[number] = np.einsum("csq,s,q->c", table, seeds, weights / len(groups))
    best = np.isclose(drawn, drawn.max(axis=1, keepdims=True), atol=1e-12)
    leads = _leads(drawn)
    ends = np.quantile(leads, [tail, 1 - tail], axis=0)
    observed = level_means(table, at).mean(axis=(1, 2))
    return Bootstrapped(
        shares=_floats((best / best.sum(axis=1, keepdims=True)).mean(axis=0)),
        leads=_floats(_leads(observed[None])[0]),
        low=_floats(ends[0]),
        high=_floats(ends[1]),
    )


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


def question_variance(right: ArrayLike, levels: ArrayLike, weights: ArrayLike, seed: int = 0) -> float:
    """Variance, over draws of the questions, of sum_g weights[g] * spread of group g, seeds averaged.

    right: [G, C, S, Q]; spread of a group and a seed: largest minus smallest level-balanced accuracy over its C
    cells. 400 bootstrap draws of the questions within their level, the same for all groups, cells and seeds.
    """
    table, at = np.asarray(right, dtype=np.float64), np.asarray(levels, dtype=np.int64)
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(at == value) for value in np.unique(at)]
    drawn = []
    for _ in range(400):
        of_question = np.zeros(len(at))
        for group in groups:
            counts = rng.multinomial(len(group), np.full(len(group), 1 / len(group)))
            of_question[group] = counts / len(group) / len(groups)
        spreads = np.ptp(table @ of_question, axis=1).mean(axis=1)
        drawn.append(float(spreads @ np.asarray(weights, dtype=np.float64)))
    return float(np.var(drawn, ddof=1))


def _leads(values: Array) -> Array:
    """[n, C] -> each cell's lead over the highest of the others."""
    ordered = np.sort(values, axis=1)
    first, second = ordered[:, -1:], ordered[:, -2:-1]
    leads: Array = np.where(values == first, values - second, values - first)
    return leads


def _floats(values: Array) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
