"""Choose how much to restore: on the development questions, never on the test questions.

Rule: the k with the highest in-domain accuracy over a grid that holds 0, then the smallest k whose accuracy
is within one standard error of it (Breiman et al. 1984, the one-standard-error rule).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sftknow_core.errors import SpecError
from sftknow_core.stats.contrast import contrast
from sftknow_core.stats.intervals import Estimate


@dataclass(frozen=True)
class KCandidate:
    """One k of the grid, compared with the best one."""

    k_percent: float
    accuracy: float
    gap: float
    """Accuracy of the best k minus this one, never negative."""
    se: float
    """The standard error the gap is held against."""
    within: bool
    """gap <= se."""


@dataclass(frozen=True)
class KChoice:
    """The chosen k and everything the choice rests on."""

    k_percent: float
    best_k_percent: float
    se_kind: str
    """"paired": SE of the difference on the same questions; "own": the best k's own SE, wider."""
    candidates: tuple[KCandidate, ...]
    """The whole grid, in increasing k."""


def choose_k(
    accuracies: Mapping[float, Estimate],
    right: Mapping[float, ArrayLike] | None = None,
    levels: ArrayLike | None = None,
) -> KChoice:
    """Smallest k within one standard error of the best; k_percent -> accuracy on dev, in-domain.

    right: k_percent -> [questions] or [seeds, questions] right or not, for the same questions in the same
    order, with their levels: then the standard error is that of the paired difference, which is much smaller.
    Without it the best k's own standard error stands in. Of equal accuracies the smaller k is the better one.
    Raises SpecError when the grid does not hold 0, or `right` misses a k or comes without levels.
    """
    grid = sorted(accuracies)
    if 0 not in accuracies:
        raise SpecError(f"choose_k: got the grid {grid}; it must hold 0, so that restoring nothing can win")
    if right is not None and (levels is None or set(right) != set(accuracies)):
        raise SpecError("choose_k: give answers for every k of the grid, with the levels of their questions")
    best = max(grid, key=lambda k: (accuracies[k].value, -k))
    candidates = []
    for k in grid:
        gap = accuracies[best].value - accuracies[k].value
        se = _standard_error(k, best, accuracies, right, levels)
        candidates.append(KCandidate(k, accuracies[k].value, gap, se, gap <= se))
    return KChoice(
        k_percent=next(c.k_percent for c in candidates if c.within),
        best_k_percent=best,
        se_kind="own" if right is None else "paired",
        candidates=tuple(candidates),
    )


def _standard_error(
    k: float,
    best: float,
    accuracies: Mapping[float, Estimate],
    right: Mapping[float, ArrayLike] | None,
    levels: ArrayLike | None,
) -> float:
    if right is None or levels is None:
        return accuracies[best].se
    # without the floor of `contrast`: it is there for intervals, and here would let k = 0 win where little was measured
    change = np.asarray(right[best], dtype=float) - np.asarray(right[k], dtype=float)
    return contrast(change, levels, step=None).se
