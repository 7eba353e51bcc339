"""The null of concentration: a tensor's changes dealt out at random among its weights.

What the top k% of r hold under this null comes from some |p| being small, not from what fine-tuning chose to
change: Gaussian weights with independent Gaussian changes already give the paper's figures within two points.

A tensor is cut into chunks of the pair's `chunk_size`. Each chunk's weights p take the changes d of another
chunk, drawn without replacement: block by block in a random order of blocks, and in a random order within a
block, which keeps the reads in a core's cache. The short chunk at the end keeps its own. Every weight is so
as likely to meet any change as under a permutation of the whole tensor, with memory for one chunk.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sftknow_core.update.pair import Chunk, Pair

_BLOCK = 1 << 16


class Null:
    """Deals out a pair's changes; the same for a seed, whatever the threads."""

    def __init__(self, pair: Pair, seed: int = 0) -> None:
        self._pair = pair
        self._seed = seed
        self._size = pair.chunk_size
        self._partners = {
            meta.name: self._rng(meta.position).permutation(meta.numel // self._size) for meta in pair.metas
        }
        block = self._size if self._size % _BLOCK else _BLOCK
        n_blocks = self._size // block
        blocks = self._rng(1 << 32).permutation(n_blocks).repeat(block) * block
        within = np.tile(self._rng((1 << 32) + 1).permutation(block), n_blocks)
        order = (blocks + within).astype(np.int32)
        self._order, self._turns, self._block = np.concatenate([order, order]), n_blocks, block

    def partner(self, chunk: Chunk) -> tuple[Chunk, NDArray[np.int32]]:
        """(the chunk whose changes these weights take, in which order: int32 [n]).

        `chunk` is one that `Pair.chunks_in` gave.
        """
        n, number = chunk.base.numel(), chunk.start // self._size
        if n < self._size:
            return chunk, self._rng((1 << 33) + chunk.meta.position).permutation(n).astype(np.int32)
        start = int(self._partners[chunk.meta.name][number]) * self._size
        other = chunk if start == chunk.start else self._pair.read(chunk.meta, start, start + n)
        # one order, turned from chunk to chunk, is as good on average as a new one and costs nothing
        turn = number % self._turns * self._block
        return other, self._order[turn : turn + n]

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self._seed, stream]))
