"""Turns "k percent of a region by a strategy" into an exact plan: one key, and how many ties to take.

    plans = select(pair, Region("transformer"), "top", ["1", "5", "20"])

All plans of one call share the passes. A plan holds no weights and no indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from sftknow_core.errors import SpecError
from sftknow_core.model.io.tensors import TensorMeta
from sftknow_core.update.delta import Delta
from sftknow_core.update.pair import Pair, Progress, Span
from sftknow_core.update.ranking import Counts, Cut, LowCounter, boundary_bin, histogram, refine
from sftknow_core.update.region import Region, in_block
from sftknow_core.update.scores import MAX_BITS, value_of
from sftknow_core.update.spec import Number, RestoreSpec, count_for, percent
from sftknow_core.update.strategies import STRATEGIES, Order, order_of

__all__ = ["Plan", "Region", "count_for", "plan_for", "plans_for", "select"]


@dataclass(frozen=True)
class Plan:
    """What `restore` does to a region."""

    spec: RestoreSpec
    metas: tuple[TensorMeta, ...]
    """The region's tensors in canonical order."""
    n_region: int
    n_restored: int | None
    """Weights it takes back; None for interpolation, which moves all."""
    cut: Cut | None = None
    """Of strategies that select single weights."""
    order: Order | None = None
    n_equal: int = 0
    """Keys equal to the cut's, taken or not."""
    zeros_hide: bool = False
    """Whether a weight can score 0 and yet differ: 0.0 that became -0.0."""
    whole: frozenset[str] = frozenset()
    """Tensors that block strategies restore."""
    all_reverted_at: int | None = None
    """Number of weights after which every changed one is restored; None where that is only at the very
    end."""

    @property
    def threshold(self) -> float | None:
        """The score of the last weight taken; None where no score ranks or nothing is taken."""
        if self.cut is None or not self.n_restored or self.order is None or self.order.score is None:
            return None
        return value_of(MAX_BITS - self.cut.key if self.order.highest_first else self.cut.key)

    @property
    def no_more_changes_from_k(self) -> Decimal | None:
        """Smallest k in percent (4 places) that takes back every change; more k restores nothing more."""
        if self.all_reverted_at is None:
            return None
        return Decimal(-(-self.all_reverted_at * 1_000_000 // self.n_region)) / 10_000


def select(
    pair: Pair,
    region: Region,
    strategy: str,
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
    region.resolve(pair.metas)
    return plans_for(pair, specs, delta=delta, progress=progress)


def plan_for(
    pair: Pair, spec: RestoreSpec, *, delta: Delta | None = None, progress: Progress | None = None
) -> Plan:
    """The plan of one spec."""
    return plans_for(pair, [spec], delta=delta, progress=progress)[0]


def plans_for(
    pair: Pair,
    specs: Sequence[RestoreSpec],
    *,
    delta: Delta | None = None,
    progress: Progress | None = None,
) -> list[Plan]:
    """The plans of several specs of any kind, refined in one pass together."""
    groups: dict[tuple[object, ...], _Group] = {}
    plans: dict[RestoreSpec, Plan] = {}
    for spec in dict.fromkeys(specs):
        metas = Region(spec.region, spec.layers).resolve(pair.metas)
        n_region = sum(meta.numel for meta in metas)
        if spec.k_percent is None:
            plans[spec] = _plan_without_cut(spec, metas, n_region)
            continue
        key = (spec.strategy, spec.region, spec.layers, spec.seed)
        if key not in groups:
            order = order_of(spec.strategy, pair, metas, spec.seed)
            counts = _counts_from(delta, order, metas)
            counts = histogram(pair, metas, order, progress) if counts is None else counts
            groups[key] = _Group(metas, n_region, order, counts)
        groups[key].specs.append(spec)
    for group in groups.values():
        group.prepare()
    _second_pass(pair, list(groups.values()), progress)
    for group in groups.values():
        plans |= group.plans(pair)
    return [plans[spec] for spec in specs]


def _plan_without_cut(spec: RestoreSpec, metas: tuple[TensorMeta, ...], n_region: int) -> Plan:
    if spec.block is None:
        return Plan(spec, metas, n_region, None)
    region, block = ({meta.name for meta in some} for some in (metas, in_block(metas, spec.block)))
    whole = frozenset(STRATEGIES.get(spec.strategy).function(region, block))
    return Plan(spec, metas, n_region, sum(m.numel for m in metas if m.name in whole), whole=whole)


def _spec(region: Region, strategy: str, k: Number, seed: int | None) -> RestoreSpec:
    if (takes := STRATEGIES.get(strategy).takes) != "k_percent":
        raise SpecError(f"strategy {strategy} takes {takes}, not k; use plan_for with a RestoreSpec")
    return RestoreSpec(strategy, region.name, region.layers, percent(k), None, seed)


def _counts_from(delta: Delta | None, order: Order, metas: Sequence[TensorMeta]) -> Counts | None:
    """The first pass, read off the cube; highest first reverses the bins."""
    if delta is None or order.score is None:
        return None
    counts = delta.histogram(metas, order.score)
    return counts[::-1].copy() if order.highest_first else counts


@dataclass
class _Group:
    """Specs that differ in k only."""

    metas: tuple[TensorMeta, ...]
    n_region: int
    order: Order
    counts: Counts
    specs: list[RestoreSpec] = field(default_factory=list)

    def prepare(self) -> None:
        """Choose the bins to look into."""
        self.wanted = [count_for(self.n_region, spec.k_percent or 0) for spec in self.specs]
        self.low = LowCounter(self.order, [boundary_bin(self.counts, n) for n in self.wanted if n])

    def plans(self, pair: Pair) -> dict[RestoreSpec, Plan]:
        """The plans, when the second pass is done."""
        ranks = self.order.score is not None
        hidden = ranks and self.low.n_changed > self.n_region - self.low.n_zeros
        reverted_at = self.low.n_changed if ranks and self.order.highest_first else None
        if hidden and reverted_at is not None:
            reverted_at = _last_changed(pair, self.metas, self.order, self.n_region - self.low.n_zeros)
        plans = {}
        for spec, n in zip(self.specs, self.wanted, strict=True):
            cut, n_equal = refine(self.counts, self.low, n)
            plans[spec] = Plan(
                spec, self.metas, self.n_region, n, cut, self.order, n_equal, hidden, frozenset(), reverted_at
            )
        return plans


def _second_pass(pair: Pair, groups: Sequence[_Group], progress: Progress | None) -> None:
    """Fill the groups' counters of low bits."""
    concerned: dict[str, list[_Group]] = {}
    for group in groups:
        for meta in group.metas:
            concerned.setdefault(meta.name, []).append(group)

    def work(span: Span) -> None:
        concerns = concerned[span.meta.name]
        for chunk in pair.chunks_in(span, compiled=all(g.order.score is not None for g in concerns)):
            for group in concerns:
                group.low.add(chunk)

    spans = pair.spans(meta for meta in pair.metas if meta.name in concerned)
    for _ in pair.map(work, spans, progress=progress):
        pass


def _last_changed(pair: Pair, metas: Sequence[TensorMeta], order: Order, n_moved: int) -> int:
    """How many weights stand, highest first, up to the last changed one, when a change hides among zeros.

    Every score above 0 is a change (`n_moved`). Then come the zeros in canonical order, and 0.0 that became
    -0.0 is one of them: rare, so this pass is as simple as it is slow.
    """
    n_zeros = last = 0
    for chunk in pair.chunks(metas):
        zeros = order.keys(chunk) == MAX_BITS
        hidden = (zeros & chunk.changed).nonzero().view(-1)
        if hidden.numel():
            last = n_zeros + int(zeros[: int(hidden[-1]) + 1].sum())
        n_zeros += int(zeros.sum())
    return n_moved + last
