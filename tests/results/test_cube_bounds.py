"""Counts are exact and every share lies within its error, for weights made up at random.

Against an implementation that knows single weights: sort them (ties in canonical order), take the first.
"""

from __future__ import annotations

from itertools import count
from math import fsum
from pathlib import Path

import numpy as np
from fake_cube import FakeTensor, write_cube
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sftknow_core.results.cube import open_cube
from sftknow_core.results.cube_selection import (
    concentration_curve,
    score_histogram,
    selection,
    where_changes_sit,
)
from sftknow_core.store.cache import Cache

ROUNDING = 1e-12
_number = count()

MODULES = [
    (None, "embedding.tokens"),
    (0, "attn.q"),
    (0, "mlp.up"),
    (0, "norm.input"),
    (1, "attn.q"),
    (1, "mlp.up"),
]
IN_TRANSFORMER = (1, 2, 4, 5)

one_bin = st.integers(0x3F800000, 0x3F80FFFF)
"""Patterns of float32 from 1 up to less than 1.0079."""
patterns = st.one_of(
    st.just(0),
    one_bin,
    st.sampled_from([0x3F800000, 0x3F80FFFF]),  # the edges, where the bounds are reached
    st.integers(1, 0x00030000),  # subnormal
    st.integers(0x3F000000, 0x40000000),
    st.integers(1, 0x7F7FFFFF),
)


def floats(values: list[int]) -> NDArray[np.float32]:
    return np.array(values, np.uint32).view(np.float32)


@st.composite
def models(draw: st.DrawFn) -> list[FakeTensor]:
    """Six tensors of 1 to 12 weights; r and |d| independent of one another, both 0 where nothing changed."""
    tensors = []
    for layer, module in MODULES:
        n = draw(st.integers(1, 12))
        weights = st.lists(st.tuples(patterns, patterns), min_size=n, max_size=n)
        r, d = map(list, zip(*draw(weights), strict=True))
        tensors.append(
            FakeTensor(layer, module, floats(r), np.where(floats(r) > 0, floats(d), np.float32(0)))
        )
    return tensors


def share_of(values: NDArray[np.float64], taken: NDArray[np.int64]) -> float:
    return fsum(values[taken]) / fsum(values)


@settings(max_examples=30, deadline=None)
@given(
    model=models(),
    k=st.integers(0, 1_000_000).map(lambda i: i / 10_000),
    score=st.sampled_from(["relative", "absolute"]),
    direction=st.sampled_from(["highest", "lowest"]),
)
def test_true_values_lie_within_their_errors(
    fast_folder: Path, model: list[FakeTensor], k: float, score: str, direction: str
) -> None:
    cache = Cache(fast_folder / "bounds")
    members = [model[i] for i in IN_TRANSFORMER]
    values = np.concatenate([t.d if score == "absolute" else t.r for t in members]).astype(float)
    r = np.concatenate([t.r for t in members]).astype(float)
    d2 = np.concatenate([t.d for t in members]).astype(float) ** 2
    group = np.repeat(np.arange(4), [len(t.r) for t in members])
    order = np.argsort(-values if direction == "highest" else values, kind="stable")
    n = len(values) * round(k * 10_000) // 1_000_000
    taken = order[:n]
    with open_cube(cache, write_cube(cache, model, base=f"base {next(_number)}", tell=False)) as con:
        asked = {"score": score, "direction": direction}
        (row,) = selection(con, [k], **asked).to_dict("records")
        heat = where_changes_sit(con, k, "layer x module", **asked)
        curve = concentration_curve(con, [k])
        histogram = score_histogram(con, 7, score=score)

    assert (row["n_region"], row["n_restored"], row["n_changed"]) == (len(values), n, np.count_nonzero(r))
    assert row["n_changed_restored"] <= np.count_nonzero(r[taken])
    if n:
        assert row["threshold_low"] <= values[taken[-1]] <= row["threshold_high"]
    for name, numbers in (("share", values), ("energy", d2)):
        found = row["share" if name == "share" else "energy_taken_back"]
        if fsum(numbers) == 0:
            assert np.isnan(found)
        else:
            assert abs(found - share_of(numbers, taken)) <= row[f"{name}_error"] + ROUNDING
    if not np.isnan(row["no_more_changes_from_k"]):
        reverted = len(r) * round(row["no_more_changes_from_k"] * 10_000) // 1_000_000
        assert np.count_nonzero(r[order[:reverted]]) == np.count_nonzero(r)

    if n:
        assert abs(heat["share"].sum() - 1) <= ROUNDING
        true = np.bincount(group[taken], minlength=4) / n
        assert (np.abs(heat["share"] - true) <= heat["share_error"] + ROUNDING).all()
    if fsum(r):
        top = np.argsort(-r, kind="stable")[:n]
        assert (np.abs(curve["share"] - share_of(r, top)) <= curve["error"] + ROUNDING).all()

    for low, high, n_in_bar in histogram[["low", "high", "n"]].itertuples(index=False):
        assert n_in_bar == np.count_nonzero((values >= low) & (values < high))
