"""What fine-tuning changed: statistics per tensor and the histogram cube, from one streamed pass over a pair.

The cube counts weights by (tensor, score, bin), where the bin is the top 16 bits of the float32 score: sign
0, exponent and 7 bits of mantissa, so a bin is less than 0.8% wide. From it alone follow counts, sums of a
score and energy above any bin for any set of tensors; `select` refines within a bin by a second pass. Sums
are float64, over chunks in canonical order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from sftknow_core.model.tensors import TensorMeta
from sftknow_core.update.pair import Chunk, Pair, Progress
from sftknow_core.update.scores import N_BINS, Score, absolute, bits, relative

TINY = 1e-6
"""|p| below which r says more about the epsilon than about the change."""

SCORES = (Score.RELATIVE, Score.ABSOLUTE)


@dataclass(frozen=True)
class TensorDelta:
    """How one tensor changed."""

    position: int
    name: str
    layer: int | None
    kind: str
    module: str
    numel: int
    n_changed: int
    """Weights whose bits differ."""
    sum_r: float
    """Sum of the relative change r."""
    sum_r_tiny: float
    """The part of `sum_r` from weights with |p| < TINY."""
    max_r: float
    sum_d2: float
    """||s - p||^2."""
    sum_p2: float
    """||p||^2."""


@dataclass(frozen=True)
class Cube:
    """Histogram rows as columns of equal length, ordered by (tensor, score, bin); empty bins are left out."""

    tensor: NDArray[np.int32]
    """TensorDelta.position."""
    score: NDArray[np.int8]
    """Index into SCORES: 0 relative, 1 absolute."""
    bin: NDArray[np.int32]
    """Top 16 bits of the float32 score, 0..32767."""
    n: NDArray[np.int64]
    sum_score: NDArray[np.float64]
    sum_d2: NDArray[np.float64]

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Column name -> values, as pyarrow.table takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Delta:
    """Statistics of one pair."""

    tensors: tuple[TensorDelta, ...]
    """One a tensor, in canonical order."""
    cube: Cube
    notes: tuple[str, ...] = ()

    @cached_property
    def n_weights(self) -> int:
        """Weights in all."""
        return sum(t.numel for t in self.tensors)

    @cached_property
    def n_changed(self) -> int:
        """Weights whose bits differ; 0 for identical models."""
        return sum(t.n_changed for t in self.tensors)

    def columns(self) -> dict[str, list[object]]:
        """`tensors` as columns, as pyarrow.table takes them."""
        return {field.name: [getattr(t, field.name) for t in self.tensors] for field in fields(TensorDelta)}

    def of(self, metas: Sequence[TensorMeta]) -> tuple[TensorDelta, ...]:
        """The statistics of a region's tensors."""
        return tuple(self.tensors[meta.position] for meta in metas)

    def histogram(self, metas: Sequence[TensorMeta], score: Score) -> NDArray[np.int64]:
        """Number of weights per bin over a region, int64 [N_BINS]."""
        rows = self._rows(metas, score)
        counts = np.zeros(N_BINS, dtype=np.int64)
        np.add.at(counts, self.cube.bin[rows], self.cube.n[rows])
        return counts

    def sums(
        self, metas: Sequence[TensorMeta], score: Score
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(sum of the score, ||d||^2) per bin over a region, float64 [N_BINS] each."""
        rows = self._rows(metas, score)
        found = []
        for column in (self.cube.sum_score, self.cube.sum_d2):
            sums = np.zeros(N_BINS)
            np.add.at(sums, self.cube.bin[rows], column[rows])
            found.append(sums)
        return found[0], found[1]

    def _rows(self, metas: Sequence[TensorMeta], score: Score) -> NDArray[np.bool_]:
        positions = np.array([meta.position for meta in metas], dtype=np.int32)
        rows: NDArray[np.bool_] = np.isin(self.cube.tensor, positions) & (
            self.cube.score == SCORES.index(score)
        )
        return rows


def measure_delta(pair: Pair, progress: Progress | None = None) -> Delta:
    """Statistics of every tensor and the cube, in one pass.

    Raises ModelError naming the tensor when a weight is NaN or infinite, or a change overflows.
    """
    tensors: list[TensorDelta] = []
    parts: list[Cube] = []
    open_tensor: _Accumulator | None = None
    for chunk in pair.chunks(progress=progress):
        if open_tensor is None or open_tensor.meta is not chunk.meta:
            _finish(open_tensor, tensors, parts)
            open_tensor = _Accumulator(chunk.meta)
        open_tensor.add(chunk)
    _finish(open_tensor, tensors, parts)
    notes = pair.notes if any(t.n_changed for t in tensors) else (*pair.notes, "the two models are identical")
    return Delta(tuple(tensors), _join(parts), notes)


def _finish(accumulator: _Accumulator | None, tensors: list[TensorDelta], parts: list[Cube]) -> None:
    if accumulator is not None:
        tensors.append(accumulator.statistics())
        parts.extend(accumulator.rows())


class _Accumulator:
    """Sums over the chunks of one tensor."""

    def __init__(self, meta: TensorMeta) -> None:
        self.meta = meta
        self.n_changed = 0
        self.sum_r = self.sum_r_tiny = self.max_r = self.sum_d2 = self.sum_p2 = 0.0
        self._n = np.zeros((len(SCORES), N_BINS), dtype=np.int64)
        self._sums = np.zeros((len(SCORES), 2, N_BINS))

    def add(self, chunk: Chunk) -> None:
        """Take one chunk in."""
        r = relative(chunk)
        r64 = r.to(torch.float64)
        self.n_changed += int(chunk.changed.sum())
        self.sum_r += float(r64.sum())
        self.sum_r_tiny += float(r64[chunk.p.abs() < TINY].sum())
        self.max_r = max(self.max_r, float(r.max()))
        self.sum_d2 += float(chunk.d2.sum())
        self.sum_p2 += float(chunk.p.to(torch.float64).square_().sum())
        self._count(0, r, r64, chunk)
        a = absolute(chunk)
        self._count(1, a, a.to(torch.float64), chunk)

    def _count(self, index: int, score: torch.Tensor, weights: torch.Tensor, chunk: Chunk) -> None:
        bins = bits(score) >> 16
        self._n[index] += torch.bincount(bins, minlength=N_BINS).cpu().numpy()
        for row, values in enumerate((weights, chunk.d2)):
            self._sums[index, row] += torch.bincount(bins, weights=values, minlength=N_BINS).cpu().numpy()

    def statistics(self) -> TensorDelta:
        """The tensor's row."""
        m = self.meta
        return TensorDelta(
            m.position,
            m.name,
            m.layer,
            m.kind,
            m.module,
            m.numel,
            self.n_changed,
            self.sum_r,
            self.sum_r_tiny,
            self.max_r,
            self.sum_d2,
            self.sum_p2,
        )

    def rows(self) -> Iterable[Cube]:
        """The tensor's part of the cube, one piece a score."""
        for index in range(len(SCORES)):
            used = np.flatnonzero(self._n[index])
            yield Cube(
                np.full(used.size, self.meta.position, dtype=np.int32),
                np.full(used.size, index, dtype=np.int8),
                used.astype(np.int32),
                self._n[index, used],
                self._sums[index, 0, used],
                self._sums[index, 1, used],
            )


def _join(parts: Sequence[Cube]) -> Cube:
    return Cube(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Cube)))
