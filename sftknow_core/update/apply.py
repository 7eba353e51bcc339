"""Computes the output weights of a plan span by span: first in parallel what needs no order, then the ties.

Weights strictly before the cut are base's, the others tuned's, whichever thread comes first. Of those equal
to the cut the first few in canonical order go back too; how many of them lie in earlier spans is known only
when those are done, so `settle` puts them right afterwards, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from sftknow_core.model.io.tensors import TensorMeta
from sftknow_core.update import restore_kernels
from sftknow_core.update.pair import Chunk, Pair, Progress, Span, as_integers, words_of
from sftknow_core.update.ranking import Cut
from sftknow_core.update.scores import MAX_BITS, check_pattern, relative
from sftknow_core.update.select import Plan
from sftknow_core.update.strategies import STRATEGIES, Order

Into = Callable[[Span, torch.dtype], torch.Tensor]
"""Gives the 1-D tensor [span's weights] of a dtype to write a span's output to."""


@dataclass
class Ties:
    """The weights of a span whose key equals the cut's; arrays of [ties], in order."""

    places: list[NDArray[np.int64]] = field(default_factory=list)
    """Index within the span."""
    base: list[torch.Tensor] = field(default_factory=list)
    """Base's values in the output's dtype."""
    r: list[NDArray[np.float64]] = field(default_factory=list)
    d2: list[NDArray[np.float64]] = field(default_factory=list)
    changed: list[NDArray[np.bool_]] = field(default_factory=list)


@dataclass
class SpanResult:
    """A span's output and what it adds to the report."""

    out: torch.Tensor
    n_restored: int = 0
    n_touched: int = 0
    n_changed: int = 0
    n_ties: int = 0
    sum_r: float = 0.0
    sum_r_restored: float = 0.0
    sum_d2: float = 0.0
    """||s - p||^2."""
    sum_out_d2: float = 0.0
    """||out - p||^2."""
    sum_out_d: float = 0.0
    """<out - p, s - p>; counted only where a weight may end between the two models or beyond them."""
    ties: Ties = field(default_factory=Ties)


class Applier:
    """Applies one plan to the spans of its region. `counting` False leaves the sums and touched counts out."""

    def __init__(self, pair: Pair, plan: Plan, into: Into, *, counting: bool = True) -> None:
        self._pair = pair
        self._plan = plan
        self._into = into
        self._counting = counting
        self._left = plan.cut.ties if plan.cut is not None else 0
        self._cut = plan.cut
        self._note_places = False
        if plan.cut is not None and plan.order is not None:
            scores_zero = plan.threshold == 0 and not plan.zeros_hide
            if 0 < plan.cut.ties == plan.n_equal:  # all of them: no need to tell them apart
                self._cut = Cut(plan.cut.key + 1, 0) if plan.cut.key < MAX_BITS else plan.cut
                self._left = self._left if self._cut is plan.cut else 0
            # equal bits in both models: whichever is taken, the weight is the same
            self._note_places = self._left > 0 and not scores_zero

    def work(self, span: Span) -> SpanResult:
        """The span's output without its ties. May run in any thread."""
        order = self._plan.order
        chunks = self._pair.chunks_in(span, compiled=order is not None and order.score is not None)
        out: torch.Tensor | None = None
        result: SpanResult | None = None
        for chunk in chunks:
            if out is None or result is None:
                out = self._into(span, chunk.exact_dtype)
                result = SpanResult(out)
            first = chunk.start - span.start
            self._chunk(chunk, out[first : first + chunk.base.numel()], first, result)
        assert result is not None
        return result

    def settle(self, result: SpanResult) -> None:
        """Restore the span's share of the ties. To be called span after span in canonical order."""
        n = min(self._left, result.n_ties)
        self._left -= n
        result.n_restored += n
        ties = result.ties
        if not ties.places:
            return
        places = torch.from_numpy(np.concatenate(ties.places)[:n]).to(result.out.device)
        values = torch.cat(ties.base)[:n].to(result.out.device, result.out.dtype)
        as_integers(result.out).index_copy_(0, places, as_integers(values))
        if self._counting:
            result.n_touched += int(np.concatenate(ties.changed)[:n].sum())
            result.sum_r_restored += float(np.concatenate(ties.r)[:n].sum())
            result.sum_out_d2 += float(np.concatenate(ties.d2)[n:].sum())

    def _chunk(self, chunk: Chunk, out: torch.Tensor, first: int, result: SpanResult) -> None:
        plan = self._plan
        if self._cut is None or plan.order is None:
            self._whole(chunk, out, result)
        elif chunk.words is not None and plan.order.score is not None:
            self._by_kernel(chunk, plan.order, self._cut, out, first, result)
        else:
            self._by_tensors(chunk, plan.order, self._cut, out, first, result)

    def _by_kernel(
        self, chunk: Chunk, order: Order, cut: Cut, out: torch.Tensor, first: int, result: SpanResult
    ) -> None:
        assert chunk.words is not None
        base, tuned, half = chunk.words
        direct = out.dtype is chunk.exact_dtype and out.device.type == "cpu"
        target = out if direct else torch.empty(len(base), dtype=chunk.exact_dtype)
        places = np.empty(len(base) if self._note_places else 0, np.int32)
        sums = np.zeros(4 if self._counting else 0)
        restored, touched, ties, changed, largest = restore_kernels.restore(
            base, tuned, half, order.is_relative, order.highest_first, np.int32(cut.key),
            words_of(target), places, sums,
        )  # fmt: skip
        check_pattern(largest, chunk)
        if not direct:
            out.copy_(target)
        result.n_restored += restored
        result.n_ties += ties
        if self._counting:
            result.n_touched += touched
            result.n_changed += changed
            result.sum_r += sums[0]
            result.sum_r_restored += sums[1]
            result.sum_d2 += sums[2]
            result.sum_out_d2 += sums[3]
        if self._note_places and ties:
            self._note(chunk, places[:ties].astype(np.int64), first, result.ties)

    def _by_tensors(
        self, chunk: Chunk, order: Order, cut: Cut, out: torch.Tensor, first: int, result: SpanResult
    ) -> None:
        keys = order.keys(chunk)
        taken = keys < cut.key
        ties = (keys == cut.key).nonzero().view(-1)
        # tuned ^ (tuned ^ base) is base, bit for bit; a select by mask is several times slower
        moved = torch.bitwise_xor(chunk.base_bits, chunk.tuned_bits)
        kept = moved.mul(taken.logical_not()) if self._counting else None
        _put(out, moved.mul_(taken).bitwise_xor_(chunk.tuned_bits), chunk.exact_dtype)
        result.n_restored += int(taken.sum())
        result.n_ties += ties.numel()
        if kept is not None:
            n_kept, n_changed = int(torch.count_nonzero(kept)), int(chunk.changed.sum())
            result.n_changed += n_changed
            result.n_touched += n_changed - n_kept
            r = relative(chunk)
            result.sum_r += float(r.sum(dtype=torch.float64))
            result.sum_r_restored += float(r[taken].sum(dtype=torch.float64))
            result.sum_d2 += float(chunk.d2.sum())
            stays = keys > cut.key if self._note_places else taken.logical_not()
            result.sum_out_d2 += float(chunk.d2[stays].sum())
        if self._note_places and ties.numel():
            self._note(chunk, ties.cpu().numpy(), first, result.ties)

    def _whole(self, chunk: Chunk, out: torch.Tensor, result: SpanResult) -> None:
        """Interpolation and blocks: every weight of the chunk is treated alike."""
        plan, n = self._plan, chunk.base.numel()
        if plan.spec.alpha is not None:
            values = STRATEGIES.get(plan.spec.strategy).function(chunk, float(plan.spec.alpha))
        else:
            values = (chunk.base if chunk.meta.name in plan.whole else chunk.tuned).to(chunk.exact_dtype)
            result.n_restored += n if chunk.meta.name in plan.whole else 0
        out.copy_(values)
        if self._counting:
            touched = int(Chunk(chunk.meta, chunk.start, values, chunk.tuned).changed.sum())
            result.n_changed += int(chunk.changed.sum())
            result.n_touched += touched
            result.n_restored += touched if plan.spec.alpha is not None else 0
            sum_r = float(relative(chunk).sum(dtype=torch.float64))
            result.sum_r += sum_r
            result.sum_r_restored += sum_r if chunk.meta.name in plan.whole else 0.0
            result.sum_d2 += float(chunk.d2.sum())
            left = (values.to(torch.float32) - chunk.p).to(torch.float64)
            if plan.spec.alpha is not None:
                result.sum_out_d += float((left * chunk.d.to(torch.float64)).sum())
            result.sum_out_d2 += float(left.square_().sum())

    def _note(self, chunk: Chunk, places: NDArray[np.int64], first: int, ties: Ties) -> None:
        at = torch.from_numpy(places).to(chunk.base.device)
        base, tuned = chunk.base[at], chunk.tuned[at]
        part = Chunk(chunk.meta, chunk.start, base, tuned)
        ties.places.append(places + first)
        ties.base.append(base.to(chunk.exact_dtype))
        if self._counting:
            ties.r.append(relative(part).to(torch.float64).cpu().numpy())
            ties.d2.append(part.d2.cpu().numpy())
            ties.changed.append(part.changed.cpu().numpy())


def _put(out: torch.Tensor, bits: torch.Tensor, dtype: torch.dtype) -> None:
    if out.dtype is dtype:
        as_integers(out).copy_(bits)
    else:
        out.copy_(bits.view(dtype))


# A plan applied piece by piece with nothing written: what a hash or a patch is taken from.


@dataclass(frozen=True)
class RestoredChunk:
    """Weights [start, start + len) of one tensor of the restored model; `start` is a multiple of 8."""

    meta: TensorMeta
    """The tuned model's."""
    start: int
    values: torch.Tensor
    """1-D on the CPU, in the narrowest dtype that holds base and tuned exactly."""


def restored_chunks(
    pair: Pair, plan: Plan, *, whole: bool, progress: Progress | None = None
) -> Iterator[RestoredChunk]:
    """The restored weights in canonical order: of the whole model, or of the plan's region only."""

    def into(span: Span, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(span.stop - span.start, dtype=dtype, device=pair.place)

    applier = Applier(pair, plan, into, counting=False)
    region = {meta.name for meta in plan.metas}

    def work(span: Span) -> SpanResult:
        if span.meta.name in region:
            return applier.work(span)
        return SpanResult(pair.tuned.read(span.meta.name, span.start, span.stop))

    spans = pair.spans() if whole else pair.spans(plan.metas)
    for span, result in pair.map(work, spans, progress=progress):
        if span.meta.name in region:
            applier.settle(result)
        yield RestoredChunk(pair.tuned.metas[span.meta.position], span.start, result.out.cpu())
