"""Writes a restored model: base's weights where a plan says so, tuned's everywhere else.

One pass over both models gives every output weight from the two inputs alone, so what the target held
before never matters: k may go up or down without going back to the start. Restored weights are copies of
base's bits, the others of tuned's; restoring 0% is tuned and 100% is base on the region, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from sftknow_core.errors import ModelError
from sftknow_core.model.io.tensor_writer import CheckpointWriter, copy_side_files, new_folder
from sftknow_core.model.io.tensors import ModelSource, TensorMeta, TensorSource
from sftknow_core.update.apply import Applier, Into, SpanResult
from sftknow_core.update.output_layout import OUTPUT_DTYPES, layout_for
from sftknow_core.update.pair import SPAN_WEIGHTS, Pair, Progress, Span
from sftknow_core.update.report import RestoreReport, Rounding, Tally
from sftknow_core.update.select import Plan

__all__ = ["OUTPUT_DTYPES", "RestoreReport", "move_to", "restore_into", "survey", "write_restored"]

Sink = Callable[[Span, torch.Tensor], None]
"""Takes output weights, span by span in canonical order."""


def survey(pair: Pair, plan: Plan, *, progress: Progress | None = None) -> RestoreReport:
    """The report of a plan without writing anything."""
    scratch = _Scratch(pair)
    report = _apply(pair, plan, scratch.into, lambda span, _: scratch.done(span), progress, whole=False)
    assert report is not None
    return report


def restore_into(
    target: nn.Module | Mapping[str, torch.Tensor],
    pair: Pair,
    plan: Plan,
    *,
    progress: Progress | None = None,
) -> RestoreReport:
    """Write the restored weights into a working model, in place, from base and tuned alone.

    `target`: a model of the same architecture, or its parameters by canonical name. Where a parameter's
    dtype is narrower than the two models', values are rounded. Raises ModelError when a parameter is
    missing or misshapen or is base's or tuned's own; nothing is written then.
    """
    report = _into_model(target, pair, plan, progress, counting=True)
    assert report is not None
    return report


def move_to(
    target: nn.Module | Mapping[str, torch.Tensor],
    pair: Pair,
    plan: Plan,
    *,
    progress: Progress | None = None,
) -> None:
    """As `restore_into`, without a report: for a slider, where only the weights matter. A third faster."""
    _into_model(target, pair, plan, progress, counting=False)


def _into_model(
    target: nn.Module | Mapping[str, torch.Tensor],
    pair: Pair,
    plan: Plan,
    progress: Progress | None,
    *,
    counting: bool,
) -> RestoreReport | None:
    parameters = dict(target.named_parameters()) if isinstance(target, nn.Module) else dict(target)
    flat = {meta.name: _flat(parameters, meta) for meta in pair.metas}
    for source in (pair.base, pair.tuned):
        if isinstance(source, ModelSource) and source.shares_memory(flat.values()):
            raise ModelError(
                f"the working model is {source.label} of the pair itself; load a third copy to work on."
            )
    region = {meta.name for meta in plan.metas}

    def into(span: Span, _: torch.dtype) -> torch.Tensor:
        return flat[span.meta.name][span.start : span.stop]

    def put(span: Span, values: torch.Tensor) -> None:
        if span.meta.name not in region:
            into(span, values.dtype).copy_(values)

    with torch.no_grad():
        return _apply(pair, plan, into, put, progress, counting=counting)


def write_restored(
    pair: Pair,
    plan: Plan,
    out_dir: Path,
    *,
    dtype: str = "exact",
    card: str | None = None,
    sync: bool = True,
    progress: Progress | None = None,
) -> RestoreReport:
    """Write the restored model as a new folder that transformers loads, laid out like tuned's (an adapter:
    base's).

    `dtype`: "exact" (per tensor the narrowest that holds both models), "base", "tuned", or a name. `card`
    becomes README.md. Config, generation config and tokenizer come from tuned. The folder appears whole or
    not at all; `sync`: see `new_folder`. Raises SpecError when it exists or a parameter is wrong, ModelError
    when the disk is full.
    """
    layout = layout_for(pair, dtype)
    with new_folder(out_dir, sync=sync) as folder:
        copy_side_files(list(layout.folders), folder, layout.widest)
        if card is not None:
            (folder / "README.md").write_text(card, encoding="utf-8")
        with CheckpointWriter(layout.template, folder, layout.dtypes) as writer:
            gap, scratch = _Gap(), _Scratch(pair)

            def put(span: Span, values: torch.Tensor) -> None:
                gap.add(values, layout.dtypes[span.meta.name])
                writer.write(span.meta.name, span.start, values)
                scratch.done(span)

            report = _apply(pair, plan, scratch.into, put, progress)
    assert report is not None
    return replace(report, rounding=gap.found)


class _Gap:
    """Rounding over the spans of a model."""

    def __init__(self) -> None:
        self.found: Rounding | None = None

    def add(self, values: torch.Tensor, dtype: torch.dtype) -> None:
        """Count what a span loses in that dtype."""
        if torch.promote_types(values.dtype, dtype) is dtype:
            return
        off = (values - values.to(dtype).to(values.dtype)).abs_()
        before = self.found or Rounding(0, 0.0)
        self.found = Rounding(before.n + int(torch.count_nonzero(off)), max(before.largest, float(off.max())))


def _apply(
    pair: Pair,
    plan: Plan,
    into: Into,
    sink: Sink,
    progress: Progress | None,
    *,
    counting: bool = True,
    whole: bool = True,
) -> RestoreReport | None:
    """Compute every output weight of the region once, of the whole model if asked; `sink` takes them in order."""
    tally = Tally(pair, plan)
    applier = Applier(pair, plan, into, counting=counting)
    region = {meta.name for meta in plan.metas}

    def work(span: Span) -> SpanResult:
        if span.meta.name in region:
            return applier.work(span)
        return SpanResult(_tuned_copy(pair.tuned, span))

    for span, result in pair.map(work, pair.spans(None if whole else plan.metas), progress=progress):
        if span.meta.name in region:
            applier.settle(result)
            tally.add(span.meta.name, result)
        sink(span, result.out)
    return tally.report() if counting else None


def _tuned_copy(tuned: TensorSource, span: Span) -> torch.Tensor:
    return tuned.read(span.meta.name, span.start, span.stop)


class _Scratch:
    """Memory for the spans of one pass: what one span was written from is taken for a later one."""

    def __init__(self, pair: Pair) -> None:
        self._place = pair.place
        self._free: list[torch.Tensor] = []
        self._taken: dict[Span, torch.Tensor] = {}

    def into(self, span: Span, dtype: torch.dtype) -> torch.Tensor:
        """Room for a span; any thread may ask."""
        n_bytes = SPAN_WEIGHTS * dtype.itemsize
        try:
            memory = self._free.pop()
        except IndexError:
            memory = torch.empty(0, dtype=torch.uint8)
        if len(memory) < n_bytes:
            memory = torch.empty(n_bytes, dtype=torch.uint8, device=self._place)
        self._taken[span] = memory
        return memory[: (span.stop - span.start) * dtype.itemsize].view(dtype)

    def done(self, span: Span) -> None:
        """A span's room is no longer needed."""
        if span in self._taken:
            self._free.append(self._taken.pop(span))


def _flat(parameters: Mapping[str, torch.Tensor], meta: TensorMeta) -> torch.Tensor:
    parameter = parameters.get(meta.name)
    if parameter is None or tuple(parameter.shape) != meta.shape or not parameter.is_contiguous():
        found = (
            "missing"
            if parameter is None
            else f"{list(parameter.shape)}, contiguous {parameter.is_contiguous()}"
        )
        raise ModelError(
            f"the working model's tensor {meta.name} is {found}; expected {list(meta.shape)}, contiguous. "
            "Load it from base or tuned."
        )
    return parameter.detach().view(-1)
