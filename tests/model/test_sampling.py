"""Sampling: exact draws from the softmax, as a function of (seed, fact, template, sample, step) alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from sftknow_core.errors import SpecError
from sftknow_core.model.generate.sampling import SeededSampler, mix64, pick_tokens, prompt_key, uniform


def keys(n: int) -> np.ndarray:
    return np.array([prompt_key(f"fact{i}", 0) for i in range(n)], dtype=np.uint64)


def test_mix64_is_splitmix64() -> None:
    """The first outputs of splitmix64 seeded with 0, published with its reference code."""
    state = np.array([0, 0x9E3779B97F4A7C15], dtype=np.uint64)
    assert [hex(v) for v in mix64(state)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4"]


def test_uniform_numbers_are_uniform_over_keys_and_over_steps() -> None:
    assert kstest(uniform(0, keys(4000), 0), "uniform").pvalue > 0.001
    over_steps = np.array([uniform(7, keys(1), step)[0] for step in range(2000)])
    assert kstest(over_steps, "uniform").pvalue > 0.001
    lagged = np.corrcoef(over_steps[1:], over_steps[:-1])[0, 1]
    assert abs(lagged) < 0.08


def test_every_part_of_the_identity_changes_the_number() -> None:
    one = SeededSampler(0, 1.0, np.array([prompt_key("fact", 0)], dtype=np.uint64)).expand(2)
    other_template = SeededSampler(0, 1.0, np.array([prompt_key("fact", 1)], dtype=np.uint64)).expand(2)
    other_seed = SeededSampler(1, 1.0, one.keys)
    numbers = [*one.uniform(0), *one.uniform(1), *other_template.uniform(0), *other_seed.uniform(0)]
    assert len(set(numbers)) == 8
    assert prompt_key("fact1", 1) != prompt_key("fact", 11)


def test_distribution_is_softmax_at_the_temperature() -> None:
    """20,000 draws from one row of five logits at T = 0.7 against n * softmax(logits / 0.7)."""
    logits = torch.tensor([[1.0, 0.2, -0.5, float("-inf"), 2.0]])
    u = torch.from_numpy(uniform(3, keys(20_000), 0))[None, :]
    counts = torch.bincount(pick_tokens(logits, u, 0.7)[0], minlength=5)
    expected = torch.softmax(logits.double()[0] / 0.7, 0) * 20_000
    assert counts[3] == 0
    finite = [0, 1, 2, 4]
    assert chisquare(counts[finite].numpy(), expected[finite].numpy()).pvalue > 0.001


def test_inverse_of_the_cumulative_distribution_by_hand() -> None:
    """softmax = (1/4, 1/4, 1/2): below 0.25 token 0, below 0.5 token 1, else token 2."""
    logits = torch.log(torch.tensor([[1.0, 1.0, 2.0]], dtype=torch.float64))
    u = torch.tensor([[0.0, 0.2499, 0.2501, 0.4999, 0.5001, 1 - 2**-53]], dtype=torch.float64)
    assert pick_tokens(logits, u, 1.0).tolist() == [[0, 0, 1, 1, 2, 2]]


def test_impossible_tokens_are_never_drawn_at_the_ends() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf")]])
    u = torch.tensor([[0.0, 1 - 2**-53]], dtype=torch.float64)
    assert pick_tokens(logits, u, 0.7).tolist() == [[1, 1]]


def test_rows_are_independent_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 30, generator=generator)
    u = torch.from_numpy(uniform(0, keys(150), 0)).reshape(50, 3)
    together = pick_tokens(logits, u, 0.7)
    alone = torch.cat([pick_tokens(logits[i : i + 1], u[i : i + 1], 0.7) for i in range(50)])
    monkeypatch.setattr("sftknow_core.model.generate.sampling.CDF_BYTES", 30 * 8 * 7)  # seven rows at a time
    assert torch.equal(together, alone) and torch.equal(together, pick_tokens(logits, u, 0.7))


def test_taking_prompts_keeps_their_streams() -> None:
    sampler = SeededSampler(0, 0.7, keys(5))
    assert np.array_equal(sampler.take([3, 1]).uniform(2), sampler.uniform(2)[[3, 1]])
    assert np.array_equal(sampler.take([3]).expand(4).keys, sampler.expand(4).keys[12:16])


def test_temperature_must_be_positive() -> None:
    with pytest.raises(SpecError, match=r"got temperature 0\.0; allowed: above 0"):
        SeededSampler(0, 0.0, keys(1))
