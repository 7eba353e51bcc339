"""Finds, without sorting, the key below which k weights lie: a radix select over 31-bit keys in two passes.

Pass one counts keys by their top 15 bits (of 31). For each wanted count that names one bin; pass two counts
the low 16 bits of the keys in those bins. The result is exact, ties included, for any number of counts at
once, with memory for a few spans and 65,536 counters a count and thread. Only integers are added, so the
threads need no order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock, local

import numpy as np
import torch
from numpy.typing import NDArray

from sftknow_core.model.io.tensors import TensorMeta
from sftknow_core.update import kernels, restore_kernels
from sftknow_core.update.pair import Chunk, Pair, Progress, Span
from sftknow_core.update.scores import MAX_BITS, N_BINS, check_pattern
from sftknow_core.update.strategies import Order

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


def histogram(
    pair: Pair, metas: Sequence[TensorMeta], order: Order, progress: Progress | None = None
) -> Counts:
    """Number of keys per bin of their top 15 bits, int64 [N_BINS]."""

    def work(span: Span) -> Counts:
        counts = np.zeros(N_BINS, dtype=np.int64)
        acc = np.zeros(kernels.N_SLOTS, np.int64)
        for chunk in pair.chunks_in(span, compiled=order.score is not None):
            if order.score is not None and chunk.words is not None:
                check_pattern(restore_kernels.count_score(*chunk.words, order.is_relative, acc), chunk)
            else:
                counts += torch.bincount(order.keys(chunk) >> 16, minlength=N_BINS).cpu().numpy()
        bins, n, _, _ = kernels.collect(acc, np.zeros(kernels.N_SLOTS, np.int64))
        counts[N_BINS - 1 - bins if order.highest_first else bins] += n
        return counts

    total = np.zeros(N_BINS, dtype=np.int64)
    for _, counts in pair.map(work, pair.spans(metas), progress=progress):
        total += counts
    return total


class LowCounter:
    """Pass two: counts the low 16 bits of the keys that fall into a few bins, each thread for itself."""

    def __init__(self, order: Order, bins: Sequence[int]) -> None:
        self.order = order
        self.bins = sorted(set(bins))
        self.n_zeros = 0
        """Scores of 0 among the keys seen; only where a score ranks."""
        self.n_changed = 0
        """Weights whose bits differ; only where a score ranks."""
        self._slots = np.full(N_BINS, -1, dtype=np.int16)
        self._slots[self.bins] = np.arange(len(self.bins))
        self._own = local()
        self._tables: list[Counts] = []
        self._adding = Lock()

    def add(self, chunk: Chunk) -> None:
        """Count the keys of one chunk."""
        if not hasattr(self._own, "table"):
            self._own.table = np.zeros((len(self.bins), N_LOW), dtype=np.int64)
            with self._adding:
                self._tables.append(self._own.table)
        if self.order.score is None or chunk.words is None:
            self._add_tensors(chunk)
            return
        zeros, changed, largest = restore_kernels.count_low(
            *chunk.words, self.order.is_relative, self.order.highest_first, self._slots, self._own.table
        )
        check_pattern(largest, chunk)
        self._note(zeros, changed)

    def _add_tensors(self, chunk: Chunk) -> None:
        keys = self.order.keys(chunk)
        slots = torch.from_numpy(self._slots).to(keys.device).index_select(0, keys >> 16)
        inside = (slots >= 0).nonzero().view(-1)
        index = (slots[inside].to(torch.int64) << 16) | (keys[inside] & (N_LOW - 1))
        counts = torch.bincount(index, minlength=self._own.table.size).cpu().numpy()
        self._own.table += counts.reshape(self._own.table.shape)
        if self.order.score is not None:
            zero = MAX_BITS if self.order.highest_first else 0
            self._note(int((keys == zero).sum()), int(chunk.changed.sum()))

    def _note(self, n_zeros: int, n_changed: int) -> None:
        with self._adding:
            self.n_zeros += n_zeros
            self.n_changed += n_changed

    def of(self, bin_: int) -> Counts:
        """Counts by low bits within one bin, int64 [N_LOW]."""
        row = self.bins.index(bin_)
        total: Counts = np.sum([table[row] for table in self._tables], axis=0, dtype=np.int64)
        return total


def boundary_bin(counts: Counts, n: int) -> int:
    """The bin that holds the n-th key (n from 1)."""
    return int(np.searchsorted(np.cumsum(counts), n))


def refine(counts: Counts, low: LowCounter, n: int) -> tuple[Cut, int]:
    """(the cut that takes exactly n keys, how many keys equal its key), from both passes' counts."""
    if n == 0:
        return Cut(key=0, ties=0), 0
    bin_ = boundary_bin(counts, n)
    left = n - int(counts[:bin_].sum())
    within = low.of(bin_)
    summed = np.cumsum(within)
    position = int(np.searchsorted(summed, left))
    ties = left - (int(summed[position - 1]) if position else 0)
    return Cut(key=(bin_ << 16) | position, ties=ties), int(within[position])
