"""What fine-tuning changed: statistics per tensor and the histogram cube, from one streamed pass over a pair.

The cube counts weights by (tensor, score, bin), where the bin is the top 16 bits of the float32 score: sign
0, exponent and 7 bits of mantissa, so a bin is less than 0.8% wide. From it alone follow counts, sums of a
score and energy above any bin for any set of tensors; `select` refines within a bin by a second pass. Counts
and sums of scores are exact (`histogram`); the other sums are float64 over chunks in canonical order.

Two more scores stand beside relative and absolute change, to judge concentration by: r with larger epsilons. What
concentration is without choice is another matter (`null`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftknow_core.model.io.tensors import TensorMeta
from sftknow_core.update.counting import TINY, Counter, Sums, counter_for
from sftknow_core.update.histogram import square_sums_of, sums_of
from sftknow_core.update.pair import Pair, Progress, Span
from sftknow_core.update.scores import N_BINS, Score

__all__ = [
    "ALL_SCORES",
    "DELTA_VERSION",
    "PLAIN_SCORES",
    "SCORES",
    "TINY",
    "Cube",
    "Delta",
    "TensorDelta",
    "measure_delta",
]

DELTA_VERSION = 3
"""Goes up whenever the same pair would give other rows."""

SCORES = tuple(Score)
"""The order in which the cube numbers them."""

PLAIN_SCORES = (Score.RELATIVE, Score.ABSOLUTE)
"""What selecting needs."""

ALL_SCORES = tuple(score for score in SCORES if score is not Score.PERMUTED)
"""What a pass can count; the null is counted apart."""


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
    """Index into SCORES."""
    bin: NDArray[np.int32]
    """Top 16 bits of the float32 score, 0..32767."""
    n: NDArray[np.int64]
    sum_score: NDArray[np.float64]
    sum_d2: NDArray[np.float64]
    """||s - p||^2; NaN for scores other than relative and absolute."""

    @classmethod
    def joined(cls, parts: Sequence[Cube]) -> Cube:
        """The rows of all parts, one part after the other."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def in_order(self) -> Cube:
        """The same rows, ordered by (tensor, score, bin)."""
        order = np.lexsort((self.bin, self.score, self.tensor))
        return Cube(*(getattr(self, f.name)[order] for f in fields(self)))

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
        """Number of weights per bin over a region, int64 [N_BINS]; all 0 for a score not taken."""
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


def measure_delta(
    pair: Pair,
    progress: Progress | None = None,
    *,
    scores: Sequence[Score] = PLAIN_SCORES,
) -> Delta:
    """Statistics of every tensor and the cube for `scores` (of ALL_SCORES; relative is always in it), in one pass.

    Raises ModelError naming the tensor when a weight is NaN or infinite, or a change overflows.
    """
    wanted = tuple(score for score in ALL_SCORES if score in scores or score is Score.RELATIVE)
    own = local()

    def work(span: Span) -> Sums:
        counters: dict[bool, Counter] = own.__dict__.setdefault("counters", {})
        counter: Counter | None = None
        for chunk in pair.chunks_in(span):
            if counter is None:
                compiled = chunk.words is not None
                counter = counters[compiled] = counters.get(compiled) or counter_for(chunk, wanted)
            counter.add(chunk)
        return counter.take() if counter is not None else Sums()

    tensors: list[TensorDelta] = []
    parts: list[Cube] = []
    current: _TensorSums | None = None
    for span, sums in pair.map(work, pair.spans(), progress=progress):
        if current is None or current.meta is not span.meta:
            _close(current, tensors, parts)
            current = _TensorSums(span.meta, wanted)
        current.add(sums)
    _close(current, tensors, parts)
    notes = pair.notes if any(t.n_changed for t in tensors) else (*pair.notes, "the two models are identical")
    return Delta(tuple(tensors), Cube.joined(parts), notes)


def _close(sums: _TensorSums | None, tensors: list[TensorDelta], parts: list[Cube]) -> None:
    if sums is not None:
        rows = sums.rows()
        parts.extend(rows.values())
        tensors.append(sums.statistics(rows[Score.RELATIVE]))


class _TensorSums:
    """Sums over the spans of one tensor, taken in order."""

    def __init__(self, meta: TensorMeta, scores: Sequence[Score]) -> None:
        self.meta = meta
        self._scores = scores
        self._all = Sums()
        self._dense: dict[Score, dict[str, NDArray[Any]]] = {}

    def add(self, span: Sums) -> None:
        """Take one span in."""
        self._all.n_changed += span.n_changed
        self._all.sum_r_tiny += span.sum_r_tiny
        self._all.max_r = max(self._all.max_r, span.max_r)
        self._all.sum_p2 += span.sum_p2
        for score in self._scores:
            bins = span.bins[score]
            columns = {name: v for name, v in vars(bins).items() if name != "bins" and v is not None}
            if score not in self._dense:
                self._dense[score] = {name: np.zeros(N_BINS, v.dtype) for name, v in columns.items()}
            for name, values in columns.items():
                self._dense[score][name][bins.bins] += values

    def rows(self) -> dict[Score, Cube]:
        """The tensor's part of the cube, by score."""
        return {score: self._piece(score, dense) for score, dense in self._dense.items()}

    def _piece(self, score: Score, dense: dict[str, NDArray[Any]]) -> Cube:
        bins = np.flatnonzero(dense["n"]).astype(np.int32)
        n, low = dense["n"][bins], dense["low"][bins]
        if score is Score.RELATIVE:
            d2 = dense["d2"][bins]
        elif score is Score.ABSOLUTE:
            d2 = square_sums_of(bins, n, low, dense["squares"][bins])
        else:
            d2 = np.full(bins.size, np.nan)
        position = np.full(bins.size, self.meta.position, dtype=np.int32)
        number = np.full(bins.size, SCORES.index(score), dtype=np.int8)
        return Cube(position, number, bins, n, sums_of(bins, n, low), d2)

    def statistics(self, relative: Cube) -> TensorDelta:
        """The tensor's row, from the sums and the bins of r."""
        m, found = self.meta, self._all
        return TensorDelta(
            m.position,
            m.name,
            m.layer,
            m.kind,
            m.module,
            m.numel,
            found.n_changed,
            float(relative.sum_score.sum()),
            found.sum_r_tiny,
            found.max_r,
            float(relative.sum_d2.sum()),
            found.sum_p2,
        )
