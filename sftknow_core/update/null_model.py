"""The null of concentration: a tensor's changes dealt out at random among its weights.

What the top k% of r hold under this null comes from some |p| being small, not from what fine-tuning chose to
change: Gaussian weights with independent Gaussian changes already give the paper's figures within two points.

A tensor is cut into blocks of the pair's `chunk_size`. Each block's weights p take the
changes d of another block, drawn without replacement, in a random order within it; the short block at the
end keeps its own. Every weight is so as likely to meet any change as under a permutation of the whole
tensor, with memory for one block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sftknow_core.update.pair import Chunk, Pair

_STEP = 40_503
"""By how much the order is turned from block to block; odd, so that no turn comes twice before all did."""


class Null:
    """Deals out a pair's changes; the same for a seed, whatever the threads."""

    def __init__(self, pair: Pair, seed: int = 0) -> None:
        self._pair = pair
        self._seed = seed
        self._size = pair.chunk_size
        self._partners = {
            meta.name: self._rng(meta.position).permutation(meta.numel // self._size) for meta in pair.metas
        }
        order = self._rng(1 << 32).permutation(self._size).astype(np.int32)
        self._order = np.concatenate([order, order])

    def partner(self, chunk: Chunk) -> tuple[Chunk, NDArray[np.int32]]:
        """(the chunk whose changes these weights take, in which order: int32 [n]).

        `chunk` is one that `Pair.chunks_in` gave.
        """
        n, block = chunk.base.numel(), chunk.start // self._size
        if n < self._size:
            return chunk, self._rng((1 << 33) + chunk.meta.position).permutation(n).astype(np.int32)
        start = int(self._partners[chunk.meta.name][block]) * self._size
        other = chunk if start == chunk.start else self._pair.read(chunk.meta, start, start + n)
        # one order, turned by the block's number, is as good as a new one and costs nothing
        turn = block * _STEP % n
        return other, self._order[turn : turn + n]

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self._seed, stream]))
