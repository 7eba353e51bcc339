"""Which weights restoring picks, compared between fine-tunings of one base: do two seeds pick the same?

    pairs of one base, ks  --one pass over all models-->  Overlap of every two masks, and with the smallest |p|

A mask is the k% of a region that a strategy reverts first. Two masks of k drawn independently share k of each other's
weights (k as a share), a Jaccard index of k / (2 - k). Ranking by r = |d| / |p| is largely ranking by small |p|, which
all seeds share; so each overlap stands beside two more: that with the mask of the smallest |p|, and what independence
within the deciles of |p| of each tensor gives, sum over deciles of n_i n_j / n.

Donor test: model i restored with the mask of model j. Without asking it, how much of i's squared change lies in j's
mask, beside how much lies in its own.

Memory: a chunk of each model, and counters. |p| is put into deciles by its top 16 bits (bfloat16 precision).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.model.io.tensors import TensorMeta
from sftknow_core.update.pair import Chunk, Pair, Progress, as_integers
from sftknow_core.update.scores import LOW_BITS, N_BINS, bits
from sftknow_core.update.select import Plan, plans_for
from sftknow_core.update.spec import Number, Percent, RestoreSpec, percent

MASKS_VERSION = 1
N_DECILES = 10
SMALLEST = "small-base"
"""The strategy whose mask every pair of one base shares: the smallest |p|."""
Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Overlap:
    """Two masks of the same k."""

    k_percent: Percent
    first: int
    """Which pair's, in the order given."""
    second: int | None
    """Which other pair's; None: the mask of the smallest |p|."""
    n: int
    """Weights of the region."""
    n_first: int
    n_second: int
    n_both: int
    n_expected: float
    """Of both, were they independent within the deciles of |p| of each tensor."""
    energy_share: float | None
    """Share of the first model's squared change that lies in the second mask; None where nothing changed."""
    own_energy_share: float | None
    """And in its own."""

    @property
    def jaccard(self) -> float | None:
        """Of both / of either; None for empty masks."""
        return _jaccard(self.n_both, self.n_first, self.n_second)

    @property
    def chance_jaccard(self) -> float | None:
        """Of two independent masks of these sizes: k / (2 - k)."""
        return _jaccard(self.n_first * self.n_second / self.n, self.n_first, self.n_second)

    @property
    def expected_jaccard(self) -> float | None:
        """Of masks that are independent within the deciles of |p|."""
        return _jaccard(self.n_expected, self.n_first, self.n_second)


def _jaccard(both: float, first: int, second: int) -> float | None:
    either = first + second - both
    return both / either if either else None


def overlaps(
    pairs: Sequence[Pair],
    ks: Sequence[Number],
    *,
    strategy: str = "top",
    region: str = "transformer",
    layers: str | None = None,
    progress: Progress | None = None,
) -> list[Overlap]:
    """Every two of the pairs' masks in both directions, and each with the smallest |p|, for every k.

    pairs: of one base model. Raises SpecError for fewer than two pairs, a strategy without single weights or an empty
    region, ModelError for a base that is not the same.
    """
    if len(pairs) < 2:
        raise SpecError(f"masks: got {len(pairs)} fine-tuned model; allowed: two or more of one base")
    specs = [RestoreSpec(strategy, region, layers, percent(k)) for k in dict.fromkeys(map(percent, ks))]
    shared = [RestoreSpec(SMALLEST, region, layers, spec.k_percent) for spec in specs]
    _check_one_base(pairs)
    plans = [plans_for(pair, specs) for pair in pairs] + [plans_for(pairs[0], shared)]
    metas = plans[0][0].metas
    found = _Sums(len(pairs), len(specs))
    spans = pairs[0].spans(metas)
    total = sum(span.n_bytes for span in spans)
    takers = [[_Taker(plan) for plan in of] for of in plans]
    done = 0
    for meta in metas:
        deciles = _deciles(pairs[0], meta)
        within = np.zeros((len(specs), N_DECILES, len(plans), len(plans)))
        for span in (one for one in spans if one.meta is meta):
            for start in range(span.start, span.stop, pairs[0].chunk_size):
                stop = min(start + pairs[0].chunk_size, span.stop)
                _count([pair.read(meta, start, stop) for pair in pairs], takers, deciles, within, found)
            done += span.n_bytes
            if progress is not None:
                progress(done, total)
        found.close(within, deciles)
    return found.overlaps(specs, sum(meta.numel for meta in metas))


def _check_one_base(pairs: Sequence[Pair]) -> None:
    """By shapes; a base of other values gives itself away by the counts only, so callers compare model ids."""
    ours = [(meta.name, meta.shape) for meta in pairs[0].metas]
    for pair in pairs[1:]:
        if [(meta.name, meta.shape) for meta in pair.metas] != ours:
            raise ModelError(
                f"base {pair.base.label} is not the model {pairs[0].base.label}; masks are compared between "
                "fine-tunings of one base"
            )


class _Taker:
    """Says chunk after chunk, in canonical order, which weights a plan takes."""

    def __init__(self, plan: Plan) -> None:
        if plan.cut is None or plan.order is None:
            raise SpecError(f"strategy {plan.spec.strategy} selects no single weights; it has no mask")
        self.order, self._key, self._left = plan.order, plan.cut.key, plan.cut.ties
        self._n = plan.n_restored

    def take(self, keys: torch.Tensor) -> torch.Tensor:
        """bool [n] from the keys of the chunk."""
        if not self._n:
            return torch.zeros_like(keys, dtype=torch.bool)
        mask = keys < self._key
        if self._left:
            equal = (keys == self._key).nonzero().view(-1)[: self._left]
            mask[equal] = True
            self._left -= len(equal)
        return mask


@dataclass(frozen=True)
class _Deciles:
    of_bin: torch.Tensor
    """Decile of each bin of |p|, int64 [N_BINS]."""
    n: Counts
    """Weights by decile."""


def _deciles(pair: Pair, meta: TensorMeta) -> _Deciles:
    counts = np.zeros(N_BINS, np.int64)
    for start in range(0, meta.numel, pair.chunk_size):
        p = pair.base.read(meta.name, start, min(start + pair.chunk_size, meta.numel)).to(torch.float32)
        counts += torch.bincount(_bins(p), minlength=N_BINS).cpu().numpy()
    below = np.cumsum(counts) - counts
    of_bin = np.minimum((N_DECILES * (below + counts / 2) / meta.numel).astype(np.int64), N_DECILES - 1)
    return _Deciles(torch.from_numpy(of_bin), np.bincount(of_bin, counts, N_DECILES).astype(np.float64))


def _bins(p: torch.Tensor) -> torch.Tensor:
    return (bits(p.abs()) >> LOW_BITS).to(torch.int64)


def _count(
    chunks: Sequence[Chunk],
    takers: Sequence[Sequence[_Taker]],
    deciles: _Deciles,
    within: Counts,
    found: _Sums,
) -> None:
    """Add a chunk of every model to the counters. within: [ks, deciles, masks, masks]."""
    own = [of[0].order.keys(chunk) for of, chunk in zip(takers, chunks, strict=False)]
    keys = [*own, takers[-1][0].order.keys(chunks[0])]
    decile = deciles.of_bin.to(keys[0].device)[_bins(chunks[0].p)]
    energies = torch.stack([chunk.d2 for chunk in chunks])
    found.energy += energies.sum(1).cpu().numpy()
    for number in range(within.shape[0]):
        masks = torch.stack([of[number].take(key) for of, key in zip(takers, keys, strict=True)])
        found.inside[number] += (energies @ masks.to(torch.float64).T).cpu().numpy()
        for at in range(N_DECILES):
            part = masks[:, decile == at].to(torch.float32)  # exact: a chunk has fewer than 2^24 weights
            within[number, at] += (part @ part.T).cpu().numpy()


class _Sums:
    """Counters over the whole region; the last mask is that of the smallest |p|."""

    def __init__(self, n_pairs: int, n_ks: int) -> None:
        self.both = np.zeros((n_ks, n_pairs + 1, n_pairs + 1))
        self.expected = np.zeros((n_ks, n_pairs + 1, n_pairs + 1))
        self.energy = np.zeros(n_pairs)
        self.inside = np.zeros((n_ks, n_pairs, n_pairs + 1))

    def close(self, within: Counts, deciles: _Deciles) -> None:
        """Add a tensor that is read to the end."""
        self.both += within.sum(axis=1)
        sizes = np.einsum("kdii->kdi", within)
        n = np.maximum(deciles.n, 1)
        self.expected += np.einsum("kdi,kdj,d->kij", sizes, sizes, 1 / n)

    def overlaps(self, specs: Sequence[RestoreSpec], n: int) -> list[Overlap]:
        n_pairs = len(self.energy)
        rows = []
        for (number, spec), first in product(enumerate(specs), range(n_pairs)):
            assert spec.k_percent is not None
            both = self.both[number]
            shares = [self.inside[number, first, j] / self.energy[first] for j in range(n_pairs + 1)] \
                if self.energy[first] > 0 else [None] * (n_pairs + 1)  # fmt: skip
            for second in (j for j in range(n_pairs + 1) if j != first):
                rows.append(
                    Overlap(
                        spec.k_percent, first, None if second == n_pairs else second, n,
                        int(both[first, first]), int(both[second, second]), int(both[first, second]),
                        float(self.expected[number, first, second]), shares[second], shares[first],
                    )
                )  # fmt: skip
        return rows


def restore_by_donor(
    target: nn.Module | Mapping[str, torch.Tensor], pair: Pair, donor: Pair, plan: Plan
) -> int:
    """Write the pair's tuned model, with base's weights in the donor's mask, into a working model; how many went back.

    plan: of the donor. The working model is of the same architecture and shares no memory with the three.
    """
    parameters = dict(target.named_parameters()) if isinstance(target, nn.Module) else dict(target)
    region, taker, n = {meta.name for meta in plan.metas}, _Taker(plan), 0
    with torch.no_grad():
        for meta in pair.metas:
            flat = parameters[meta.name].detach().view(-1)
            for start in range(0, meta.numel, pair.chunk_size):
                stop = min(start + pair.chunk_size, meta.numel)
                mine = pair.read(meta, start, stop)
                out = mine.tuned.to(mine.exact_dtype, copy=True)
                if meta.name in region:
                    mask = taker.take(taker.order.keys(donor.read(meta, start, stop)))
                    as_integers(out)[mask] = as_integers(mine.base.to(mine.exact_dtype))[mask]
                    n += int(mask.sum())
                flat[start:stop].copy_(out)
    return n
