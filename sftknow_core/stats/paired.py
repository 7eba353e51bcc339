"""Two states of a model on the same questions: did the level-balanced accuracy change?

Notation: S seeds, Q questions, L levels present. `before` and `after` are [S, Q] (or [Q] for one seed): right
or not. d[s, q] = after - before in {-1, 0, 1}; d[q] its mean over seeds; D[s] the level-balanced mean of
d[s, :]; the difference reported is the mean of D[s].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sftknow_core.errors import SpecError

Array = NDArray[np.float64]

MIN_QUESTIONS = 2
"""A level with fewer questions has no spread: it is named and left out."""
ROUNDING = 1e-24
"""A variance below this is the rounding of equal differences, and counts as 0."""


@dataclass(frozen=True)
class McNemar:
    """Questions that changed between two states, and the exact two-sided p of "as many lost as gained"."""

    n_lost: int
    n_gained: int
    p_value: float


@dataclass(frozen=True)
class PairedDifference:
    """A(after) - A(before) on the same questions."""

    value: float
    """Difference of the level-balanced accuracies, -1..1."""
    se: float
    """sqrt(s_seed^2 / S + sum_l s_l^2 / (L^2 n_l))."""
    df: float | None
    """Satterthwaite degrees of freedom; None when se is 0."""
    low: float
    high: float
    p_value: float | None
    """Two-sided t test of "no difference"; None when se is 0."""
    n_seeds: int
    n_questions: int
    """Questions in the levels that count."""
    missing_levels: tuple[int, ...]
    """Levels with fewer than two questions, left out."""
    population: str
    """Which population the interval speaks for: "questions" (one seed) or "seeds and questions"."""


@dataclass(frozen=True)
class Permutation:
    """Swap before and after per question: the observed difference and its two-sided p."""

    value: float
    p_value: float
    n_permutations: int


def mcnemar(before: ArrayLike, after: ArrayLike) -> McNemar:
    """Exact McNemar test within one run and one level: before, after [Q] right or not.

    p = P(|X - m/2| >= |n_gained - m/2|), X ~ Binomial(m, 1/2), m = lost + gained; 1 when nothing changed.
    """
    was, now = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if was.ndim != 1 or was.shape != now.shape:
        raise SpecError(f"mcnemar: got shapes {was.shape} and {now.shape}; needs the same questions twice")
    n_lost, n_gained = int((was & ~now).sum()), int((now & ~was).sum())
    changed = n_lost + n_gained
    p_value = float(stats.binomtest(n_gained, changed, 0.5).pvalue) if changed else 1.0
    return McNemar(n_lost=n_lost, n_gained=n_gained, p_value=p_value)


def paired_difference(
    before: ArrayLike, after: ArrayLike, levels: ArrayLike, *, n_levels: int = 5, level: float = 0.95
) -> PairedDifference:
    """Difference of the level-balanced accuracies with a t interval over seeds and questions.

    SE^2 = s_seed^2 / S + sum_l s_l^2 / (L^2 n_l): s_seed is the sd of D[s] over seeds, s_l the sd of d[q]
    over the n_l questions of level l. With one seed the first term is unknown and the interval speaks for
    questions only. What a seed does to single questions is in both terms, so the interval errs to the wide
    side. Raises SpecError on shapes that do not fit or when no level has two questions.
    """
    d, at = _differences(before, after, levels)
    counting = _levels_that_count(at, n_levels)
    n_seeds = d.shape[0]
    by_level = [d[:, at == index] for index in counting]
    per_seed = np.mean([part.mean(axis=1) for part in by_level], axis=0)
    value = float(per_seed.mean())
    se, df = _standard_error(by_level, per_seed)
    half = float(stats.t.ppf(0.5 + level / 2, df)) * se if df is not None else 0.0
    return PairedDifference(
        value=value,
        se=se,
        df=df,
        low=max(-1.0, value - half),
        high=min(1.0, value + half),
        p_value=2 * float(stats.t.sf(abs(value) / se, df)) if df is not None else None,
        n_seeds=n_seeds,
        n_questions=sum(part.shape[1] for part in by_level),
        missing_levels=tuple(index for index in range(n_levels) if index not in counting),
        population="seeds and questions" if n_seeds > 1 else "questions",
    )


def _standard_error(by_level: list[Array], per_seed: Array) -> tuple[float, float | None]:
    """(SE, Satterthwaite df) from d by level, each [S, n_l], and D [S]; df is None when the SE is 0."""
    parts = []
    for d in by_level:
        n_questions = d.shape[1]
        s2 = float(np.var(d.mean(axis=0), ddof=1))
        parts.append((s2 / (len(by_level) ** 2 * n_questions), n_questions - 1))
    if len(per_seed) > 1:
        parts.append((float(np.var(per_seed, ddof=1)) / len(per_seed), len(per_seed) - 1))
    variance = sum(part for part, _ in parts)
    df = variance**2 / sum(part**2 / free for part, free in parts) if variance > ROUNDING else None
    return (sqrt(variance) if df is not None else 0.0), df


def permutation_test(
    before: ArrayLike,
    after: ArrayLike,
    levels: ArrayLike,
    *,
    n_levels: int = 5,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> Permutation:
    """Swap before and after per question, jointly over seeds; statistic: the level-balanced difference.

    Swapping question q turns d[q] into -d[q]. Questions that move the statistic by the same step are drawn
    together (their signs sum to 2 Binomial(n, 1/2) - n), which is exact and takes milliseconds;
    scipy.stats.permutation_test with permutation_type="samples" gives the same. p = (1 + #{|T*| >= |T|}) /
    (1 + n_permutations), so it is never 0 (Phipson and Smyth 2010).
    """
    d, at = _differences(before, after, levels)
    counting = _levels_that_count(at, n_levels)
    weight = np.zeros(at.shape)
    for index in counting:
        weight[at == index] = 1 / (len(counting) * (at == index).sum())
    moves = weight * d.mean(axis=0)
    steps, counts = np.unique(np.abs(moves[moves != 0]), return_counts=True)
    rng = np.random.default_rng(seed)
    flips = 2 * rng.binomial(counts, 0.5, size=(n_permutations, len(counts))) - counts
    drawn = np.abs(flips @ steps)
    observed = float(moves.sum())
    as_large = int((drawn >= abs(observed) - 1e-12).sum())
    return Permutation(observed, (1 + as_large) / (1 + n_permutations), n_permutations)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm-adjusted p values of one declared family, in the order given; None (not tested) stays None."""
    tested = [p for p in p_values if p is not None]
    if not all(0 <= p <= 1 for p in tested):
        raise SpecError(f"holm: got {tested}; p values lie in [0, 1]")
    if not tested:
        return list(p_values)
    # statsmodels' multipletests gives the same (tests), but collects garbage at each call: 0.2 s with models loaded
    order = np.argsort(tested, kind="stable")
    steps = np.asarray(tested)[order] * np.arange(len(tested), 0, -1)
    adjusted = np.empty(len(tested))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    ordered = iter(adjusted)
    return [None if p is None else float(next(ordered)) for p in p_values]


def _differences(before: ArrayLike, after: ArrayLike, levels: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
    """(d [S, Q], levels [Q]), checked."""
    was = np.atleast_2d(np.asarray(before, dtype=np.float64))
    now = np.atleast_2d(np.asarray(after, dtype=np.float64))
    at = np.asarray(levels, dtype=np.int64)
    if was.shape != now.shape or was.ndim != 2 or at.shape != was.shape[1:]:
        raise SpecError(
            f"paired: got before {was.shape}, after {now.shape}, levels {at.shape}; "
            "needs [seeds, questions] twice and [questions], over the same questions in the same order"
        )
    return now - was, at


def _levels_that_count(at: NDArray[np.int64], n_levels: int) -> list[int]:
    if at.size and (at.min() < 0 or at.max() >= n_levels):
        raise SpecError(f"paired: got levels {sorted(set(at.tolist()))}; allowed: 0..{n_levels - 1}")
    counting = [index for index in range(n_levels) if (at == index).sum() >= MIN_QUESTIONS]
    if not counting:
        raise SpecError(f"paired: no level has {MIN_QUESTIONS} questions; a difference needs more questions")
    return counting
