"""How concentrated the change is: the share of all relative change that a few weights hold, and where they
sit.

    share(k) = sum of r over the k% weights of largest r / sum of r over the region

(arXiv 2509.16596, its concentration table). r is bounded only by its epsilon, so the share is given for
larger ones too, and beside a null: the same changes d handed out at random among the weights of the same
tensor, r recomputed. What the null already concentrates comes from |p| being small somewhere, not from what
fine-tuning chose to change.

Exact and streamed: two passes, memory for one chunk (for the null: NULL_BLOCK weights, about 400 MB).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import torch
from numpy.typing import NDArray

from sftknow_core.update.delta import Delta
from sftknow_core.update.pair import Chunk, Pair, Progress
from sftknow_core.update.ranking import N_LOW, Counts, LowCounter, boundary_bin
from sftknow_core.update.region import Region
from sftknow_core.update.report import TensorCount
from sftknow_core.update.scores import MAX_BITS, N_BINS, bits, ratio, relative
from sftknow_core.update.spec import Number, count_for, percent

EPSILONS = (1e-8, 1e-6, 1e-4)
"""The reference code's, and two that silence weights near zero."""

NULL_BLOCK = 1 << 23
"""The null permutes within blocks of this many consecutive weights of a tensor: the whole of a smaller
tensor."""


@dataclass(frozen=True)
class ConcentrationPoint:
    """The share of the change in the top k% of a region."""

    k_percent: Decimal
    eps: float
    share: float | None
    """0 to 1; None when nothing changed."""
    null_share: float | None
    """The same with changes permuted within tensors; None when not asked for or nothing changed."""


@dataclass(frozen=True)
class RegionSummary:
    """A region's change in a few numbers, from the statistics of a pair."""

    n: int
    n_changed: int
    sum_r: float
    sum_r_tiny: float
    """From weights with |p| < 1e-6."""
    sum_d2: float
    sum_p2: float

    @property
    def changed_share(self) -> float:
        """Weights whose bits differ, 0 to 1."""
        return self.n_changed / self.n

    @property
    def tiny_share(self) -> float | None:
        """Share of the sum of r from |p| < 1e-6, 0 to 1; None when nothing changed."""
        return self.sum_r_tiny / self.sum_r if self.sum_r else None

    @property
    def relative_norm(self) -> float | None:
        """||s - p|| / ||p||; None for an all-zero region."""
        return float(np.sqrt(self.sum_d2 / self.sum_p2)) if self.sum_p2 else None


@dataclass(frozen=True)
class Enrichment:
    """How often one layer, module or kind is restored, against its size."""

    group: str
    n: int
    n_restored: int
    share: float
    """Of the restored weights, 0 to 1."""
    weight_share: float
    """Of the region's weights, 0 to 1."""

    @property
    def enrichment(self) -> float:
        """share / weight_share: 1 is as often as chance."""
        return self.share / self.weight_share


def summarise(delta: Delta, pair: Pair, region: Region) -> RegionSummary:
    """A region's sums out of the pair's statistics."""
    rows = delta.of(region.resolve(pair.metas))
    return RegionSummary(
        n=sum(t.numel for t in rows),
        n_changed=sum(t.n_changed for t in rows),
        sum_r=sum(t.sum_r for t in rows),
        sum_r_tiny=sum(t.sum_r_tiny for t in rows),
        sum_d2=sum(t.sum_d2 for t in rows),
        sum_p2=sum(t.sum_p2 for t in rows),
    )


def enrichment(tensors: Iterable[TensorCount], by: str) -> list[Enrichment]:
    """Restored weights by "layer", "module" or "kind", in order of first appearance; [] when none is
    restored."""
    sizes: dict[str, int] = defaultdict(int)
    restored: dict[str, int] = defaultdict(int)
    for tensor in tensors:
        group = str({"layer": tensor.layer, "module": tensor.module, "kind": tensor.kind}[by])
        sizes[group] += tensor.numel
        restored[group] += tensor.n_restored
    n, n_restored = sum(sizes.values()), sum(restored.values())
    if not n_restored:
        return []
    return [Enrichment(g, sizes[g], restored[g], restored[g] / n_restored, sizes[g] / n) for g in sizes]


def concentration(
    pair: Pair,
    region: Region,
    ks: Sequence[Number],
    *,
    epsilons: Sequence[float] = EPSILONS,
    null_seed: int | None = 0,
    progress: Progress | None = None,
) -> list[ConcentrationPoint]:
    """Shares for every epsilon and k, in that order; `null_seed` None leaves the null out.

    Raises SpecError (k, empty region) and ModelError (NaN, infinity).
    """
    metas = region.resolve(pair.metas)
    n_region = sum(meta.numel for meta in metas)
    counts = [count_for(n_region, k) for k in ks]
    curves = [_Curve(eps) for eps in epsilons]
    nulls = [_Curve(eps) for eps in epsilons] if null_seed is not None else []
    for n_pass in (1, 2):
        for block in pair.chunks(metas, size=NULL_BLOCK, progress=progress):
            relative(block)  # says which tensor when a weight is not finite
            for curve in curves:
                curve.add(ratio(block.d, block.p, curve.eps), n_pass)
            shuffled = _dealt_out(block, null_seed) if null_seed is not None else block.d
            for curve in nulls:
                curve.add(ratio(shuffled, block.p, curve.eps), n_pass)
        for curve in curves + nulls:
            curve.prepare_second(counts)
    return [
        ConcentrationPoint(percent(k), eps, curves[i].share(n), nulls[i].share(n) if nulls else None)
        for i, eps in enumerate(epsilons)
        for k, n in zip(ks, counts, strict=True)
    ]


def _dealt_out(block: Chunk, seed: int) -> torch.Tensor:
    """The block's changes d in a random order that depends on (seed, tensor, block) alone."""
    key = [seed, (block.meta.position << 32) | (block.start // NULL_BLOCK)]
    order = np.random.Generator(np.random.Philox(key=key)).permutation(block.base.numel())
    return block.d[torch.from_numpy(order).to(block.d.device)]


class _Curve:
    """Sums of the n largest r for one epsilon: counts and sums by bin first, then counts inside a few
    bins."""

    def __init__(self, eps: float) -> None:
        self.eps = eps
        self._counts: Counts = np.zeros(N_BINS, dtype=np.int64)
        self._sums: NDArray[np.float64] = np.zeros(N_BINS)
        self._low: LowCounter | None = None

    def add(self, r: torch.Tensor, n_pass: int) -> None:
        """Take in a chunk's r in pass 1 or 2."""
        keys = MAX_BITS - bits(r)
        if n_pass == 2:
            if self._low is not None:
                self._low.add(keys)
            return
        bins = keys >> 16
        self._counts += torch.bincount(bins, minlength=N_BINS).cpu().numpy()
        self._sums += torch.bincount(bins, weights=r.to(torch.float64), minlength=N_BINS).cpu().numpy()

    def prepare_second(self, counts: Sequence[int]) -> None:
        """Choose the bins in which some n-th largest r lies."""
        if self._low is None:
            self._low = LowCounter([boundary_bin(self._counts, n) for n in counts if n])

    def share(self, n: int) -> float | None:
        """Sum of the n largest r over the sum of all; None when nothing changed."""
        total = float(self._sums.sum())
        if not total:
            return None
        if not n or self._low is None:
            return 0.0
        bin_ = boundary_bin(self._counts, n)
        within = self._low.of(bin_)
        left = n - int(self._counts[:bin_].sum())
        taken = np.diff(np.minimum(np.cumsum(within), left), prepend=0)
        patterns = MAX_BITS - ((bin_ << 16) | np.arange(N_LOW, dtype=np.int64))
        values = patterns.astype(np.int32).view(np.float32)
        return (
            float(self._sums[:bin_].sum()) + float(taken[taken > 0] @ values[taken > 0].astype(np.float64))
        ) / total
