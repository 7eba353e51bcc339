"""Counts the changes of a span's weights: bins of every score, and the sums that bins do not give.

Two ways with the same results (but for the rounding of floating-point sums): compiled kernels on a CPU, and
tensor operations anywhere, for float64 too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sftknow_core.update import kernels
from sftknow_core.update.histogram import Histogram, add_floats
from sftknow_core.update.pair import Chunk
from sftknow_core.update.scores import EPSILONS, N_BINS, Score, absolute, check_pattern, ratio, relative

TINY = 1e-6
"""|p| below which r says more about the epsilon than about the change."""


@dataclass(frozen=True)
class Bins:
    """One score's used bins over some weights; arrays of [used bins]."""

    bins: NDArray[np.int32]
    n: NDArray[np.int64]
    low: NDArray[np.int64]
    """Sums of the low bits."""
    squares: NDArray[np.float64] | None = None
    """Sums of the squared low bits; for absolute, whose squares follow from them."""
    d2: NDArray[np.float64] | None = None
    """Sums of (s - p)^2; for relative."""


@dataclass
class Sums:
    """What some weights of one tensor add up to."""

    n_changed: int = 0
    sum_r_tiny: float = 0.0
    max_r: float = 0.0
    sum_p2: float = 0.0
    bins: dict[Score, Bins] = field(default_factory=dict)


class Counter(Protocol):
    """Takes chunks, one after the other, and gives their sums."""

    def add(self, chunk: Chunk) -> None:
        """Take a chunk in. Raises ModelError for weights or changes that are not finite."""

    def take(self) -> Sums:
        """The sums since the last call."""


class KernelCounter:
    """By compiled loops. Its accumulators are kept from span to span."""

    def __init__(self, scores: Sequence[Score]) -> None:
        self._sums = Sums()
        self._scores = scores
        self._acc = {score: np.zeros(kernels.N_SLOTS, np.int64) for score in {*scores, Score.ABSOLUTE}}
        self._r_d2 = np.zeros(kernels.N_SLOTS)
        self._a_squares = np.zeros(kernels.N_SLOTS, np.int64)
        self._unused = np.zeros(kernels.N_SLOTS, np.int64)

    def add(self, chunk: Chunk) -> None:
        """Take a chunk in."""
        assert chunk.words is not None
        base, tuned, half = chunk.words
        n_changed, tiny, r_max, a_max, p2 = kernels.count_changes(
            base, tuned, half,
            self._acc[Score.RELATIVE], self._r_d2, self._acc[Score.ABSOLUTE], self._a_squares,
        )  # fmt: skip
        check_pattern(max(r_max, a_max), chunk)
        found = self._sums
        found.n_changed += n_changed
        found.sum_r_tiny += tiny
        found.max_r = max(found.max_r, float(np.int32(r_max).view(np.float32)))
        found.sum_p2 += p2
        change = None
        for score in self._scores:
            if score in (Score.RELATIVE_1E6, Score.RELATIVE_1E4):
                change = _changes(chunk) if change is None else change
                kernels.count_ratio(base, half, change, np.float32(EPSILONS[score]), self._acc[score])

    def take(self) -> Sums:
        """The sums since the last call; the accumulators are empty afterwards."""
        found, self._sums = self._sums, Sums()
        for score in self._acc:
            if score is Score.RELATIVE:
                bins, n, low, d2 = kernels.collect(self._acc[score], self._r_d2)
                found.bins[score] = Bins(bins, n, low, d2=d2)
            elif score is Score.ABSOLUTE:
                bins, n, low, squares = kernels.collect(self._acc[score], self._a_squares)
                found.bins[score] = Bins(bins, n, low, squares.astype(np.float64))
            else:
                found.bins[score] = Bins(*kernels.collect(self._acc[score], self._unused)[:3])
        return found


def _changes(chunk: Chunk) -> NDArray[np.float32]:
    assert chunk.words is not None
    out = np.empty(chunk.base.numel(), np.float32)
    kernels.changes(*chunk.words, out)
    return out


class TensorCounter:
    """By tensor operations, on any device and in any dtype."""

    def __init__(self, scores: Sequence[Score]) -> None:
        self._scores = scores
        self._sums = Sums()
        self._histograms: dict[Score, Histogram] = {}
        self._d2 = torch.zeros(N_BINS, dtype=torch.float64)

    def add(self, chunk: Chunk) -> None:
        """Take a chunk in."""
        r = relative(chunk)
        if not self._histograms:
            self._d2 = self._d2.to(r.device)
            self._histograms = {s: Histogram(r.device, squares=s is Score.ABSOLUTE) for s in self._scores}
        found = self._sums
        found.n_changed += int(torch.count_nonzero(chunk.changed))
        found.max_r = max(found.max_r, float(r.max()))
        found.sum_p2 += float(torch.linalg.vector_norm(chunk.p, dtype=torch.float64)) ** 2
        found.sum_r_tiny += float(r[chunk.p.abs() < TINY].sum(dtype=torch.float64))
        for score in self._scores:
            bins = self._histograms[score].add(r if score is Score.RELATIVE else self._values(score, chunk))
            if score is Score.RELATIVE:
                add_floats(self._d2, bins, chunk.d2)

    def _values(self, score: Score, chunk: Chunk) -> torch.Tensor:
        if score is Score.ABSOLUTE:
            return absolute(chunk)
        return ratio(chunk.d, chunk.p, EPSILONS[score])

    def take(self) -> Sums:
        """The sums since the last call."""
        found, self._sums = self._sums, Sums()
        for score, histogram in self._histograms.items():
            n = histogram.counts()
            used = np.flatnonzero(n)
            found.bins[score] = Bins(
                used.astype(np.int32),
                n[used],
                histogram.low_sums()[used],
                histogram.low_squares()[used].astype(np.float64) if score is Score.ABSOLUTE else None,
                self._d2.cpu().numpy()[used] if score is Score.RELATIVE else None,
            )
        self._histograms.clear()
        self._d2 = torch.zeros_like(self._d2)
        return found


def counter_for(chunk: Chunk, scores: Sequence[Score]) -> Counter:
    """The fastest counter that takes such chunks."""
    return KernelCounter(scores) if chunk.words is not None else TensorCounter(scores)
