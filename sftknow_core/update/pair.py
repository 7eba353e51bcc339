"""Two models of one shape, base and tuned, read side by side in chunks.

Everything in this room streams over a `Pair` in canonical order (tensor by tensor, flat index within a
tensor), so its memory is bounded by a chunk and its sums are taken in one fixed order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch

from sftknow_core.errors import ModelError
from sftknow_core.model.tensors import TensorMeta, TensorSource

CHUNK_WEIGHTS = 1 << 20
"""Weights read at once. Sums are rounded chunk by chunk, so the size is part of the algorithm's version."""

Progress = Callable[[int, int], None]
"""Called with (weights done, weights in all); may raise to stop the pass."""


@dataclass(frozen=True)
class Chunk:
    """Weights [start, start + len) of one tensor in both models; all tensors 1-D."""

    meta: TensorMeta
    start: int
    base: torch.Tensor
    """As stored."""
    tuned: torch.Tensor
    """As stored."""

    @cached_property
    def p(self) -> torch.Tensor:
        """Base weights in float32."""
        return self.base.to(torch.float32)

    @cached_property
    def s(self) -> torch.Tensor:
        """Tuned weights in float32."""
        return self.tuned.to(torch.float32)

    @cached_property
    def d(self) -> torch.Tensor:
        """s - p in float32."""
        return self.s - self.p

    @cached_property
    def d2(self) -> torch.Tensor:
        """(s - p)^2 in float64, of the float32 difference."""
        return self.d.to(torch.float64).square_()

    @cached_property
    def exact_dtype(self) -> torch.dtype:
        """The narrowest dtype that holds both models' values exactly."""
        return torch.promote_types(self.base.dtype, self.tuned.dtype)

    @cached_property
    def changed(self) -> torch.Tensor:
        """Where the bits differ (bool), in the dtype that holds both exactly; -0.0 against 0.0 differs."""
        width = torch.int64 if self.exact_dtype.itemsize == 8 else torch.int32
        width = torch.int16 if self.exact_dtype.itemsize == 2 else width
        one, other = self.base.to(self.exact_dtype), self.tuned.to(self.exact_dtype)
        return one.view(width) != other.view(width)


class Pair:
    """A base and a tuned model whose tensors were checked to correspond."""

    def __init__(
        self, base: TensorSource, tuned: TensorSource, *, device: torch.device | None = None
    ) -> None:
        """Check the two against each other; `device` is where chunks are computed on (None: where they lie).

        Raises ModelError naming the first tensor that does not correspond.
        """
        self.base = base
        self.tuned = tuned
        self.device = device
        self.notes = check_pair(base, tuned)
        self.metas = base.metas
        self.n_weights = sum(meta.numel for meta in self.metas)

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Index of each tensor's first weight when the whole model is flattened in canonical order."""
        offsets, total = {}, 0
        for meta in self.metas:
            offsets[meta.name] = total
            total += meta.numel
        return offsets

    def chunks(
        self,
        metas: Iterable[TensorMeta] | None = None,
        *,
        size: int = CHUNK_WEIGHTS,
        progress: Progress | None = None,
    ) -> Iterator[Chunk]:
        """Both models' weights over `metas` (None: all), at most `size` at once, in canonical order."""
        chosen = self.metas if metas is None else tuple(metas)
        total = sum(meta.numel for meta in chosen)
        done = 0
        for meta in chosen:
            for start in range(0, meta.numel, size):
                stop = min(start + size, meta.numel)
                base = self._moved(self.base.read(meta.name, start, stop))
                yield Chunk(meta, start, base, self._moved(self.tuned.read(meta.name, start, stop)))
                done += stop - start
                if progress is not None:
                    progress(done, total)

    def close(self) -> None:
        """Close both sources' files."""
        self.base.close()
        self.tuned.close()

    def _moved(self, values: torch.Tensor) -> torch.Tensor:
        return values if self.device is None else values.to(self.device)


def check_pair(base: TensorSource, tuned: TensorSource) -> tuple[str, ...]:
    """What is worth knowing about a pair that fits; ModelError naming the first tensor that does not.

    Names, order, shapes and tied tensors must agree; dtypes may differ and are noted.
    """
    where = f"base {base.label} and tuned {tuned.label} do not fit together"
    if dict(base.tied) != dict(tuned.tied):
        alias = sorted(set(base.tied.items()) ^ set(tuned.tied.items()))[0][0]
        owner = "base" if alias in base.tied else "tuned"
        raise ModelError(
            f"{where}: {alias} is shared with another tensor in {owner} but not in the other model. "
            "Save both with the same tie_word_embeddings."
        )
    ours, theirs = {m.name for m in base.metas}, {m.name for m in tuned.metas}
    for one, other in zip(base.metas, tuned.metas, strict=False):
        if one.name != other.name:
            missing, side = (one.name, "tuned") if one.name not in theirs else (other.name, "base")
            raise ModelError(
                f"{where}: tensor {missing} has no counterpart in {side}. Are they the same model?"
            )
        if one.shape != other.shape:
            raise ModelError(
                f"{where}: tensor {one.name} has shape {list(one.shape)} in base and {list(other.shape)} in "
                "tuned (was the vocabulary changed?). Give the base that was tuned."
            )
    if ours != theirs:
        missing = sorted(ours ^ theirs)[0]
        side = "tuned" if missing in ours else "base"
        raise ModelError(f"{where}: tensor {missing} has no counterpart in {side}. Are they the same model?")
    return tuple(dict.fromkeys((*_dtype_notes(base, tuned), *base.notes, *tuned.notes)))


def _dtype_notes(base: TensorSource, tuned: TensorSource) -> tuple[str, ...]:
    differ = [(m, t) for m, t in zip(base.metas, tuned.metas, strict=True) if m.dtype != t.dtype]
    if not differ:
        return ()
    one, other = differ[0]
    kinds = (
        f"{str(one.dtype).removeprefix('torch.')} in base, {str(other.dtype).removeprefix('torch.')} in tuned"
    )
    return (f"{len(differ)} of {len(base.metas)} tensors are stored in another dtype ({one.name}: {kinds})",)
