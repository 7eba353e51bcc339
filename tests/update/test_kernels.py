"""Compiled loops against tensor operations, weight by weight, and on weights that are no finite numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_source import FakeSource

from sftknow_core.errors import ModelError
from sftknow_core.update import kernels, restore_kernels
from sftknow_core.update.counting import KernelCounter
from sftknow_core.update.histogram import Histogram, add_floats, fixed_point_sums, square_sums_of, sums_of
from sftknow_core.update.pair import Chunk
from sftknow_core.update.scores import MAX_BITS, N_BINS, Score, absolute, bits, relative

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def chunk_of(base: torch.Tensor, tuned: torch.Tensor) -> Chunk:
    return Chunk(FakeSource({"0.mlp.x": base}).metas[0], 0, base, tuned)


def random_chunk(dtype: torch.dtype, n: int = 10_001, seed: int = 0) -> Chunk:
    """Weights with zeros of both signs, subnormals and unchanged ones among them."""
    generator = torch.Generator().manual_seed(seed)
    base = (torch.randn(n, generator=generator) * 0.02).to(dtype)
    base[:40:2], base[1:40:2], base[40:50] = 0.0, -0.0, 1e-7
    tuned = (base.float() + torch.randn(n, generator=generator) * 1e-4).to(dtype)
    tuned[10:30], tuned[100:3000] = 0.0, base[100:3000]
    return chunk_of(base, tuned)


def test_every_half_is_read_as_torch_reads_it() -> None:
    """All 65,536 float16 patterns but infinities and NaNs, whose scores must not count as finite."""
    patterns = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    values = patterns.view(torch.float16)
    finite = values[torch.isfinite(values)]
    words = np.empty(len(finite), np.uint32)
    kernels.load_words(finite.view(torch.int16).numpy().view(np.uint16), True, words)
    assert (words.view(np.int32) == finite.float().view(torch.int32).numpy()).all()
    odd = values[~torch.isfinite(values)]
    words = np.empty(len(odd), np.uint32)
    kernels.load_words(odd.view(torch.int16).numpy().view(np.uint16), True, words)
    assert not np.isfinite(words.view(np.float32)).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_bins_are_those_of_the_scores(dtype: torch.dtype) -> None:
    chunk = random_chunk(dtype)
    counter = KernelCounter((Score.RELATIVE, Score.ABSOLUTE))
    counter.add(chunk)
    sums = counter.take()
    assert sums.n_changed == int(chunk.changed.sum())
    assert sums.max_r == float(relative(chunk).max())
    for score, values in ((Score.RELATIVE, relative(chunk)), (Score.ABSOLUTE, absolute(chunk))):
        found, patterns = sums.bins[score], bits(values).numpy()
        bins, n = np.unique(patterns >> 16, return_counts=True)
        assert (found.bins == bins).all()
        assert (found.n == n).all()
        low = np.bincount(patterns >> 16, weights=patterns & 0xFFFF, minlength=N_BINS)
        assert (found.low == low[bins]).all()
        exact = np.bincount(patterns >> 16, weights=values.double().numpy(), minlength=N_BINS)[bins]
        assert sums_of(found.bins, found.n, found.low) == pytest.approx(exact, rel=1e-12)
        squares = np.bincount(patterns >> 16, weights=values.double().square().numpy(), minlength=N_BINS)[
            bins
        ]
        if found.squares is not None:
            again = square_sums_of(found.bins, found.n, found.low, found.squares)
            assert again == pytest.approx(squares, rel=1e-12)
    d2 = np.bincount(bits(relative(chunk)).numpy() >> 16, weights=chunk.d2.numpy(), minlength=N_BINS)
    assert sums.bins[Score.RELATIVE].d2 == pytest.approx(d2[sums.bins[Score.RELATIVE].bins], rel=1e-12)
    assert counter.take().bins[Score.RELATIVE].n.size == 0  # taken once, gone


@pytest.mark.parametrize("highest_first", [True, False])
@pytest.mark.parametrize("is_relative", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_restoring_by_hand(dtype: torch.dtype, is_relative: bool, highest_first: bool) -> None:
    chunk = random_chunk(dtype)
    patterns = bits(relative(chunk) if is_relative else absolute(chunk))
    keys = MAX_BITS - patterns if highest_first else patterns
    cut = int(keys.sort().values[4000])
    assert chunk.words is not None
    base, tuned, half = chunk.words
    out, ties, tally = np.empty_like(base), np.empty(len(base), np.int32), np.zeros(4)
    restored, touched, equal, changed, _ = restore_kernels.restore(
        base, tuned, half, is_relative, highest_first, np.int32(cut), out, ties, tally
    )
    taken = (keys < cut).numpy()
    assert (out == np.where(taken, base, tuned)).all()
    assert (restored, equal) == (taken.sum(), int((keys == cut).sum()))
    assert (touched, changed) == ((taken & (base != tuned)).sum(), (base != tuned).sum())
    assert (ties[:equal] == (keys == cut).nonzero().view(-1).numpy()).all()
    r, d2 = relative(chunk).double().numpy(), chunk.d2.numpy()
    expected = [r.sum(), r[taken].sum(), d2.sum(), d2[(keys > cut).numpy()].sum()]
    assert tally == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("value", [float("nan"), -float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("side", ["base", "tuned"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_is_found_before_it_is_counted(
    dtype: torch.dtype, side: str, value: float
) -> None:
    """A NaN's pattern can be negative, and as an index would lie outside the accumulators."""
    chunk = random_chunk(dtype)
    (chunk.base if side == "base" else chunk.tuned)[7777] = value
    with pytest.raises(ModelError, match=rf"tensor 0\.mlp\.x of {side} holds NaN or infinite"):
        KernelCounter((Score.RELATIVE,)).add(chunk)


def test_sums_off_the_cpu_do_not_depend_on_the_order() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(5000, generator=generator, dtype=torch.float64) * 1e-6
    bins = torch.randint(0, 50, (5000,), generator=generator, dtype=torch.int32)
    order = torch.randperm(5000, generator=generator)
    one = fixed_point_sums(bins, values, 50)
    assert torch.equal(one, fixed_point_sums(bins[order], values[order], 50))
    in_order = torch.zeros(50, dtype=torch.float64)
    add_floats(in_order, bins, values)
    assert torch.allclose(one, in_order, rtol=1e-9, atol=0)
    assert not fixed_point_sums(bins[:0], values[:0], 50).any()


def test_histogram_counts_and_sums_are_exact() -> None:
    values = torch.tensor([0.0, 1.0, 1.0, 1.00390625, 3.0])
    histogram = Histogram(torch.device("cpu"))
    assert histogram.add(values).tolist() == [0, 0x3F80, 0x3F80, 0x3F80, 0x4040]
    bins = np.flatnonzero(histogram.counts()).astype(np.int32)
    assert histogram.counts()[bins].tolist() == [1, 3, 1]
    assert sums_of(bins, histogram.counts()[bins], histogram.low_sums()[bins]).tolist() == [0, 3.00390625, 3]
