"""Two models of one shape, base and tuned, read side by side.

A pass goes over spans: up to SPAN_WEIGHTS consecutive weights of one tensor, in canonical order (tensor by
tensor, flat index within a tensor). Threads work on several spans at once, each in chunks that fit a core's
cache; results come back in order. So memory is bounded by a few spans whatever the model's size, and a sum
taken over the results is the same for any number of threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from threading import local
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sftknow_core.errors import ModelError
from sftknow_core.model.io.tensors import TensorMeta, TensorSource

# Whether two models are states of one: same tensors, shapes and ties; what differs harmlessly is noted.


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


__all__ = ["CHUNK_WEIGHTS", "SPAN_WEIGHTS", "Chunk", "Pair", "Progress", "Span", "check_pair"]

CHUNK_WEIGHTS = 1 << 19
"""Weights read at once on a CPU. Compiled loops cut them up themselves; around them a call costs as much as
some ten thousand weights. Floating-point sums are rounded chunk by chunk."""

TENSOR_CHUNK = 1 << 16
"""Where tensor operations compute instead: a handful of float32 temporaries then stay in a core's cache,
which is two to four times as fast as in main memory."""

SPAN_WEIGHTS = 1 << 21
"""Weights that one thread takes at a time; also the chunk on other devices, where a call costs more than its
work."""

S = TypeVar("S")
T = TypeVar("T")
Words = NDArray[np.uint16] | NDArray[np.uint32]
Progress = Callable[[int, int], None]
"""Called with (bytes of both models done, bytes in all); may raise to stop the pass."""


@dataclass(frozen=True)
class Span:
    """Weights [start, stop) of one tensor."""

    meta: TensorMeta
    start: int
    stop: int
    n_bytes: int
    """What both models store for them."""


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
    def base_bits(self) -> torch.Tensor:
        """Base weights in the exact dtype, their bits as integers of that width."""
        return as_integers(self.base.to(self.exact_dtype))

    @cached_property
    def tuned_bits(self) -> torch.Tensor:
        """Tuned weights in the exact dtype, their bits as integers of that width."""
        return as_integers(self.tuned.to(self.exact_dtype))

    @cached_property
    def words(self) -> tuple[Words, Words, bool] | None:
        """(base, tuned, whether they are float16) as the compiled kernels take them; None where they do not."""
        if self.exact_dtype.itemsize > 4 or self.base.device.type != "cpu":
            return None
        half = self.exact_dtype is torch.float16
        return words_of(self.base_bits), words_of(self.tuned_bits), half

    @cached_property
    def changed(self) -> torch.Tensor:
        """Where the bits differ (bool), in the dtype that holds both exactly; -0.0 against 0.0 differs."""
        return self.base_bits != self.tuned_bits


def words_of(bits: torch.Tensor) -> Words:
    """The memory of a tensor on the CPU, of 2 or 4 bytes an element, as unsigned integers."""
    array = as_integers(bits).numpy()
    return array.view(np.uint16) if array.itemsize == 2 else array.view(np.uint32)


def as_integers(values: torch.Tensor) -> torch.Tensor:
    """The same memory as signed integers of the same width, so that copies keep every bit."""
    return values.view(_INTEGERS[values.dtype.itemsize])


_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


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
        self._own = local()
        self.n_weights = sum(meta.numel for meta in self.metas)

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Index of each tensor's first weight when the whole model is flattened in canonical order."""
        offsets, total = {}, 0
        for meta in self.metas:
            offsets[meta.name] = total
            total += meta.numel
        return offsets

    @cached_property
    def place(self) -> torch.device:
        """Where chunks are computed."""
        if self.device is None and self.base.device != self.tuned.device:
            raise ModelError(
                f"base is on {self.base.device} and tuned on {self.tuned.device}; load both on one device, or "
                "say where to compare them."
            )
        return self.device or self.base.device

    @property
    def on_cpu(self) -> bool:
        """Whether chunks are computed on the CPU."""
        return self.place.type == "cpu"

    @property
    def chunk_size(self) -> int:
        """Weights read at once."""
        return CHUNK_WEIGHTS if self.on_cpu else SPAN_WEIGHTS

    def spans(self, metas: Iterable[TensorMeta] | None = None) -> list[Span]:
        """`metas` (None: all) cut into spans, in canonical order."""
        spans, size = [], SPAN_WEIGHTS
        for meta in self.metas if metas is None else metas:
            width = meta.dtype.itemsize + self.tuned.metas[meta.position].dtype.itemsize
            for start in range(0, meta.numel, size):
                stop = min(start + size, meta.numel)
                spans.append(Span(meta, start, stop, (stop - start) * width))
        return spans

    def read(self, meta: TensorMeta, start: int, stop: int, memory: tuple[torch.Tensor, ...] = ()) -> Chunk:
        """Both models' weights [start, stop) of a tensor; `memory`: two of uint8 that may hold them."""
        mine, other = memory or (None, None)
        base = self._moved(self.base.read(meta.name, start, stop, mine))
        return Chunk(meta, start, base, self._moved(self.tuned.read(meta.name, start, stop, other)))

    def chunks_in(self, span: Span, *, compiled: bool = True) -> Iterator[Chunk]:
        """A span's weights in pieces, smaller ones where no compiled loop takes them; each is gone with the
        next.

        They lie in memory that the thread keeps: new memory costs the system more than reading into it.
        """
        size = self.chunk_size
        if self.on_cpu and not compiled:
            size = min(size, TENSOR_CHUNK)
        memory = self._memory(span.meta, size)
        for start in range(span.start, span.stop, size):
            yield self.read(span.meta, start, min(start + size, span.stop), memory)

    def _memory(self, meta: TensorMeta, size: int) -> tuple[torch.Tensor, ...]:
        dtypes = (meta.dtype, self.tuned.metas[meta.position].dtype)
        kept: tuple[torch.Tensor, ...] = getattr(self._own, "memory", ())
        if not kept or any(len(m) < size * d.itemsize for m, d in zip(kept, dtypes, strict=True)):
            kept = tuple(torch.empty(size * d.itemsize, dtype=torch.uint8) for d in dtypes)
            self._own.memory = kept
        return kept

    def chunks(
        self, metas: Iterable[TensorMeta] | None = None, *, progress: Progress | None = None
    ) -> Iterator[Chunk]:
        """Both models' weights over `metas` (None: all), one chunk after the other, in canonical order."""
        spans = self.spans(metas)
        done, total = 0, sum(span.n_bytes for span in spans)
        for span in spans:
            for start in range(span.start, span.stop, self.chunk_size):
                yield self.read(span.meta, start, min(start + self.chunk_size, span.stop))
            done += span.n_bytes
            if progress is not None:
                progress(done, total)

    def map(
        self, work: Callable[[Span], T], spans: Iterable[Span], *, progress: Progress | None = None
    ) -> Iterator[tuple[Span, T]]:
        """(span, work(span)) in the order of `spans`, computed by as many threads as torch would use.

        Threads, not processes: nearly all time is spent in torch, which lets go of the interpreter's lock.
        """
        todo = list(spans)
        done, total = 0, sum(span.n_bytes for span in todo)
        n_threads = min(torch.get_num_threads(), len(todo)) if self.on_cpu else 1
        results = in_threads(work, todo, n_threads) if n_threads > 1 else ((s, work(s)) for s in todo)
        with closing(results):  # an error must not leave threads behind until somebody collects it
            for span, result in results:
                yield span, result
                done += span.n_bytes
                if progress is not None:
                    progress(done, total)

    def close(self) -> None:
        """Close both sources' files."""
        self.base.close()
        self.tuned.close()

    def _moved(self, values: torch.Tensor) -> torch.Tensor:
        return values if self.device is None else values.to(self.device)


def in_threads(
    work: Callable[[S], T], items: Iterable[S], n_threads: int
) -> Generator[tuple[S, T], None, None]:
    """(item, work(item)) in order, with at most two items a thread begun and not taken yet."""
    before = torch.get_num_threads()
    todo = iter(items)
    running: deque[tuple[S, Future[T]]] = deque()
    # each thread computes alone: splitting a chunk between cores again would cost more than it gains
    pool = ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for item in todo:
            running.append((item, pool.submit(work, item)))
            if len(running) == 2 * n_threads:
                break
        while running:
            item, future = running.popleft()
            result = future.result()
            if (following := next(todo, None)) is not None:
                running.append((following, pool.submit(work, following)))
            yield item, result
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # threads made later would take over the 1 set last
