"""Turns "k percent of a region by a strategy" into an exact plan: one key, and how many ties to take.

    plans = select(pair, Region("transformer"), Strategy.TOP, ["1", "5", "20"])

All k of one call share the passes. A plan holds no weights and no indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sftknow_core.errors import SpecError
from sftknow_core.model.tensors import TensorMeta
from sftknow_core.update.delta import Delta
from sftknow_core.update.pair import Pair, Progress
from sftknow_core.update.ranking import Counts, Cut, LowCounter, boundary_bin, histogram, refine
from sftknow_core.update.region import Region
from sftknow_core.update.scores import MAX_BITS, value_of
from sftknow_core.update.spec import Number, RestoreSpec, Strategy, count_for, percent
from sftknow_core.update.strategies import HIGHEST_FIRST, SCORE_OF, Keys, order_of

__all__ = ["Plan", "Region", "Strategy", "count_for", "plan_for", "select"]


@dataclass(frozen=True)
class Plan:
    """What `restore` does to a region."""

    spec: RestoreSpec
    metas: tuple[TensorMeta, ...]
    """The region's tensors in canonical order."""
    n_region: int
    n_restored: int | None
    """Weights the cut takes; None for interpolation, which moves all."""
    cut: Cut | None
    keys: Keys | None
    all_reverted_at: int | None
    """Number of weights after which every changed one is restored; None where that is only at the very
    end."""

    @property
    def threshold(self) -> float | None:
        """The score of the last weight taken; None where no score ranks or nothing is taken."""
        if self.cut is None or not self.n_restored or self.spec.strategy not in SCORE_OF:
            return None
        highest_first = self.spec.strategy in HIGHEST_FIRST
        return value_of(MAX_BITS - self.cut.key if highest_first else self.cut.key)

    @property
    def no_more_changes_from_k(self) -> Decimal | None:
        """Smallest k in percent (4 places) that takes back every change; more k restores nothing more."""
        if self.all_reverted_at is None:
            return None
        return Decimal(-(-self.all_reverted_at * 1_000_000 // self.n_region)) / 10_000


def select(
    pair: Pair,
    region: Region,
    strategy: Strategy | str,
    ks: Sequence[Number],
    *,
    seed: int | None = None,
    delta: Delta | None = None,
    progress: Progress | None = None,
) -> list[Plan]:
    """Plans for every k of `ks` (percent), exact whatever the ties.

    `delta`, the pair's change statistics, saves the first pass for strategies that rank by a score. Raises
    SpecError (strategy, k, empty region) and ModelError (NaN, infinity).
    """
    specs = [_spec(region, strategy, k, seed) for k in ks]
    metas = region.resolve(pair.metas)
    if not specs:
        return []
    first = specs[0]
    keys = order_of(first.strategy, pair, metas, first.seed)
    counts = _counts_from(delta, first.strategy, metas)
    if counts is None:
        counts = histogram(pair, metas, keys, progress)
    n_region = sum(meta.numel for meta in metas)
    wanted = [count_for(n_region, k) for k in ks]
    low = LowCounter([boundary_bin(counts, n) for n in wanted if n])
    reverted_at = _second_pass(pair, metas, keys, low, first.strategy in HIGHEST_FIRST, progress)
    return [
        Plan(spec, metas, n_region, n, refine(counts, low, n), keys, reverted_at)
        for spec, n in zip(specs, wanted, strict=True)
    ]


def plan_for(
    pair: Pair, spec: RestoreSpec, *, delta: Delta | None = None, progress: Progress | None = None
) -> Plan:
    """The plan of one spec, interpolation included."""
    region = Region(spec.region, spec.layers)
    if spec.k_percent is not None:
        return select(
            pair, region, spec.strategy, [spec.k_percent], seed=spec.seed, delta=delta, progress=progress
        )[0]
    metas = region.resolve(pair.metas)
    return Plan(spec, metas, sum(meta.numel for meta in metas), None, None, None, None)


def _spec(region: Region, strategy: Strategy | str, k: Number, seed: int | None) -> RestoreSpec:
    if strategy == Strategy.INTERPOLATION:
        raise SpecError("strategy interpolation takes alpha, not k; use plan_for with a RestoreSpec")
    return RestoreSpec(Strategy(strategy), region.name, region.layers, percent(k), None, seed)


def _counts_from(delta: Delta | None, strategy: Strategy, metas: Sequence[TensorMeta]) -> Counts | None:
    """The first pass, read off the cube; highest first reverses the bins."""
    if delta is None or strategy not in SCORE_OF:
        return None
    counts = delta.histogram(metas, SCORE_OF[strategy])
    return counts[::-1].copy() if strategy in HIGHEST_FIRST else counts


def _second_pass(
    pair: Pair,
    metas: Sequence[TensorMeta],
    keys: Keys,
    low: LowCounter,
    highest_first: bool,
    progress: Progress | None,
) -> int | None:
    """Fill `low`; for highest first also count how many weights stand up to the last changed one.

    Every score above 0 is a change. Among the zeros at the end a change can hide too: 0.0 that became -0.0.
    """
    n_moved = n_zeros = last_changed_zero = 0
    for chunk in pair.chunks(metas, progress=progress):
        found = keys(chunk)
        low.add(found)
        if highest_first:
            zeros = found == MAX_BITS
            hidden = zeros & chunk.changed
            if hidden.any():
                last = int(hidden.nonzero()[-1])
                last_changed_zero = n_zeros + int(zeros[: last + 1].sum())
            n_zeros_here = int(zeros.sum())
            n_zeros += n_zeros_here
            n_moved += found.numel() - n_zeros_here
    return n_moved + last_changed_zero if highest_first else None
