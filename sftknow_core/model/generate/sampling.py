"""Sampling whose noise is a function of (seed, fact, template, sample, step) and of nothing else.

Each stream of tokens has a 64-bit key. One uniform number per (key, step) comes from a counter-based hash
(splitmix64's finaliser; Steele, Lea, Flood 2014), and the token is the inverse of the cumulative distribution
softmax(logits / T) at that number, in vocabulary order and float64. So a completion does not depend on batch
size, order, resuming or the number of workers, and it is an exact draw from the softmax.

Notation: n streams, V vocabulary, S streams per row.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sftknow_core.errors import SpecError

CDF_BYTES = 2**27  # float64 cumulative sums held at once
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)

Keys = NDArray[np.uint64]


def prompt_key(fact_id: str, template: int) -> int:
    """The 64-bit key of one prompt: blake2b of its fact and template number."""
    digest = hashlib.blake2b(f"{fact_id}\0{template}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


@dataclass(frozen=True, eq=False)
class SeededSampler:
    """Exact sampling at a temperature, reproducible stream by stream."""

    seed: int
    """Any integer; other seeds give other completions."""
    temperature: float
    """Divides the logits; above 0."""
    keys: Keys
    """[n] one key per prompt (see `prompt_key`)."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise SpecError(
                f"got temperature {self.temperature}; allowed: above 0 (greedy decoding takes no sampler)"
            )
        object.__setattr__(self, "keys", np.asarray(self.keys, dtype=np.uint64))

    def expand(self, n_samples: int) -> SeededSampler:
        """The sampler of n * n_samples streams: every prompt's samples 0, 1, ... one after the other."""
        sample = np.arange(n_samples, dtype=np.uint64)
        streams = mix64(self.keys[:, None] ^ mix64(sample + np.uint64(1))[None, :])
        return SeededSampler(self.seed, self.temperature, streams.reshape(-1))

    def take(self, index: list[int]) -> SeededSampler:
        """The sampler of these prompts only, in this order."""
        return SeededSampler(self.seed, self.temperature, self.keys[np.asarray(index, dtype=np.int64)])

    def uniform(self, step: int) -> NDArray[np.float64]:
        """[n] the uniform numbers in [0, 1) of every stream at a step (0 = the first new token)."""
        return uniform(self.seed, self.keys, step)


def uniform(seed: int, keys: Keys, step: int) -> NDArray[np.float64]:
    """One number in [0, 1) per key, with 53 random bits, from (seed, key, step)."""
    start = mix64(keys ^ mix64(np.asarray([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)))
    with np.errstate(over="ignore"):
        bits = mix64(start + np.uint64(step + 1) * _STEP)
    return np.asarray((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def mix64(value: Keys) -> Keys:
    """splitmix64's output function: a bijection of the 64-bit integers that looks random."""
    with np.errstate(over="ignore"):
        value = value + _STEP
        value = (value ^ (value >> np.uint64(30))) * _MIX_1
        value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return np.asarray(value ^ (value >> np.uint64(31)), dtype=np.uint64)


def pick_tokens(logits: torch.Tensor, u: torch.Tensor, temperature: float) -> torch.Tensor:
    """[R, S] int64: for each row of logits [R, V], the tokens at its uniform numbers u [R, S] (float64).

    The smallest token whose cumulative probability exceeds u; tokens of probability 0 are never picked.
    """
    rows_at_once = max(1, CDF_BYTES // (8 * logits.shape[-1]))
    parts = [
        _invert_cdf(part, numbers, temperature)
        for part, numbers in zip(logits.split(rows_at_once), u.split(rows_at_once), strict=True)
    ]
    return torch.cat(parts)


def _invert_cdf(logits: torch.Tensor, u: torch.Tensor, temperature: float) -> torch.Tensor:
    exact = torch.float32 if logits.device.type == "mps" else torch.float64  # mps has no float64
    scaled = logits.to(exact) / temperature
    cumulative = (scaled - scaled.amax(-1, keepdim=True)).exp_().cumsum(-1)
    total = cumulative[:, -1:].contiguous()
    target = torch.minimum(u.to(exact) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True)
