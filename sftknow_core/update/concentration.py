"""How concentrated the change is: the share of all relative change that a few weights hold, and where they
sit.

    share(k) = sum of r over the k% weights of largest r / sum of r over the region

(arXiv 2509.16596, its concentration table). r is bounded only by its epsilon, so the share is given for
larger ones too, and beside a null: the same changes d handed out at random among the weights of the same
tensor, r recomputed (`null_model`). What the null already concentrates comes from |p| being small somewhere,
not from what fine-tuning chose to change.

All of it is read off the cube. Only inside the bin in which the k-th weight lies is the sum interpolated; a
bin is less than 0.8% wide, and `error` bounds what that can be off by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftknow_core.model.io.tensors import TensorMeta
from sftknow_core.update.delta import Delta
from sftknow_core.update.histogram import bin_edges
from sftknow_core.update.pair import Pair
from sftknow_core.update.region import Region
from sftknow_core.update.report import TensorCount
from sftknow_core.update.scores import EPSILONS, LOW_BITS, Score
from sftknow_core.update.spec import Number, Percent, count_for, percent

CONCENTRATION_SCORES = (*EPSILONS, Score.PERMUTED)
"""What `measure_delta` has to take for `concentration`."""


@dataclass(frozen=True)
class ConcentrationPoint:
    """The share of the change in the top k% of a region."""

    k_percent: Percent
    eps: float
    share: float | None
    """0 to 1; None when nothing changed."""
    error: float | None
    """How far `share` can be off, at most."""
    null_share: float | None
    """The same with changes permuted within tensors; None where the delta lacks it or nothing changed."""
    energy_share: float | None
    """Their share of ||s - p||^2; None for epsilons other than the reference code's."""


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


def concentration(delta: Delta, pair: Pair, region: Region, ks: Sequence[Number]) -> list[ConcentrationPoint]:
    """Shares for every epsilon that the delta holds and every k, in that order.

    Raises SpecError (k, empty region).
    """
    metas = region.resolve(pair.metas)
    counts = [count_for(sum(meta.numel for meta in metas), k) for k in ks]
    null = _Curve.of(delta, metas, Score.PERMUTED)
    points = []
    for score, eps in EPSILONS.items():
        curve = _Curve.of(delta, metas, score)
        reference = score is Score.RELATIVE
        for k, n in zip(ks, counts, strict=True):
            share, error = curve.share(n) if curve else (None, None)
            points.append(
                ConcentrationPoint(
                    percent(k),
                    eps,
                    share,
                    error,
                    null.share(n)[0] if null and reference else None,
                    curve.energy_share(n) if curve and reference else None,
                )
            )
    return points


@dataclass(frozen=True)
class _Curve:
    """One score's bins over a region, highest first, with running totals before each bin."""

    bins: NDArray[np.int32]
    n: NDArray[np.int64]
    sums: NDArray[np.float64]
    d2: NDArray[np.float64]

    @classmethod
    def of(cls, delta: Delta, metas: Sequence[TensorMeta], score: Score) -> _Curve | None:
        """None when the delta has not taken the score or nothing changed."""
        counts = delta.histogram(metas, score)
        sums, d2 = delta.sums(metas, score)
        used = np.flatnonzero(counts)[::-1]
        if not sums.sum():
            return None
        return cls(used.astype(np.int32), counts[used], sums[used], d2[used])

    def share(self, n: int) -> tuple[float, float]:
        """(sum of the n largest / sum of all, bound of its error)."""
        i, before, fraction = self._place(n)
        value = self.sums[:i].sum() + fraction * self.sums[i]
        unit = float(bin_edges(self.bins[i : i + 1])[1][0])
        # n values out of a bin sum to n lower edges at least and n upper edges at most, whichever they are
        width = (n - before) * unit * (1 << LOW_BITS)
        total = self.sums.sum()
        return float(value / total), float(min(width, self.sums[i]) / total) if 0 < fraction < 1 else 0.0

    def energy_share(self, n: int) -> float | None:
        """Their share of ||d||^2, interpolated likewise."""
        i, _, fraction = self._place(n)
        total = float(self.d2.sum())
        return float((self.d2[:i].sum() + fraction * self.d2[i]) / total) if total else None

    def _place(self, n: int) -> tuple[int, int, float]:
        """(bin of the n-th largest, weights before it, part of the bin that is taken)."""
        reached = np.cumsum(self.n)
        i = int(np.searchsorted(reached, n)) if n else 0
        before = int(reached[i - 1]) if i else 0
        return i, before, (n - before) / int(self.n[i])
