"""A plan applied piece by piece with nothing written: what a hash or a patch is taken from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from sftknow_core.model.io.tensors import TensorMeta
from sftknow_core.update.apply import Applier, SpanResult
from sftknow_core.update.pair import Pair, Progress, Span
from sftknow_core.update.select import Plan


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
