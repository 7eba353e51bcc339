"""The null of concentration: a tensor's changes d met its weights p by chance, and r = |d| / (|p| + 1e-8) anew.

    pair, seed --permute within each tensor, many times--> share(k) of each region in each permutation

What the top k% of r hold under this null comes from some |p| being small, not from what fine-tuning chose to change:
Gaussian weights with independent Gaussian changes already give the paper's figures within two points. The few smallest
|p| carry a large part of the sum of r, so one permutation can be off by several points: only many of them say what is
usual, and how far a measured share lies beyond (`Null.at`).

Up to SMALL_WEIGHTS weights a pair is held in memory, |p| and |d| as float32, and each of
SMALL_DRAWS permutations makes every order of a tensor's changes equally likely. A larger pair is read once, GROUP
chunks of a tensor at a time and in a random order of chunks; in each of LARGE_DRAWS draws every weight takes the
change of another weight of its group, drawn without replacement: chunk by chunk, block by block of a chunk, and in a
random order within the block, which keeps the reads in a core's cache. The short chunk at a tensor's end keeps its own
changes. The draws of a pair depend on its seed alone, never on threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from threading import local

import numpy as np
import torch
from numpy.typing import NDArray

from sftknow_core.model.io.tensors import TensorMeta
from sftknow_core.update import kernels
from sftknow_core.update.delta import SCORES, Cube
from sftknow_core.update.histogram import Ranked, cut, sums_of
from sftknow_core.update.pair import Pair, in_threads
from sftknow_core.update.scores import EPS, N_BINS, Score, checked
from sftknow_core.update.spec import Number, Percent, count_for, percent

SMALL_WEIGHTS = 20_000_000
"""Pairs up to this size are held in memory."""
SMALL_DRAWS = 199
LARGE_DRAWS = 40
"""As few as let a two-sided rank p (2 / 41) fall below 0.05."""
GROUP = 16
"""Chunks of a large tensor that are held at once, for each thread."""
WEIGHT_BYTES = 8
"""A weight held in memory."""
BIN_BYTES = 8 * N_BINS
"""One histogram."""
QUANTILES_FROM = 39
"""Draws of which the 2.5% quantile is at least the lowest one."""
_BLOCK = 1 << 16
_PILES_FROM = 1 << 18
"""Weights of a tensor whose changes are permuted pile by pile, since together they fit no core's cache."""
_AT_ONCE = 1 << 22
"""Weights that an accumulator counts exactly."""
_SAME = 1e-12
"""Two shares that differ by less differ by rounding."""

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]
Found = tuple[NDArray[np.int32], Counts, Counts]
"""Used bins of r, their weights, and their sums of low bits."""
Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Against:
    """A measured share against the permutations: what they hold, and how often they hold as much."""

    mean: float
    sd: float
    low: float | None
    """Between `low` and `high` lie the middle 95% of the permutations; None for too few of them."""
    high: float | None
    n: int
    """Permutations."""
    p_more: float
    """(1 + permutations that hold at least as much) / (1 + n): the rank p of "more concentrated"."""
    p_two_sided: float
    """Twice the smaller of the rank p of "more" and of "less", at most 1."""


@dataclass(frozen=True)
class Null:
    """Permutations of one pair's changes."""

    n: int
    """Permutations."""
    ks: tuple[Percent, ...]
    shares: Mapping[str, NDArray[np.float64]]
    """Region -> share of the sum of r in its k% largest, [n, ks]; NaN where nothing changed."""
    taken: Mapping[str, NDArray[np.float64]]
    """Region -> how many of a tensor's weights are among its k% largest, mean over permutations: [ks, tensors]."""
    first: Cube
    """The first permutation by tensor and bin, under the score "permuted"."""

    def at(self, region: str, k: Number, share: float | None) -> Against | None:
        """A region's measured share at k against the permutations; None where k was not asked or nothing changed."""
        wanted = percent(k)
        if region not in self.shares or wanted not in self.ks or share is None:
            return None
        draws = self.shares[region][:, self.ks.index(wanted)]
        return None if np.isnan(draws).any() else against(draws, share)


def against(draws: NDArray[np.float64], share: float) -> Against:
    """A measured share against the shares of n permutations, float64 [n].

    The rank p is exact for any n: were the changes permuted already, the measured share would be as likely to take
    each of the n + 1 ranks.
    """
    n = draws.size
    more = (1 + int((draws >= share - _SAME).sum())) / (1 + n)
    less = (1 + int((draws <= share + _SAME).sum())) / (1 + n)
    low, high = np.quantile(draws, [0.025, 0.975]).tolist() if n >= QUANTILES_FROM else (None, None)
    sd = float(draws.std(ddof=1)) if n > 1 else float("nan")
    return Against(float(draws.mean()), sd, low, high, n, more, min(1.0, 2 * min(more, less)))


def seed_of(base_id: str, tuned_id: str) -> int:
    """The seed of a pair's permutations: the same for the same two models, another one for others."""
    return int.from_bytes(hashlib.sha256(f"null of {base_id} and {tuned_id}".encode()).digest()[:8], "big")


def n_permutations(n_weights: int) -> int:
    """How often a pair's changes are permuted."""
    return SMALL_DRAWS if n_weights <= SMALL_WEIGHTS else LARGE_DRAWS


def measure_null(
    pair: Pair,
    seed: int,
    regions: Mapping[str, Sequence[TensorMeta]],
    ks: Sequence[Number],
    progress: Told | None = None,
    *,
    n_draws: int | None = None,
) -> Null:
    """Permute the changes of a pair within each tensor, and give the shares of r that the k% largest of it hold.

    Args:
        pair: base and tuned.
        seed: of the permutations; see `seed_of`.
        regions: name -> its tensors.
        ks: percent.
        progress: told (weights done, weights in all), each as often as it is permuted; may raise to stop.
        n_draws: permutations; None: by the size of the pair.

    Raises ModelError naming the tensor when a weight is NaN or infinite, or a change overflows.
    """
    n = n_permutations(pair.n_weights) if n_draws is None else n_draws
    tally = _Tally(pair, regions, tuple(percent(k) for k in ks), n)
    done, total = 0, n * pair.n_weights
    small = pair.n_weights <= SMALL_WEIGHTS
    with closing(
        (_held if small else _streamed)(pair, seed, n, tally)
    ) as steps:  # an error leaves no thread behind
        for weights in steps:
            done += weights
            if progress is not None:
                progress(done, total)
    return tally.null()


def _held(pair: Pair, seed: int, n_draws: int, tally: _Tally) -> Generator[int, None, None]:
    """Draw after draw of a pair in memory; yields the weights permuted."""
    tensors = [(meta, *_read(pair, meta, 0, meta.numel)) for meta in pair.metas]
    own, largest = local(), max(meta.numel for meta in pair.metas)

    def work(draw: int) -> list[tuple[TensorMeta, list[Found]]]:
        memory = _memory(own, largest)
        return [(meta, memory.permuted(p, d, _state(seed, draw, meta))) for meta, p, d in tensors]

    with closing(in_threads(work, range(n_draws), _n_threads(n_draws))) as draws:
        for draw, found in draws:
            for meta, pieces in found:
                tally.add(draw, meta, pieces)
            tally.close(draw)
            yield pair.n_weights


def _streamed(pair: Pair, seed: int, n_draws: int, tally: _Tally) -> Generator[int, None, None]:
    """Group after group of chunks of a pair on the disk, all draws of a group together; yields the weights permuted."""
    size, own = pair.chunk_size, local()
    block = _BLOCK if size % _BLOCK == 0 else size
    orders = [_rng(seed, draw, 1 << 32).permutation(block).astype(np.int32) for draw in range(n_draws)]
    within = [np.concatenate([order, order]) for order in orders]

    def work(part: tuple[TensorMeta, NDArray[np.int64]]) -> list[list[Found]]:
        meta, numbers = part
        starts = numbers * size
        memory = _memory(own, size)
        if starts[0] + size > meta.numel:  # the short end
            p, d = _read(pair, meta, int(starts[0]), meta.numel)
            return [memory.permuted(p, d, _state(seed, draw, meta)) for draw in range(n_draws)]
        p, d = np.empty(starts.size * size, np.float32), np.empty(starts.size * size, np.float32)
        for at, start in zip(range(0, p.size, size), starts.tolist(), strict=True):
            p[at : at + size], d[at : at + size] = _read(pair, meta, start, start + size)
        found = []
        for draw in range(n_draws):
            rng = _rng(seed, draw, meta.position, int(numbers.min()))
            found.append(memory.dealt(p, d, within[draw], size, rng))
        return found

    parts = [part for meta in pair.metas for part in _groups(meta, size, seed)]
    last = pair.metas[0]
    with closing(in_threads(work, parts, _n_threads(len(parts)))) as groups:
        for (meta, numbers), draws in groups:
            if meta is not last:
                tally.shrink(last)
                last = meta
            for draw, pieces in enumerate(draws):
                tally.add(draw, meta, pieces)
            yield n_draws * sum(min(size, meta.numel - int(number) * size) for number in numbers)
    for draw in range(n_draws):
        tally.close(draw)


def _groups(meta: TensorMeta, size: int, seed: int) -> Iterator[tuple[TensorMeta, NDArray[np.int64]]]:
    """A tensor's full chunks in random groups of about equal size, then its short end alone."""
    n_full = meta.numel // size
    order = _rng(seed, 1 << 33, meta.position).permutation(n_full)
    for group in np.array_split(order, -(-n_full // GROUP)) if n_full else ():
        yield meta, group.astype(np.int64)
    if meta.numel % size:
        yield meta, np.array([n_full], np.int64)


class _Memory:
    """What a thread permutes in: kept from tensor to tensor."""

    def __init__(self, largest: int) -> None:
        self._acc = np.zeros(kernels.N_SLOTS, np.int64)
        self._unused = np.zeros(kernels.N_SLOTS, np.int64)
        self._changes = np.empty(largest, np.float32)
        self._ends = np.zeros(kernels.N_PILES + 1, np.int64)

    @cached_property
    def _pile(self) -> NDArray[np.uint8]:
        return np.empty(self._changes.size, np.uint8)

    def permuted(self, p: Floats, d: Floats, state: np.uint64) -> list[Found]:
        """Bins of r with changes |d| in random order, every order equally likely."""
        changes, ends = self._changes[: d.size], [0, d.size]
        if d.size > _PILES_FROM:
            state = np.uint64(kernels.split(d, state, self._pile, changes, self._ends))
            ends = self._ends.tolist()
        else:
            changes[:] = d
        found, counted = [], 0
        for start, stop in pairwise(ends):
            if counted + stop - start > _AT_ONCE:
                found.append(self._taken())
                counted = 0
            state = np.uint64(
                kernels.count_shuffled(p[start:stop], changes[start:stop], state, np.float32(EPS), self._acc)
            )
            counted += stop - start
        return [*found, self._taken()]

    def dealt(
        self, p: Floats, d: Floats, within: NDArray[np.int32], size: int, rng: np.random.Generator
    ) -> list[Found]:
        """Bins of r with changes |d| dealt out over chunks of `size`."""
        n_blocks = 2 * size // within.size
        chunks = rng.permutation(d.size // size)
        found, counted = [], 0
        for number, other in enumerate(chunks.tolist()):
            if counted + size > _AT_ONCE:
                found.append(self._taken())
                counted = 0
            blocks, turns = rng.permutation(n_blocks), rng.integers(0, within.size // 2, n_blocks)
            mine, theirs = (slice(at * size, (at + 1) * size) for at in (number, other))
            kernels.count_dealt(p[mine], d[theirs], blocks, within, turns, np.float32(EPS), self._acc)
            counted += size
        return [*found, self._taken()]

    def _taken(self) -> Found:
        bins, n, low, _ = kernels.collect(self._acc, self._unused)
        return bins, n, low


def _memory(own: local, largest: int) -> _Memory:
    """The thread's own."""
    if "memory" not in own.__dict__:
        own.memory = _Memory(largest)
    found: _Memory = own.memory
    return found


class _Tally:
    """Sums up the bins of all draws: by region and draw, and over draws by tensor."""

    def __init__(
        self, pair: Pair, regions: Mapping[str, Sequence[TensorMeta]], ks: tuple[Percent, ...], n_draws: int
    ) -> None:
        self._pair, self._regions, self._ks, self._n = pair, regions, ks, n_draws
        members = [frozenset(r for r, of in regions.items() if meta in of) for meta in pair.metas]
        self._groups = {group: place for place, group in enumerate(dict.fromkeys(members))}
        self._group_of = [self._groups[group] for group in members]
        self._open: dict[int, tuple[Counts, Counts]] = {}
        self._shares = {name: np.full((n_draws, len(ks)), np.nan) for name in regions}
        sizes = {name: sum(meta.numel for meta in metas) for name, metas in regions.items()}
        self._asked = {name: np.array([count_for(n, k) for k in ks], np.int64) for name, n in sizes.items()}
        self._pooled: dict[int, Counts] = {}
        self._small: dict[int, tuple[NDArray[np.intp], Counts]] = {}
        self._first: dict[int, list[Found]] = {}

    def add(self, draw: int, meta: TensorMeta, pieces: Sequence[Found]) -> None:
        """Take in bins of one tensor in one draw."""
        group = self._group_of[meta.position]
        if draw not in self._open:
            shape = (len(self._groups), N_BINS)
            self._open[draw] = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        counts, lows = self._open[draw]
        if meta.position not in self._pooled:
            self._pooled[meta.position] = np.zeros(N_BINS, np.int64)
        for bins, n, low in pieces:
            counts[group, bins] += n
            lows[group, bins] += low
            self._pooled[meta.position][bins] += n
        if draw == 0:
            self._first.setdefault(meta.position, []).extend(pieces)

    def shrink(self, meta: TensorMeta) -> None:
        """A tensor has all its draws: keep its used bins alone."""
        counts = self._pooled.pop(meta.position, np.zeros(N_BINS, np.int64))
        used = np.flatnonzero(counts)
        self._small[meta.position] = used, counts[used]

    def close(self, draw: int) -> None:
        """A draw has all its tensors: keep its shares."""
        counts, lows = self._open.pop(draw)
        for name in self._regions:
            inside = [place for group, place in self._groups.items() if name in group]
            n = counts[inside].sum(0)
            used = np.flatnonzero(n)[::-1].astype(np.int32)
            sums = sums_of(used, n[used], lows[inside][:, used].sum(0))
            if sums.any():
                ranked = Ranked(used, np.cumsum(n[used]), np.cumsum(sums))
                self._shares[name][draw] = ranked.shares(self._asked[name])[0]

    def null(self) -> Null:
        """All draws together."""
        for meta in self._pair.metas:
            if meta.position not in self._small:
                self.shrink(meta)
        taken = {name: self._taken(name) for name in self._regions}
        return Null(self._n, self._ks, self._shares, taken, self._cube())

    def _taken(self, region: str) -> NDArray[np.float64]:
        """The cut through all draws' weights together: a region's many weights put it at the same bin in each."""
        metas, whole = self._regions[region], np.zeros(N_BINS, np.int64)
        for meta in metas:
            bins, n = self._small[meta.position]
            whole[bins] += n
        order = np.flatnonzero(whole)[::-1]
        place_of = np.zeros(N_BINS, np.intp)
        place_of[order] = np.arange(order.size)
        counts = np.zeros((len(metas), order.size))
        for row, meta in zip(counts, metas, strict=True):
            bins, n = self._small[meta.position]
            row[place_of[bins]] = n
        asked = self._n * self._asked[region]
        place, part = cut(np.cumsum(whole[order]), asked)
        found: NDArray[np.float64] = np.cumsum(counts, axis=1)[:, place] - counts[:, place] * (1 - part)
        return found.T / self._n

    def _cube(self) -> Cube:
        parts = []
        for position, pieces in sorted(self._first.items()):
            n, low = np.zeros(N_BINS, np.int64), np.zeros(N_BINS, np.int64)
            for bins, counts, lows in pieces:
                n[bins] += counts
                low[bins] += lows
            used = np.flatnonzero(n).astype(np.int32)
            tensor = np.full(used.size, position, np.int32)
            score = np.full(used.size, SCORES.index(Score.PERMUTED), np.int8)
            sums = sums_of(used, n[used], low[used])
            parts.append(Cube(tensor, score, used, n[used], sums, np.full(used.size, np.nan)))
        return Cube.joined(parts)


def _read(pair: Pair, meta: TensorMeta, start: int, stop: int) -> tuple[Floats, Floats]:
    """|p| and |d| of weights [start, stop), float32. Raises ModelError for what is not finite."""
    p, d = np.empty(stop - start, np.float32), np.empty(stop - start, np.float32)
    for at in range(start, stop, pair.chunk_size):
        end = min(at + pair.chunk_size, stop)
        chunk = pair.read(meta, at, end)
        p[at - start : end - start] = chunk.p.abs().cpu().numpy()
        d[at - start : end - start] = checked(chunk.d.abs(), chunk).cpu().numpy()
    return p, d


def _n_threads(n_items: int) -> int:
    return min(torch.get_num_threads(), max(1, n_items))


def _rng(seed: int, *stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *stream])))


def _state(seed: int, draw: int, meta: TensorMeta) -> np.uint64:
    found: np.uint64 = np.random.SeedSequence([seed, draw, meta.position]).generate_state(1, np.uint64)[0]
    return found
