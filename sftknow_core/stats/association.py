"""Do two measures go together? Over runs (Spearman), and within a question from run to run (conditional logit).

The conditional logit compares the runs in which a question was answered rightly with those in which it was not, so
whatever is fixed about the question drops out (Chamberlain 1980). Its likelihood for question q with m_q right runs is
exp(beta sum_right x) / e_m(exp(beta x)), e_m the elementary symmetric polynomial; statsmodels' ConditionalLogit gives
the same (tests), but takes seconds a fit, and the standard error here needs one fit a run left out.
"""

from __future__ import annotations

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


def spearman(x: ArrayLike, y: ArrayLike) -> Association:
    """Rank correlation over runs with the interval of Bonett and Wright (2000): atanh(r) +- 1.96 se,
    se^2 = (1 + r^2 / 2) / (n - 3). Raises SpecError with fewer than five runs or a measure that never varies.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < MIN_RUNS or not (np.ptp(a) and np.ptp(b)):
        raise SpecError(f"spearman: got {a.shape} and {b.shape}; needs {MIN_RUNS} pairs, and both must vary")
    found = stats.spearmanr(a, b)
    value = float(found.statistic)
    inner = min(max(value, -1 + 1e-9), 1 - 1e-9)
    half = float(stats.norm.isf(0.025)) * sqrt((1 + inner**2 / 2) / (len(a) - 3))
    low, high = np.tanh(np.arctanh(inner) + np.array([-half, half]))
    return Association(value, float(low), float(high), float(found.pvalue), len(a))


def conditional_logit(right: ArrayLike, x: ArrayLike) -> Association:
    """Change of the log-odds of a right answer per unit of x, within questions: right, x [runs, questions].

    Standard error by leaving out one run at a time (jackknife), since what happens to a run happens to all its
    questions; t interval with runs - 1 degrees of freedom. Raises SpecError with fewer than five runs, or when no
    question is right in some runs and wrong in others while x varies.
    """
    y, values = np.asarray(right, dtype=bool), np.asarray(x, dtype=np.float64)
    if y.ndim != 2 or y.shape != values.shape or len(y) < MIN_RUNS:
        raise SpecError(
            f"conditional_logit: got {y.shape} and {values.shape}; needs [runs >= {MIN_RUNS}, questions]"
        )
    beta = _fit(y, values)
    n_runs = len(y)
    left_out = np.array([_fit(np.delete(y, run, 0), np.delete(values, run, 0)) for run in range(n_runs)])
    se = sqrt((n_runs - 1) / n_runs * float(((left_out - left_out.mean()) ** 2).sum()))
    half = float(stats.t.isf(0.025, n_runs - 1)) * se
    p_value = 2 * float(stats.t.sf(abs(beta) / se, n_runs - 1)) if se else float(beta == 0)
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
