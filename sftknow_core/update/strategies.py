"""The order in which each strategy takes weights back, as one integer key per weight.

A strategy is a function from a chunk to int32 keys in 0..2^31-1. Weights with the lowest keys are restored
first; equal keys go in canonical order (tensor order, then flat index). So k% restored is always contained
in (k+1)% restored, and finding k% is finding one key.

Two strategies have no order: interpolation moves all weights, and blocks restore whole tensors:

    block          the tensors of a block (some layers, some kinds) go back to base, the rest stays tuned
    all-but-block  the other way round within the region: leaving one block out shows what it contributes

Whole layers at once is the paper's table of layer blocks (arXiv 2509.16596); resetting parts of a fine-tuned
model by blocks is HFT (arXiv 2404.18466).

Notation: p base, s tuned, d = s - p; n weights in the region.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sftknow_core.errors import SpecError
from sftknow_core.model.io.tensors import TensorMeta
from sftknow_core.update.pair import Chunk, Pair
from sftknow_core.update.scores import MAX_BITS, Score, absolute, bits, relative
from sftknow_core.update.spec import Strategy

Keys = Callable[[Chunk], torch.Tensor]

MAX_REFERENCE_WEIGHTS = 100_000_000
"""Largest region for random-reference, which holds a permutation of the region in memory (12 bytes a
weight)."""

SCORE_OF: dict[Strategy, Score] = {
    Strategy.TOP: Score.RELATIVE,
    Strategy.BOTTOM: Score.RELATIVE,
    Strategy.LARGEST: Score.ABSOLUTE,
    Strategy.SMALLEST: Score.ABSOLUTE,
}
"""The score behind the strategies that rank by one."""

HIGHEST_FIRST = frozenset({Strategy.TOP, Strategy.LARGEST})


def top(chunk: Chunk) -> torch.Tensor:
    """Largest relative change |d| / (|p| + 1e-8) first: the paper's restoration.

    Source: arXiv 2509.16596; UmeanNever/ParamRestore param_restore.py, `_select_indices`, "top".
    """
    return MAX_BITS - bits(relative(chunk))


def bottom(chunk: Chunk) -> torch.Tensor:
    """Smallest relative change first; a control. Source: as `top`, "bottom"."""
    return bits(relative(chunk))


def largest(chunk: Chunk) -> torch.Tensor:
    """Largest absolute change |d| first: takes back most of ||d||^2 for its k; a control.

    Source: magnitude pruning of a task vector turned around (TIES "trim", arXiv 2306.01708, keeps what this
    drops).
    """
    return MAX_BITS - bits(absolute(chunk))


def smallest(chunk: Chunk) -> torch.Tensor:
    """Smallest absolute change |d| first: TIES "trim" with density 1 - k (arXiv 2306.01708)."""
    return bits(absolute(chunk))


def random(seed: int, pair: Pair) -> Keys:
    """A uniform draw without replacement: the k% with the lowest hash of (seed, index in the whole model).

    The hash is the top 31 bits of the splitmix64 output function (Steele, Lea and Flood 2014) at counter
    `index` of a stream chosen by the seed. It depends on neither region nor k, so draws are nested in both.
    A control.
    """
    stream = _splitmix64(seed)

    def keys(chunk: Chunk) -> torch.Tensor:
        first = pair.offsets[chunk.meta.name] + chunk.start
        counter = torch.arange(first, first + chunk.base.numel(), dtype=torch.int64, device=chunk.base.device)
        z = counter.mul_(_GOLDEN).add_(_signed(stream))
        for shift, factor in _ROUNDS:
            z = z.bitwise_xor_(_shift_right(z, shift)).mul_(factor)
        return _shift_right(z.bitwise_xor_(_shift_right(z, 31)), 33).to(torch.int32)

    return keys


def random_reference(seed: int, metas: Sequence[TensorMeta]) -> Keys:
    """The reference code's random draw: `numpy.random.RandomState(seed).choice(n, k, replace=False)`.

    That call takes the first k of `permutation(n)`, so the place in the permutation is the key. Memory
    grows with the region; SpecError above MAX_REFERENCE_WEIGHTS.
    """
    n = sum(meta.numel for meta in metas)
    if n > MAX_REFERENCE_WEIGHTS:
        raise SpecError(
            f"strategy random-reference: the region has {n:,} weights; allowed: at most "
            f"{MAX_REFERENCE_WEIGHTS:,}. Use strategy random."
        )
    place = np.empty(n, dtype=np.int32)
    place[np.random.RandomState(seed).permutation(n)] = np.arange(n, dtype=np.int32)
    places = torch.from_numpy(place)
    offsets = dict(
        zip((m.name for m in metas), np.cumsum([0, *(m.numel for m in metas)]).tolist(), strict=False)
    )

    def keys(chunk: Chunk) -> torch.Tensor:
        first = offsets[chunk.meta.name] + chunk.start
        return places[first : first + chunk.base.numel()].to(chunk.base.device)

    return keys


def interpolate(chunk: Chunk, alpha: float) -> torch.Tensor:
    """p + alpha * d in float32, in the dtype that holds both models; alpha 0 and 1 give p and s bit for bit.

    Weights that did not change keep their bits. alpha < 0 goes beyond base, alpha > 1 beyond tuned. Source:
    WiSE-FT (arXiv 2109.01903); task arithmetic (arXiv 2212.04089).
    """
    base, tuned = chunk.base.to(chunk.exact_dtype), chunk.tuned.to(chunk.exact_dtype)
    if alpha == 0:
        return base
    if alpha == 1:
        return tuned
    mixed = (chunk.p + alpha * chunk.d).to(chunk.exact_dtype)
    return torch.where(chunk.changed, mixed, tuned)


@dataclass(frozen=True)
class Order:
    """The order in which a strategy takes weights back."""

    keys: Keys
    score: Score | None = None
    """What is ranked, where the compiled kernels can compute the keys themselves."""
    highest_first: bool = False

    @property
    def is_relative(self) -> bool:
        """Whether it ranks by relative change."""
        return self.score is Score.RELATIVE


def order_of(strategy: Strategy, pair: Pair, metas: Sequence[TensorMeta], seed: int | None = None) -> Order:
    """The order of a strategy that selects single weights."""
    plain: dict[Strategy, Keys] = {
        Strategy.TOP: top,
        Strategy.BOTTOM: bottom,
        Strategy.LARGEST: largest,
        Strategy.SMALLEST: smallest,
    }
    if strategy in plain:
        return Order(plain[strategy], SCORE_OF[strategy], strategy in HIGHEST_FIRST)
    if strategy is Strategy.RANDOM:
        return Order(random(seed or 0, pair))
    if strategy is Strategy.RANDOM_REFERENCE:
        return Order(random_reference(seed or 0, metas))
    raise SpecError(f"strategy {strategy} selects no single weights")


def _signed(value: int) -> int:
    """The int64 with the bits of an unsigned 64-bit number."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _shift_right(z: torch.Tensor, n: int) -> torch.Tensor:
    """Logical right shift of int64."""
    return (z >> n) & ((1 << (64 - n)) - 1)


def _splitmix64(state: int) -> int:
    mask = (1 << 64) - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_ROUNDS = ((30, _signed(0xBF58476D1CE4E5B9)), (27, _signed(0x94D049BB133111EB)))
