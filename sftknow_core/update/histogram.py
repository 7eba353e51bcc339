"""Histograms of scores whose sums are exact, on any device and for any number of threads.

The bin of a score is the top 16 bits of its pattern. All values of a bin share sign and exponent, so each
is (bin's lower edge) + (low 16 bits) * (the bin's unit), and integers say everything:

    sum of the bin's values  = n * edge + unit * (sum of low)
    sum of their squares     = n * edge^2 + 2 * edge * unit * (sum of low) + unit^2 * (sum of low^2)

Integer additions may come in any order. Count and sum of low bits share one int64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sftknow_core.update.scores import LOW_BITS, N_BINS, bits

Counts = NDArray[np.int64]
_LOW = (1 << LOW_BITS) - 1
_COUNT = 40
"""The count stands above this bit: 2^23 weights of 16 low bits each stay below it."""


class Histogram:
    """Counts and exact sums by bin of at most 2^22 values."""

    def __init__(self, device: torch.device, *, squares: bool = False) -> None:
        self._packed = torch.zeros(N_BINS, dtype=torch.int64, device=device)
        self._squares = torch.zeros(N_BINS, dtype=torch.int64, device=device) if squares else None

    def add(self, scores: torch.Tensor) -> torch.Tensor:
        """Count float32 scores >= 0; returns their bins, int32 [n]."""
        patterns = bits(scores)
        bins = patterns >> LOW_BITS
        low = (patterns & _LOW).to(torch.int64)
        if self._squares is not None:
            self._squares.index_add_(0, bins, low * low)
        self._packed.index_add_(0, bins, low.add_(1 << _COUNT))
        return bins

    def counts(self) -> NDArray[np.int64]:
        """Values by bin, int64 [N_BINS]."""
        counts: NDArray[np.int64] = self._packed.cpu().numpy() >> _COUNT
        return counts

    def low_sums(self) -> NDArray[np.int64]:
        """Sum of the low bits by bin, int64 [N_BINS]."""
        sums: NDArray[np.int64] = self._packed.cpu().numpy() & ((1 << _COUNT) - 1)
        return sums

    def low_squares(self) -> NDArray[np.int64]:
        """Sum of the squared low bits by bin, int64 [N_BINS]; only with `squares`."""
        assert self._squares is not None
        squares: NDArray[np.int64] = self._squares.cpu().numpy()
        return squares


def bin_edges(bins: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(lower edge, unit of the low bits) of bins, exact in float64."""
    patterns = bins.astype(np.int32) << LOW_BITS
    edges = patterns.view(np.float32).astype(np.float64)
    units = (patterns + 1).view(np.float32).astype(np.float64) - edges
    return edges, units


def sums_of(bins: NDArray[np.int32], n: NDArray[np.int64], low: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of the values by bin, float64, from counts and sums of low bits."""
    edges, units = bin_edges(bins)
    sums: NDArray[np.float64] = n * edges + low * units
    return sums


def square_sums_of(
    bins: NDArray[np.int32], n: NDArray[np.int64], low: NDArray[np.int64], squares: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sum of the squared values by bin, float64."""
    edges, units = bin_edges(bins)
    sums: NDArray[np.float64] = n * edges**2 + 2 * edges * units * low + units**2 * squares
    return sums


def add_floats(sums: torch.Tensor, bins: torch.Tensor, values: torch.Tensor) -> None:
    """sums[bins] += values (float64, >= 0), with the same result every time.

    On a CPU in order. Elsewhere many cores add to one bin in any order, and float additions would round
    differently each time: there the values are added as integers, in units of 2^-40 of the largest.
    """
    if sums.device.type == "cpu":
        sums.index_add_(0, bins, values)
    else:
        sums += fixed_point_sums(bins, values, sums.numel())


def fixed_point_sums(bins: torch.Tensor, values: torch.Tensor, n_bins: int) -> torch.Tensor:
    """Sums by bin of at most 2^22 float64 values >= 0, float64 [n_bins], whatever the order of addition."""
    largest = float(values.max()) if values.numel() else 0.0
    scale = math.ldexp(1.0, 40 - math.frexp(largest)[1])
    whole = torch.zeros(n_bins, dtype=torch.int64, device=values.device)
    whole.index_add_(0, bins, (values * scale).round_().to(torch.int64))
    return whole.to(torch.float64) / scale


@dataclass(frozen=True)
class Ranked:
    """The used bins of some weights, highest first: what the n largest hold, with the boundary bin interpolated."""

    bins: NDArray[np.int32]
    n: NDArray[np.int64]
    """Weights of each bin and all before it."""
    sums: NDArray[np.float64]
    """Their sum, likewise."""

    @classmethod
    def of(cls, counts: NDArray[np.int64], sums: NDArray[np.float64]) -> Ranked | None:
        """From counts and sums by bin, [N_BINS] each. None when all values are 0."""
        used = np.flatnonzero(counts)[::-1]
        if not sums.any():
            return None
        return cls(used.astype(np.int32), np.cumsum(counts[used]), np.cumsum(sums[used]))

    def shares(self, asked: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(share of the sum that the `asked` largest hold, the most it can be off), [asked] each."""
        i, fraction = cut(self.n, asked)
        before = np.where(i > 0, self.sums[i - 1], 0.0)
        inside = self.sums[i] - before
        value = np.where(fraction == 1, self.sums[i], before + fraction * inside)
        # n values out of a bin sum to n lower edges at least and n upper edges at most, whichever they are
        taken = asked - np.where(i > 0, self.n[i - 1], 0)
        width = taken * bin_edges(self.bins[i])[1] * (1 << LOW_BITS)
        error = np.where((fraction > 0) & (fraction < 1), np.minimum(width, inside), 0.0)
        return value / self.sums[-1], error / self.sums[-1]


def cut(reached: Counts, asked: Counts) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """(place of the bin in which the n-th weight lies, part of that bin that is taken), for each n asked.

    reached: weights of each bin and all before it.
    """
    i = np.searchsorted(reached, asked)
    before = np.where(i > 0, reached[i - 1], 0)
    return i, (asked - before) / (reached[i] - before)
