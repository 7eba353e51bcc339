"""How concentrated the change is: the share of all relative change that a few weights hold, and where they
sit.

    share(k) = sum of r over the k% weights of largest r / sum of r over the region

(arXiv 2509.16596, its concentration table). r is bounded only by its epsilon, so the share is given for
larger ones too, beside the share of the 20 largest r alone, and beside a null: the same changes d handed out at
random among the weights of the same tensor, r recomputed (`null`). What the null already concentrates comes from |p|
being small somewhere, not from what fine-tuning chose to change.

All of it is read off the cube. Only inside the bin in which the k-th weight lies is the sum interpolated; a
bin is less than 0.8% wide, and `error` bounds what that can be off by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftknow_core.update.delta import Delta
from sftknow_core.update.histogram import Ranked, cut
from sftknow_core.update.null import Against, Null
from sftknow_core.update.pair import Pair
from sftknow_core.update.region import Region
from sftknow_core.update.report import TensorCount
from sftknow_core.update.scores import EPSILONS, Score
from sftknow_core.update.spec import Number, Percent, count_for, percent

TOP = 20
"""Weights of largest r whose share is given by itself: where it is large, the sum of r is that of a few weights."""


@dataclass(frozen=True)
class ConcentrationPoint:
    """The share of the change in the top k% of a region."""

    k_percent: Percent
    eps: float
    share: float | None
    """0 to 1; None when nothing changed."""
    error: float | None
    """How far `share` can be off, at most."""
    energy_share: float | None
    """Their share of ||s - p||^2; None for epsilons other than the reference code's."""
    top_20_share: float | None
    """The share of the TOP weights of largest r alone, whatever k; None when nothing changed."""
    null: Against | None = None
    """The same share with changes permuted within tensors; None where that was not measured or nothing changed."""


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
    delta: Delta, pair: Pair, region: Region, ks: Sequence[Number], null: Null | None = None
) -> list[ConcentrationPoint]:
    """Shares for every epsilon that the delta holds and every k, in that order.

    null: permutations that hold this region and these ks (`null.measure_null`); None: not measured. Raises SpecError
    for an empty region or a k that is no percentage.
    """
    metas = region.resolve(pair.metas)
    n_region = sum(meta.numel for meta in metas)
    counts = np.array([count_for(n_region, k) for k in ks], np.int64)
    points = []
    for score, eps in EPSILONS.items():
        n, (sums, d2) = delta.histogram(metas, score), delta.sums(metas, score)
        ranked, reference = Ranked.of(n, sums), score is Score.RELATIVE
        shares: list[list[float | None]] = [[None] * len(ks)] * 2
        energies, largest = shares[0], None
        if ranked is not None:
            shares = [found.tolist() for found in ranked.shares(counts)]
            largest = float(ranked.shares(np.array([min(TOP, n_region)]))[0][0])
            if reference:
                energies = _energy_shares(ranked, d2[ranked.bins], counts)
        for k, share, error, energy in zip(ks, *shares, energies, strict=True):
            beside = null.at(region.name, k, share) if null and reference and region.layers is None else None
            points.append(ConcentrationPoint(percent(k), eps, share, error, energy, largest, beside))
    return points


def _energy_shares(ranked: Ranked, d2: NDArray[np.float64], counts: NDArray[np.int64]) -> list[float | None]:
    """The share of ||d||^2 that the largest hold, interpolated likewise; d2 by bin, highest first."""
    total = float(d2.sum())
    place, part = cut(ranked.n, counts)
    held = (np.cumsum(d2)[place] - d2[place] * (1 - part)) / total if total else None
    return [None] * len(counts) if held is None else held.tolist()
