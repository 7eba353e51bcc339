"""Do two measures go together? Over runs (Spearman), and within a question from run to run (conditional logit).

Runs that share a cell (the seeds of one level and size) are alike, so they are no independent runs: where `groups` say
so, standard errors come from leaving out one group at a time (the jackknife of clusters), not one run.

The conditional logit compares the runs in which a question was answered rightly with those in which it was not, so
whatever is fixed about the question drops out (Chamberlain 1980). Its likelihood for question q with m_q right runs is
exp(beta sum_right x) / e_m(exp(beta x)), e_m the elementary symmetric polynomial; statsmodels' ConditionalLogit gives
the same (tests), but takes seconds a fit, and the standard error here needs one fit a run left out.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sftknow_core.errors import SpecError

Array = NDArray[np.float64]
MIN_RUNS = 5
_LARGEST = 15.0


@dataclass(frozen=True)
class Association:
    """A coefficient with its 95% interval."""

    value: float
    low: float
    high: float
    p_value: float
    n: int
    """Runs (rank correlation), or questions that changed from run to run (conditional logit)."""


def spearman(x: ArrayLike, y: ArrayLike, groups: Sequence[Hashable] | None = None) -> Association:
    """Rank correlation over runs with the interval of Bonett and Wright (2000): atanh(r) +- 1.96 se,
    se^2 = (1 + r^2 / 2) / (n - 3).

    groups: the group of each run. Then se is the jackknife's over G groups where that is larger, with the t quantile
    of G - 1 for interval and p. Raises SpecError with fewer than five runs or groups, or a measure that never varies.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < MIN_RUNS or not (np.ptp(a) and np.ptp(b)):
        raise SpecError(f"spearman: got {a.shape} and {b.shape}; needs {MIN_RUNS} pairs, and both must vary")
    found = stats.spearmanr(a, b)
    value = float(found.statistic)
    inner = min(max(value, -1 + 1e-9), 1 - 1e-9)
    se, quantile, p_value = (
        sqrt((1 + inner**2 / 2) / (len(a) - 3)),
        float(stats.norm.isf(0.025)),
        found.pvalue,
    )
    if groups is not None:
        members = _members(groups, len(a))
        # groups that happen to agree make nothing surer than independent runs would
        se = max(se, _jackknife([_rank_z(np.delete(a, own), np.delete(b, own)) for own in members]))
        df = len(members) - 1
        quantile, p_value = float(stats.t.isf(0.025, df)), 2 * stats.t.sf(abs(np.arctanh(inner)) / se, df)
    low, high = np.tanh(np.arctanh(inner) + quantile * se * np.array([-1, 1]))
    return Association(value, float(low), float(high), float(p_value), len(a))


def _rank_z(a: Array, b: Array) -> float:
    """atanh of the rank correlation; 0 where a measure does not vary."""
    if not (np.ptp(a) and np.ptp(b)):
        return 0.0
    return float(np.arctanh(np.clip(stats.spearmanr(a, b).statistic, -1 + 1e-9, 1 - 1e-9)))


def _members(groups: Sequence[Hashable], n_runs: int) -> list[list[int]]:
    """Runs of each group. Raises SpecError with fewer than five groups."""
    of = list(groups)
    names = list(dict.fromkeys(of))
    if len(of) != n_runs or len(names) < MIN_RUNS:
        raise SpecError(
            f"association: got {len(of)} runs in {len(names)} cells, for {n_runs} values; needs {MIN_RUNS} cells"
        )
    return [[run for run, group in enumerate(of) if group == name] for name in names]


def _jackknife(left_out: Sequence[float]) -> float:
    """Standard error from the values with one of G groups left out each."""
    values = np.asarray(left_out)
    return sqrt((len(values) - 1) / len(values) * float(((values - values.mean()) ** 2).sum()))


def conditional_logit(
    right: ArrayLike, x: ArrayLike, groups: Sequence[Hashable] | None = None
) -> Association:
    """Change of the log-odds of a right answer per unit of x, within questions: right, x [runs, questions].

    Standard error by leaving out one run at a time (jackknife), since what happens to a run happens to all its
    questions; t interval with runs - 1 degrees of freedom. groups: the group of each run; then a group is left out at
    a time. Raises SpecError with fewer than five runs or groups, or when no question is right in some runs and wrong
    in others while x varies.
    """
    y, values = np.asarray(right, dtype=bool), np.asarray(x, dtype=np.float64)
    if y.ndim != 2 or y.shape != values.shape or len(y) < MIN_RUNS:
        raise SpecError(
            f"conditional_logit: got {y.shape} and {values.shape}; needs [runs >= {MIN_RUNS}, questions]"
        )
    beta = _fit(y, values)
    members = _members(range(len(y)) if groups is None else groups, len(y))
    se = _jackknife([_fit(np.delete(y, own, 0), np.delete(values, own, 0)) for own in members])
    df = len(members) - 1
    half = float(stats.t.isf(0.025, df)) * se
    p_value = 2 * float(stats.t.sf(abs(beta) / se, df)) if se else float(beta == 0)
    changing = int((y.any(axis=0) & ~y.all(axis=0)).sum())
    return Association(beta, beta - half, beta + half, p_value, changing)


def _fit(y: NDArray[np.bool_], x: Array) -> float:
    """beta by Newton's method, in units of x's spread within questions so that the steps are of order one."""
    used = y.any(axis=0) & ~y.all(axis=0) & (np.ptp(x, axis=0) > 0)
    if not used.any():
        raise SpecError(
            "conditional_logit: no question is right in some runs and wrong in others while x varies"
        )
    centred = (x - x.mean(axis=0))[:, used]
    scale = float(centred.std())
    z, right = centred / scale, y[:, used]
    n_right = right.sum(axis=0)
    reached = float((z * right).sum())
    beta = 0.0
    for _ in range(60):
        first, second = _moments(np.exp(beta * z), z, n_right)
        step = (reached - float(first.sum())) / max(float(second.sum()), 1e-9)
        beta = float(np.clip(beta + np.clip(step, -2, 2), -_LARGEST, _LARGEST))
        if abs(step) < 1e-9:
            break
    return beta / scale


def _moments(w: Array, z: Array, m: NDArray[np.int64]) -> tuple[Array, Array]:
    """Mean and variance of the sum of z over the m[q] right runs of question q, given m: each [Q].

    e[k] is the elementary symmetric polynomial of w over the runs seen so far, e1 and e2 its derivatives by beta.
    """
    n_runs, n_questions = w.shape
    e, e1, e2 = (np.zeros((n_runs + 1, n_questions)) for _ in range(3))
    e[0] = 1.0
    for run in range(n_runs):
        wz, wzz = w[run] * z[run], w[run] * z[run] ** 2
        e2[1:] += e2[:-1] * w[run] + 2 * e1[:-1] * wz + e[:-1] * wzz
        e1[1:] += e1[:-1] * w[run] + e[:-1] * wz
        e[1:] += e[:-1] * w[run]
    at = (m, np.arange(n_questions))
    mean = e1[at] / e[at]
    return mean, e2[at] / e[at] - mean**2
