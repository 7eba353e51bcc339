"""What a command on weights reads and what memory it takes, reckoned from the sizes of the tensors alone.

The same numbers announce the work before it begins (preflight.py) and drive its progress bar (`Meter`): bytes done of
all, and from them the time left. What earlier runs took says nothing here, a pair's size does (else estimate.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sftknow_core.pipeline.reporter import Reporter

if TYPE_CHECKING:
    from sftknow_core.model.io.tensors import TensorMeta
    from sftknow_core.update.output_layout import OutputLayout
    from sftknow_core.update.pair import Pair
    from sftknow_core.update.spec import RestoreSpec

SELECT_PASSES = 2
"""Passes over the region that find a selection: by bin, then within the bins that matter (update/ranking.py)."""

TEMPORARY_BYTES = 64
"""Upper estimate of a weight's temporaries while it is computed on: both models as stored and in float32, the
difference in float32 and float64, score, key and masks."""

SPANS_A_THREAD = 8
"""Spans of weights that a thread accounts for: begun, waiting in order (update/pair.py), and copied while they are
hashed or packed."""

REFERENCE_BYTES = 12
"""A weight of the region, for strategy random-reference, which holds a permutation."""

PERMUTED_PER_SECOND = 100_000_000
"""Weights that a thread permutes and counts in a second (some 9 ns each, in a core's cache)."""

BYTES_PER_SECOND = 1_000_000_000
"""Read and computed on, of the time estimate."""

UNITS_PER_BYTE = 1 / BYTES_PER_SECOND
"""A unit of work stands for about a second."""


@dataclass(frozen=True)
class Pass:
    """One stage's reading."""

    name: str
    n_bytes: int
    """Of all its passes together."""
    times: int = 1
    """How often it goes over the same tensors."""
    seconds: float = 0.0
    """Of computing that reading does not cover."""

    @property
    def units(self) -> float:
        """Work that it announces."""
        return self.n_bytes * UNITS_PER_BYTE + self.seconds


def compare_passes(pair: Pair) -> list[Pass]:
    """What `delta` reads: everything once, and once more for the null of concentration, which permutes what it read
    many times (update/null.py)."""
    import torch

    from sftknow_core.update.null import n_permutations

    both = sum(_n_bytes(meta) for meta in (*pair.metas, *pair.tuned.metas))
    permuted = pair.n_weights * n_permutations(pair.n_weights)
    seconds = permuted / PERMUTED_PER_SECOND / torch.get_num_threads()
    return [Pass("compare", both), Pass("null", both, seconds=seconds)]


def restore_passes(
    pair: Pair,
    spec: RestoreSpec,
    region: Sequence[TensorMeta],
    layout: OutputLayout,
    *,
    folder: bool,
    patch: bool,
) -> list[Pass]:
    """What `restore` reads; folder: whether the model is written (else its id is found without); patch: whether
    one is written."""
    within, tuned_within, whole = _sizes(pair, region)
    ranked = spec.k_percent is not None
    found = [Pass("select", SELECT_PASSES * within, SELECT_PASSES)] if ranked else []
    if folder:
        found += [Pass("write", whole), Pass("verify", layout.n_bytes)]
    else:
        found += [Pass("survey", within), Pass("hash", whole)]
    return [*found, Pass("patch", within + tuned_within)] if patch else found


def rebuild_passes(pair: Pair, region: Sequence[TensorMeta], layout: OutputLayout) -> list[Pass]:
    """What `rebuild` reads: both models once, and what was written."""
    return [Pass("write", _sizes(pair, region)[2]), Pass("verify", layout.n_bytes)]


def memory_bytes(pair: Pair, spec: RestoreSpec | None, n_region: int) -> int:
    """Upper estimate of what a pass holds at once, whatever the size of the models; the libraries come on
    top."""
    import torch

    from sftknow_core.update.pair import SPAN_WEIGHTS

    n_threads = torch.get_num_threads() if pair.on_cpu else 1
    width = max(meta.dtype.itemsize for meta in (*pair.metas, *pair.tuned.metas))
    largest = max(meta.numel for meta in pair.metas)
    chunk, span = min(pair.chunk_size, largest), min(SPAN_WEIGHTS, largest)
    held = n_threads * (chunk * TEMPORARY_BYTES + SPANS_A_THREAD * span * width)
    if spec is not None and spec.strategy == "random-reference":
        held += n_region * REFERENCE_BYTES
    return held


def null_bytes(pair: Pair) -> int:
    """Upper estimate of what permuting the changes holds at once (update/null.py): a small pair itself, of a large one
    some chunks for each thread, and the bins of its draws or tensors."""
    import torch

    from sftknow_core.update.null import BIN_BYTES, GROUP, LARGE_DRAWS, SMALL_WEIGHTS, WEIGHT_BYTES

    n_threads = torch.get_num_threads()
    n_tensors, largest = len(pair.metas), max(meta.numel for meta in pair.metas)
    if pair.n_weights <= SMALL_WEIGHTS:
        return pair.n_weights * WEIGHT_BYTES + n_threads * largest * WEIGHT_BYTES + n_tensors * BIN_BYTES
    return n_threads * GROUP * min(pair.chunk_size, largest) * 2 * WEIGHT_BYTES + LARGE_DRAWS * 8 * BIN_BYTES


def _sizes(pair: Pair, region: Sequence[TensorMeta]) -> tuple[int, int, int]:
    """Bytes of (both models inside the region, tuned inside it, both inside and tuned outside)."""
    tuned_within = sum(_n_bytes(pair.tuned.metas[meta.position]) for meta in region)
    base_within = sum(_n_bytes(pair.metas[meta.position]) for meta in region)
    return base_within + tuned_within, tuned_within, base_within + sum(map(_n_bytes, pair.tuned.metas))


def _n_bytes(meta: TensorMeta) -> int:
    return meta.numel * meta.dtype.itemsize


class Meter:
    """Announces several stages at once, so that the time left covers all of them."""

    def __init__(self, reporter: Reporter, passes: Sequence[Pass]) -> None:
        self._reporter = reporter
        self._passes = {p.name: p for p in passes}
        self._shown = dict.fromkeys(self._passes, 0.0)
        reporter.expect(sum(p.units for p in passes))

    def stage(self, name: str, text: str) -> Callable[[int, int], None]:
        """Begin a stage; returns what takes its progress, (done, total) of each pass over the weights."""
        stage = self._passes[name]
        n_begun, last = 0, 0
        self._reporter.stage(text)

        def progress(done: int, total: int) -> None:
            nonlocal n_begun, last
            n_begun += done < last  # the next pass has begun
            last = done
            share = min(1.0, (n_begun + done / total) / stage.times)
            done_of = f"{size(share * stage.n_bytes)} of {size(stage.n_bytes)}"
            self._reporter.text = f"{text}: {share:.0%}" if stage.seconds else f"{text}: {done_of}"
            self._show(name, share)

        return progress

    def done(self, name: str) -> None:
        """A stage is over, with less work than was announced or without progress of its own."""
        self._show(name, 1.0)

    def _show(self, name: str, share: float) -> None:
        more = (share - self._shown[name]) * self._passes[name].units
        self._shown[name] = share
        self._reporter.advance(more)


def size(n_bytes: float) -> str:
    """Bytes for people: "512 B", "3.1 MB", "16.1 GB"."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:,.1f} {name}"
    return f"{n_bytes:.0f} B"
