"""The compiled inner loops of selecting and restoring; see `kernels` for words, patterns and keys.

numba recompiles when this file changes, not when a function does that it takes over from `kernels`: whoever
changes one there touches this file too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sftknow_core.update.kernels import (
    BLOCK,
    EPS_F32,
    INFINITE_I32,
    LOW_I32,
    MAGNITUDE_I32,
    Array,
    add_patterns,
    compiled,
    load_words,
)
from sftknow_core.update.pair import Words
from sftknow_core.update.scores import LOW_BITS, MAX_BITS


@compiled
def _patterns(pf: Array, sf: Array, n: int, is_relative: bool, out: Array) -> None:
    for i in range(n):
        out[i] = abs(sf[i] - pf[i])
    if is_relative:
        for i in range(n):
            out[i] /= abs(pf[i]) + EPS_F32


@compiled
def count_low(
    p: Words, s: Words, half: bool, is_relative: bool, highest_first: bool, slots: Array, counts: Array
) -> Any:
    """Add the keys that lie in a few bins to counts by their low bits.

    slots: int16 [N_BINS], row of `counts` for each bin of the key, or -1; counts: int64 [rows, 2^LOW_BITS].
    Returns (scores of 0, weights whose bits differ, largest pattern).
    """
    pw, sw = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.uint32)
    pf, sf = pw.view(np.float32), sw.view(np.float32)
    score = np.empty(BLOCK, np.float32)
    keys = score.view(np.int32)
    n_zeros, n_changed, largest = 0, 0, np.int32(0)
    for start in range(0, p.size, BLOCK):
        n = min(BLOCK, p.size - start)
        load_words(p[start : start + n], half, pw)
        load_words(s[start : start + n], half, sw)
        _patterns(pf, sf, n, is_relative, score)
        for i in range(n):
            largest = max(largest, keys[i] & MAGNITUDE_I32)
        if largest >= INFINITE_I32:
            break
        for i in range(n):
            n_zeros += keys[i] == 0
        for i in range(n):
            n_changed += pw[i] != sw[i]
        if highest_first:
            for i in range(n):
                keys[i] = MAX_BITS - keys[i]
        for i in range(n):
            row = slots[keys[i] >> LOW_BITS]
            if row >= 0:
                counts[row, keys[i] & LOW_I32] += 1
    return n_zeros, n_changed, largest


@compiled
def count_score(p: Words, s: Words, half: bool, is_relative: bool, acc: Array) -> np.int32:
    """Add one score of n weights to an accumulator; returns the largest pattern."""
    pw, sw = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.uint32)
    pf, sf = pw.view(np.float32), sw.view(np.float32)
    score = np.empty(BLOCK, np.float32)
    keys = score.view(np.int32)
    largest = np.int32(0)
    for start in range(0, p.size, BLOCK):
        n = min(BLOCK, p.size - start)
        load_words(p[start : start + n], half, pw)
        load_words(s[start : start + n], half, sw)
        _patterns(pf, sf, n, is_relative, score)
        for i in range(n):
            largest = max(largest, keys[i] & MAGNITUDE_I32)
        if largest >= INFINITE_I32:
            break
        add_patterns(keys, n, acc)
    return largest


@compiled
def restore(
    p: Words,
    s: Words,
    half: bool,
    is_relative: bool,
    highest_first: bool,
    cut: np.int32,
    out: Words,
    ties: Array,
    tally: Array,
) -> Any:
    """out = p where the key lies below `cut`, else s; all three the same kind of word.

    ties: int32 [n] takes the places of keys equal to the cut, in order; tally: float64 [4] takes up the sum of
    r over all and over restored weights, and of (s - p)^2 over all and over the others (where ties are asked
    for, without these); either is left out when empty. Returns (restored, restored whose bits differ, keys
    equal to the cut, weights whose bits differ, largest pattern).
    """
    pw, sw = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.uint32)
    pf, sf = pw.view(np.float32), sw.view(np.float32)
    score = np.empty(BLOCK, np.float32)
    keys = score.view(np.int32)
    n_restored, n_touched, n_ties, n_changed = 0, 0, 0, 0
    all_r, moved, all_d2, kept = 0.0, 0.0, 0.0, 0.0
    stays = cut + 1 if ties.size else cut
    largest = np.int32(0)
    for start in range(0, p.size, BLOCK):
        n = min(BLOCK, p.size - start)
        p_part, s_part, o_part = p[start : start + n], s[start : start + n], out[start : start + n]
        load_words(p_part, half, pw)
        load_words(s_part, half, sw)
        _patterns(pf, sf, n, is_relative, score)
        for i in range(n):
            largest = max(largest, keys[i] & MAGNITUDE_I32)
        if largest >= INFINITE_I32:
            break
        if highest_first:
            for i in range(n):
                keys[i] = MAX_BITS - keys[i]
        for i in range(n):
            o_part[i] = p_part[i] if keys[i] < cut else s_part[i]
        for i in range(n):
            n_restored += keys[i] < cut
        equal = 0
        for i in range(n):
            equal += keys[i] == cut
        if ties.size and equal:
            at = n_ties
            for i in range(n):
                if keys[i] == cut:
                    ties[at] = start + i
                    at += 1
        n_ties += equal
        if tally.size:
            for i in range(n):
                n_touched += o_part[i] != s_part[i]
            for i in range(n):
                n_changed += p_part[i] != s_part[i]
            for i in range(n):
                r = abs(sf[i] - pf[i]) / (abs(pf[i]) + EPS_F32)
                all_r += np.float64(r)
                moved += np.float64(r) if keys[i] < cut else 0.0
            for i in range(n):
                d = np.float64(abs(sf[i] - pf[i]))
                all_d2 += d * d
                kept += d * d if keys[i] >= stays else 0.0
    if tally.size:
        tally[0] += all_r
        tally[1] += moved
        tally[2] += all_d2
        tally[3] += kept
    return n_restored, n_touched, n_ties, n_changed, largest
