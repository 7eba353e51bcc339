"""The inner loops over weights on a CPU, compiled (numba): each touches a weight once, in registers and L1.

The same arithmetic as `scores` on tensors, operation by operation in float32, hence the same bits; what a
chain of tensor operations writes and reads again between them, a compiled loop does not. Weights come as
words: uint16 for bfloat16 (a float32 without its lower half) and, with `half`, for float16; uint32 for
float32.

Notation: p base, s tuned; words [n]; pattern: the bits of a score, int32; key: what is ranked, lowest first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from sftknow_core.update.pair import Words
from sftknow_core.update.scores import EPS, INFINITE, LOW_BITS, MAX_BITS, N_BINS

N_SLOTS = 2 * N_BINS + 16
"""Of an accumulator: two lanes of all bins, so that neighbours in one bin do not wait for each other, and 16
more for the score 0, which can be most of all."""

COUNT_BIT = 40
"""A slot holds count << COUNT_BIT | sum of low bits; exact below 2^23 weights."""

BLOCK = 4096
_ZERO = 2 * N_BINS
_ONE = np.int64(1 << COUNT_BIT)
INFINITE_I32 = np.int32(INFINITE)
MAGNITUDE_I32 = np.int32(MAX_BITS)
LOW_I32 = np.int32((1 << LOW_BITS) - 1)
EPS_F32 = np.float32(EPS)
_TINY = np.float32(1e-6)
_HALF_BIAS = np.float32(2.0**112)
GAMMA = np.uint64(0x9E3779B97F4A7C15)
"""Step of the random numbers' counter."""
N_PILES = 64
_HALF = np.uint64(0xFFFFFFFF)

Array = np.ndarray[Any, Any]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile when first called, keeping the machine code beside the source or in the user's cache folder.

    Sums may be taken in several lanes (reassoc): always the same ones, so the same result each time.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "nsz"}}
    try:
        fast: Callable[..., Any] = njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to keep it in
        fast = njit(**options)(function)
    return fast


@compiled
def load_words(words: Words, half: bool, out: Array) -> None:
    """Float32 bit patterns of words [n] into out [>= n], uint32."""
    if half:
        # exponent and mantissa in place, 2^112 makes up for the other bias (subnormals too), then the sign
        floats = out.view(np.float32)
        for i in range(words.size):
            out[i] = np.uint32(words[i] & 0x7FFF) << np.uint32(13)
        for i in range(words.size):
            floats[i] *= _HALF_BIAS
        for i in range(words.size):
            special = np.uint32(0x7F800000) if (words[i] & 0x7C00) == 0x7C00 else np.uint32(0)
            out[i] |= (np.uint32(words[i] & 0x8000) << np.uint32(16)) | special
    elif words.itemsize == 2:
        for i in range(words.size):
            out[i] = np.uint32(words[i]) << np.uint32(16)
    else:
        for i in range(words.size):
            out[i] = np.uint32(words[i])


@compiled
def add_patterns(patterns: Array, n: int, acc: Array) -> None:
    """Count patterns [n] in an accumulator."""
    for i in range(n):
        key = patterns[i] & MAGNITUDE_I32  # a NaN can carry a sign
        slot = (key >> LOW_BITS) + (i & 1) * N_BINS
        slot = _ZERO + (i & 15) if key == 0 else slot
        acc[slot] += _ONE + (key & LOW_I32)


@compiled
def count_changes(
    p: Words, s: Words, half: bool, r_acc: Array, r_d2: Array, a_acc: Array, a_sq: Array
) -> Any:
    """Add n weights to the accumulators of both scores.

    r_acc, a_acc: int64 [N_SLOTS]; r_d2: float64 [N_SLOTS], sums of (s - p)^2 by bin of r; a_sq: int64
    [N_SLOTS], sums of squared low bits by bin of |s - p|. Returns (weights whose bits differ, sum of r where
    |p| < 1e-6, largest pattern of r, largest pattern of |s - p|, sum of p^2). A pattern from that of
    infinity on is no finite number; counting ends there.
    """
    pw, sw = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.uint32)
    pf, sf = pw.view(np.float32), sw.view(np.float32)
    r, a = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    rb, ab = r.view(np.int32), a.view(np.int32)
    n_changed, tiny_sum, p2 = 0, 0.0, 0.0
    r_max, a_max = np.int32(0), np.int32(0)
    for start in range(0, p.size, BLOCK):
        n = min(BLOCK, p.size - start)
        load_words(p[start : start + n], half, pw)
        load_words(s[start : start + n], half, sw)
        for i in range(n):
            distance = abs(sf[i] - pf[i])
            a[i] = distance
            r[i] = distance / (abs(pf[i]) + EPS_F32)
        n_tiny = 0
        for i in range(n):
            n_changed += pw[i] != sw[i]
        for i in range(n):
            n_tiny += abs(pf[i]) < _TINY
        for i in range(n):
            r_max = max(r_max, rb[i] & MAGNITUDE_I32)
        for i in range(n):
            a_max = max(a_max, ab[i] & MAGNITUDE_I32)
        if r_max >= INFINITE_I32 or a_max >= INFINITE_I32:
            break
        for i in range(n):
            p2 += np.float64(pf[i]) * np.float64(pf[i])
        if n_tiny:
            for i in range(n):
                if abs(pf[i]) < _TINY:
                    tiny_sum += np.float64(r[i])
        for i in range(n):
            key = rb[i]
            slot = (key >> LOW_BITS) + (i & 1) * N_BINS
            slot = _ZERO + (i & 15) if key == 0 else slot
            r_acc[slot] += _ONE + (key & LOW_I32)
            r_d2[slot] += np.float64(a[i]) * np.float64(a[i])
        for i in range(n):
            key = ab[i]
            slot = (key >> LOW_BITS) + (i & 1) * N_BINS
            slot = _ZERO + (i & 15) if key == 0 else slot
            low = np.int64(key & LOW_I32)
            a_acc[slot] += _ONE + low
            a_sq[slot] += low * low
    return n_changed, tiny_sum, r_max, a_max, p2


@compiled
def changes(q: Words, t: Words, half: bool, out: Array) -> None:
    """|t - q| of base q and tuned t, float32 [n]."""
    qw, tw = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.uint32)
    qf, tf = qw.view(np.float32), tw.view(np.float32)
    for start in range(0, q.size, BLOCK):
        n = min(BLOCK, q.size - start)
        load_words(q[start : start + n], half, qw)
        load_words(t[start : start + n], half, tw)
        part = out[start : start + n]
        for i in range(n):
            part[i] = abs(tf[i] - qf[i])


@compiled
def count_ratio(p: Words, half: bool, change: Array, eps: np.float32, acc: Array) -> None:
    """Add r_i = change[i] / (|p_i| + eps) to an accumulator, int64 [N_SLOTS]; change: float32 [n]."""
    pw = np.empty(BLOCK, np.uint32)
    pf = pw.view(np.float32)
    r = np.empty(BLOCK, np.float32)
    rb = r.view(np.int32)
    for start in range(0, p.size, BLOCK):
        n = min(BLOCK, p.size - start)
        load_words(p[start : start + n], half, pw)
        part = change[start : start + n]
        for i in range(n):
            r[i] = part[i] / (abs(pf[i]) + eps)
        add_patterns(rb, n, acc)


@compiled
def next_bits(state: np.uint64) -> np.uint64:
    """64 random bits of a counter that goes up by GAMMA from call to call (splitmix64)."""
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled
def deal(change: Array, first: int, state: np.uint64, out: Array) -> np.uint64:
    """One block of a permutation from its end on (Fisher and Yates): out[i - first] is the change that place i takes.

    change [n], float32: what is not dealt out yet, of which places first..n-1 are taken. A number below n is drawn
    without bias (Lemire: of 32 random bits the product's upper half, again where the lower half is too low).
    """
    for at in range(change.size - 1, first - 1, -1):
        size = np.uint64(at + 1)
        state += GAMMA
        drawn = (next_bits(state) >> np.uint64(32)) * size
        if (drawn & _HALF) < size:
            limit = (np.uint64(1 << 32) - size) % size
            while (drawn & _HALF) < limit:
                state += GAMMA
                drawn = (next_bits(state) >> np.uint64(32)) * size
        other = np.int64(drawn >> np.uint64(32))
        taken = change[other]
        change[other] = change[at]
        out[at - first] = taken
    return state


@compiled
def split(change: Array, state: np.uint64, place: Array, out: Array, ends: Array) -> np.uint64:
    """Each change into one of N_PILES piles, drawn at random; the piles follow one another in out [n].

    With each pile shuffled this is a random permutation, and a pile fits a core's cache. place: uint8 [n];
    ends: int64 [N_PILES + 1], where the piles end.
    """
    ends[:] = 0
    for start in range(0, change.size, 10):
        state += GAMMA
        drawn = next_bits(state)
        for i in range(start, min(start + 10, change.size)):
            pile = np.int64(drawn & np.uint64(N_PILES - 1))
            drawn >>= np.uint64(6)
            place[i] = pile
            ends[pile + 1] += 1
    for i in range(N_PILES):
        ends[i + 1] += ends[i]
    at = ends[:N_PILES].copy()
    for i in range(change.size):
        out[at[place[i]]] = change[i]
        at[place[i]] += 1
    return state


@compiled
def count_shuffled(p: Array, change: Array, state: np.uint64, eps: np.float32, acc: Array) -> np.uint64:
    """Add r of base weights |p| [n] whose changes |d| [n] are permuted; float32. `change` is used up."""
    r = np.empty(BLOCK, np.float32)
    rb = r.view(np.int32)
    left = p.size
    while left > 0:
        n = min(BLOCK, left)
        start = left - n
        state = deal(change[:left], start, state, r)
        for i in range(n):
            r[i] /= p[start + i] + eps
        add_patterns(rb, n, acc)
        left = start
    return state


@compiled
def count_dealt(
    p: Array, change: Array, blocks: Array, within: Array, turns: Array, eps: np.float32, acc: Array
) -> None:
    """Add r of base weights |p| [n] whose changes |d| [n] are dealt out block by block; float32.

    Block b takes the changes of block blocks[b], in the order `within` (int32, the same order twice in a row)
    turned by turns[b].
    """
    r = np.empty(BLOCK, np.float32)
    rb = r.view(np.int32)
    size = within.size // 2
    for block in range(blocks.size):
        part = change[blocks[block] * size : (blocks[block] + 1) * size]
        for start in range(0, size, BLOCK):
            n = min(BLOCK, size - start)
            places = within[turns[block] + start : turns[block] + start + n]
            weights = p[block * size + start : block * size + start + n]
            for i in range(n):
                r[i] = part[places[i]] / (weights[i] + eps)
            add_patterns(rb, n, acc)


@compiled
def collect(acc: Array, extra: Array) -> Any:
    """Empty an accumulator: (bins int32, n int64, sum of low bits int64, extra) of its used bins.

    extra: a second accumulator of the same slots, int64 or float64, which is emptied with it.
    """
    used = 0
    for i in range(16):
        acc[0] += acc[_ZERO + i]
        extra[0] += extra[_ZERO + i]
        acc[_ZERO + i] = 0
        extra[_ZERO + i] = 0
    for b in range(N_BINS):
        used += acc[b] != 0 or acc[b + N_BINS] != 0
    bins, n = np.empty(used, np.int32), np.empty(used, np.int64)
    low, more = np.empty(used, np.int64), np.empty(used, extra.dtype)
    at = 0
    for b in range(N_BINS):
        packed = acc[b] + acc[b + N_BINS]
        if packed:
            bins[at] = b
            n[at] = packed >> COUNT_BIT
            low[at] = packed & (_ONE - 1)
            more[at] = extra[b] + extra[b + N_BINS]
            acc[b] = acc[b + N_BINS] = 0
            extra[b] = extra[b + N_BINS] = 0
            at += 1
    return bins, n, low, more
