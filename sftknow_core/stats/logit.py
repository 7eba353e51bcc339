"""Two logits with standard errors that are clustered two ways: one with intercepts, one within groups.

    logit              P(y) = 1 / (1 + exp(-x b)),           x with a column of ones or dummies
    conditional_logit  the same with an intercept for every group, which is conditioned away (Chamberlain 1980): of a
                       group only the order of its rows counts, so whatever is fixed in a group has no coefficient

Covariance: H^-1 M H^-1 with M from the scores summed within clusters, V = V_a + V_b - V_both (Cameron, Gelbach and
Miller 2011), each part times G / (G - 1), and never below V_a or V_b alone, since few clusters can make the difference
negative. Intervals and p take Student's t with the smaller number of clusters - 1.

statsmodels gives the same coefficients and one-way covariances (tests); its ConditionalLogit knows no clusters and
takes seconds a fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sftknow_core.errors import SpecError

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
MIN_CLUSTERS = 3
_STEPS, _ENOUGH, _LARGEST = 60, 1e-9, 20.0
_CELLS = 100_000
"""Coefficients of polynomials held at once, for each row of a group."""


@dataclass(frozen=True)
class Coefficient:
    """Change of the log-odds per unit of a column, with its 95% interval."""

    name: str
    value: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Fit:
    """A fitted model."""

    coefficients: tuple[Coefficient, ...]
    n: int
    """Rows that count."""
    n_events: int
    """Of them with y = 1."""
    n_clusters: tuple[int, int]


def logit(y: ArrayLike, x: ArrayLike, names: Sequence[str], clusters: tuple[ArrayLike, ArrayLike]) -> Fit:
    """y [n] 0 or 1, x [n, p] with its intercept, clusters: two of [n].

    Raises SpecError for shapes that do not fit, too few clusters, columns that others make up, or y that a column tells
    without error, where no coefficient is finite.
    """
    right, values = _checked(y, x, names)

    def score(beta: Array) -> Array:
        return np.asarray(values * (right - _expit(values @ beta))[:, None])

    def information(beta: Array) -> Array:
        p = _expit(values @ beta)
        return np.asarray((values * (p * (1 - p))[:, None]).T @ values)

    beta = _solve(score, information, values.shape[1], names)
    return _fitted(beta, score(beta), information(beta), names, right, clusters)


def conditional_logit(
    y: ArrayLike, x: ArrayLike, names: Sequence[str], groups: ArrayLike, clusters: tuple[ArrayLike, ArrayLike]
) -> Fit:
    """As `logit` within groups [n]; those whose rows are all 0 or all 1 tell nothing and do not count."""
    right, values = _checked(y, x, names)
    _, of = np.unique(np.asarray(groups), return_inverse=True)
    events, sizes = np.bincount(of, right), np.bincount(of)
    keep = ((events > 0) & (events < sizes))[of]
    if not keep.any():
        raise SpecError(
            "conditional_logit: no group has rows of both outcomes, so nothing can be told within groups"
        )
    order = np.flatnonzero(keep)[np.argsort(of[keep], kind="stable")]
    right, values = right[order], values[order]
    blocks = _Groups(of[order], right)

    def score(beta: Array) -> Array:
        return np.asarray(values * (right - blocks.chances(values @ beta))[:, None])

    def information(beta: Array) -> Array:
        step = 1e-5
        moved = [
            (score(beta - step * e).sum(axis=0) - score(beta + step * e).sum(axis=0)) / (2 * step)
            for e in np.eye(len(beta))
        ]
        found = np.array(moved)
        return np.asarray((found + found.T) / 2)

    beta = _solve(score, information, values.shape[1], names)
    own = tuple(np.asarray(one)[order] for one in clusters)
    return _fitted(beta, score(beta), information(beta), names, right, (own[0], own[1]))


class _Groups:
    """P(row is an event | so many events in its group), for all groups at once.

    The sum over all choices of m rows is the elementary symmetric polynomial e_m of exp(x b), built up row by row; its
    logarithm's derivative by a row's x b is the row's chance, taken backwards through the same recursion. All terms
    are positive, so nothing cancels.
    """

    def __init__(self, of: Ints, right: Array) -> None:
        _, index, counts = np.unique(of, return_inverse=True, return_counts=True)
        starts = np.cumsum(counts) - counts
        self._group = index
        self._place = np.arange(len(of)) - starts[index]
        self._shape = (int(counts.max()), len(counts))
        self._events = np.bincount(index, right).astype(np.int64)
        # rows lie group by group: so many groups at a time that their polynomials stay small
        most = max(1, _CELLS // (self._shape[0] * (int(self._events.max()) + 1)))
        ends = [*range(0, len(counts), most), len(counts)]
        self._parts: list[_Groups] = []
        if len(ends) > 2:
            at = [int(starts[end]) if end < len(counts) else len(of) for end in ends]
            self._parts = [_Groups(of[a:b], right[a:b]) for a, b in pairwise(at)]
            self._cuts = at[1:-1]

    def chances(self, eta: Array) -> Array:
        """[n], from the linear predictor of each row. Raises SpecError for groups of too many rows."""
        if self._parts:
            parts = zip(self._parts, np.split(eta, self._cuts), strict=True)
            return np.concatenate([part.chances(own) for part, own in parts])
        n_rows, n_groups = self._shape
        largest = np.full(n_groups, -np.inf)
        np.maximum.at(largest, self._group, eta)
        theta = np.zeros((n_rows, n_groups))
        theta[self._place, self._group] = np.exp(eta - largest[self._group])
        most = int(self._events.max())
        kept = np.zeros((n_rows + 1, n_groups, most + 1))
        kept[0, :, 0] = 1.0
        for row in range(n_rows):
            kept[row + 1] = kept[row]
            kept[row + 1, :, 1:] += theta[row][:, None] * kept[row, :, :-1]
        if not np.isfinite(kept[n_rows]).all():
            raise SpecError(f"conditional_logit: a group has {n_rows:,} rows; allowed: about 1,000")
        groups = np.arange(n_groups)
        back = np.zeros((n_groups, most + 1))
        back[groups, self._events] = 1 / kept[n_rows, groups, self._events]
        chance = np.zeros((n_rows, n_groups))
        for row in reversed(range(n_rows)):
            chance[row] = theta[row] * (back[:, 1:] * kept[row, :, :-1]).sum(axis=1)
            back[:, :-1] += theta[row][:, None] * back[:, 1:]
        return np.asarray(chance[self._place, self._group])


def two_way(scores: Array, clusters: tuple[ArrayLike, ArrayLike]) -> tuple[Array, Array, Array]:
    """(M of the first clusters, of the second, of both together), each [p, p] with its G / (G - 1)."""
    first, second = (np.unique(np.asarray(one), return_inverse=True)[1] for one in clusters)
    _, both = np.unique(np.stack([first, second]), axis=1, return_inverse=True)
    return _middle(scores, first), _middle(scores, second), _middle(scores, both)


def _middle(scores: Array, of: Ints) -> Array:
    sums = np.stack([np.bincount(of, column) for column in scores.T], axis=1)
    n = len(sums)
    return np.asarray(sums.T @ sums * (n / (n - 1) if n > 1 else 1.0))


def _fitted(
    beta: Array,
    scores: Array,
    information: Array,
    names: Sequence[str],
    right: Array,
    clusters: tuple[ArrayLike, ArrayLike],
) -> Fit:
    counts = (len(np.unique(np.asarray(clusters[0]))), len(np.unique(np.asarray(clusters[1]))))
    if min(counts) < MIN_CLUSTERS:
        raise SpecError(f"logit: got {counts[0]} and {counts[1]} clusters; needs {MIN_CLUSTERS} of each")
    bread = np.linalg.inv(information)
    a, b, both = (bread @ middle @ bread for middle in two_way(scores, clusters))
    variance = np.maximum.reduce([np.diag(a), np.diag(b), np.diag(a + b - both)])
    df = min(counts) - 1
    quantile = float(stats.t.isf(0.025, df))
    found = []
    for name, value, square in zip(names, beta.tolist(), variance.tolist(), strict=True):
        se = sqrt(square)
        p = 2 * float(stats.t.sf(abs(value) / se, df)) if se else float(value == 0)
        found.append(Coefficient(name, value, value - quantile * se, value + quantile * se, p))
    return Fit(tuple(found), len(right), int(right.sum()), counts)


def _solve(
    score: Callable[[Array], Array], information: Callable[[Array], Array], n: int, names: Sequence[str]
) -> Array:
    """Newton's method from 0, with half steps where the score would grow. Raises SpecError."""
    beta = np.zeros(n)
    gradient = score(beta).sum(axis=0)
    for _ in range(_STEPS):
        matrix = information(beta)
        if np.linalg.matrix_rank(matrix, tol=1e-8 * max(1.0, float(np.abs(matrix).max()))) < n:
            raise SpecError(
                f"logit: the columns {', '.join(names)} make up one another, or one of them never varies"
            )
        step = np.linalg.solve(matrix, gradient)
        size = 1.0
        while size > 1e-4 and np.linalg.norm(score(beta + size * step).sum(axis=0)) > 2 * np.linalg.norm(
            gradient
        ):
            size /= 2
        beta = beta + size * step
        gradient = score(beta).sum(axis=0)
        if np.abs(beta).max() > _LARGEST:
            raise SpecError(
                "logit: some column tells the outcome without error; its coefficient has no finite value"
            )
        if np.abs(step).max() < _ENOUGH:
            return beta
    raise SpecError(
        "logit: the coefficients did not settle; some column may tell the outcome nearly without error"
    )


def _expit(eta: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(eta, -500, 500))))


def _checked(y: ArrayLike, x: ArrayLike, names: Sequence[str]) -> tuple[Array, Array]:
    right, values = np.asarray(y, dtype=np.float64), np.asarray(x, dtype=np.float64)
    if right.ndim != 1 or values.shape != (len(right), len(names)) or not len(right):
        raise SpecError(
            f"logit: got y {right.shape}, x {values.shape}, {len(names)} names; needs [n], [n, names]"
        )
    if not (np.isfinite(values).all() and np.isin(right, (0, 1)).all()):
        raise SpecError("logit: got values that are not finite, or outcomes other than 0 and 1")
    return right, values
