"""Finds, without sorting, the key below which k weights lie: a radix select over 31-bit keys in two passes.

Pass one counts keys by their top 15 bits (of 31). For each wanted count that names one bin; pass two counts
the low 16 bits of the keys in those bins. The result is exact, ties included, for any number of counts at
once, with memory for a chunk and 65,536 counters a count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sftknow_core.model.tensors import TensorMeta
from sftknow_core.update.pair import Pair, Progress
from sftknow_core.update.scores import N_BINS
from sftknow_core.update.strategies import Keys

N_LOW = 1 << 16
"""Values of the low 16 bits within a bin."""

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Cut:
    """The first k weights of an order: all with a key below `key`, and the first `ties` of those equal to
    it."""

    key: int
    ties: int
    """Taken in canonical order."""


class CutCursor:
    """Which weights a cut takes, chunk after chunk in canonical order; counts the ties off as it goes."""

    def __init__(self, cut: Cut) -> None:
        self._key = cut.key
        self._ties_left = cut.ties

    def taken(self, keys: torch.Tensor) -> torch.Tensor:
        """Bool [n]: the weights of this chunk that are taken."""
        mask = keys < self._key
        if self._ties_left:
            equal = (keys == self._key).nonzero().view(-1)[: self._ties_left]
            mask[equal] = True
            self._ties_left -= equal.numel()
        return mask


def histogram(
    pair: Pair, metas: Sequence[TensorMeta], keys: Keys, progress: Progress | None = None
) -> Counts:
    """Number of keys per bin of their top 15 bits, int64 [N_BINS]."""
    counts = np.zeros(N_BINS, dtype=np.int64)
    for chunk in pair.chunks(metas, progress=progress):
        counts += torch.bincount(keys(chunk) >> 16, minlength=N_BINS).cpu().numpy()
    return counts


class LowCounter:
    """Pass two: counts the low 16 bits of the keys that fall into a few bins."""

    def __init__(self, bins: Sequence[int]) -> None:
        self.bins = sorted(set(bins))
        self._slot = torch.full((N_BINS,), -1, dtype=torch.int32)
        self._slot[self.bins] = torch.arange(len(self.bins), dtype=torch.int32)
        self._counts = torch.zeros(len(self.bins) * N_LOW, dtype=torch.int64)

    def add(self, keys: torch.Tensor) -> None:
        """Count the keys of one chunk."""
        if self._slot.device != keys.device:
            self._slot, self._counts = self._slot.to(keys.device), self._counts.to(keys.device)
        slots = self._slot.index_select(0, keys >> 16)
        inside = (slots >= 0).nonzero().view(-1)
        index = (slots[inside].to(torch.int64) << 16) | (keys[inside] & (N_LOW - 1))
        self._counts.index_add_(0, index, torch.ones_like(index))

    def of(self, bin_: int) -> Counts:
        """Counts by low bits within one bin, int64 [N_LOW]."""
        slot = self.bins.index(bin_)
        counts: Counts = self._counts[slot * N_LOW : (slot + 1) * N_LOW].cpu().numpy()
        return counts


def boundary_bin(counts: Counts, n: int) -> int:
    """The bin that holds the n-th key (n from 1)."""
    return int(np.searchsorted(np.cumsum(counts), n))


def refine(counts: Counts, low: LowCounter, n: int) -> Cut:
    """The cut that takes exactly n keys, from both passes' counts; n = 0 takes none."""
    if n == 0:
        return Cut(key=0, ties=0)
    bin_ = boundary_bin(counts, n)
    left = n - int(counts[:bin_].sum())
    within = np.cumsum(low.of(bin_))
    position = int(np.searchsorted(within, left))
    ties = left - (int(within[position - 1]) if position else 0)
    return Cut(key=(bin_ << 16) | position, ties=ties)
