"""Two next-token distributions compared over ten tokens (Ye et al. 2025, section 4).

T are the ten tokens with the highest logits of the first model. p is the softmax of its ten logits, q that
of the second model's logits of the same ten tokens; KL(p || q) = sum_i p_i log(p_i / q_i), in nats. Both
leave out what lies outside the ten, so that share is given for each.

Notation: m prompts, n of them compared, V vocabulary, K = min(10, V) tokens. Logits come as float32; all
arithmetic is float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from sftknow_core.errors import ModelError

TOP_TOKENS = 10
PIECE = 2**24
"""Logits held in float64 at once."""


@dataclass(frozen=True)
class NextTokens:
    """Next-token logits of one model after m prompts, with what every comparison needs of them."""

    logits: torch.Tensor
    """[m, V] float32."""
    log_total: torch.Tensor
    """[m] float64: log of the sum of exp(logits)."""
    top: torch.Tensor
    """[m, K] int64: the tokens of the highest logits, highest first."""

    @classmethod
    def of(cls, logits: torch.Tensor) -> NextTokens:
        """From logits [m, V]. Raises ModelError on NaN."""
        if logits.isnan().any():
            raise ModelError("a model gives NaN as logits; load it with dtype float32, or check its weights")
        pieces = logits.split(max(1, PIECE // max(1, logits.shape[1])))
        return cls(logits, torch.cat([p.double().logsumexp(dim=1) for p in pieces]), top_ids(logits))


class Comparison(NamedTuple):
    """Row by row, two distributions over the first one's ten tokens."""

    ids: torch.Tensor
    """[n, K] int64, highest logit first."""
    p_first: torch.Tensor
    """[n, K] float64; a row sums to 1."""
    p_second: torch.Tensor
    """[n, K] float64; a row sums to 1."""
    outside_first: torch.Tensor
    """[n] float64: the probability outside the ten, 0 to 1."""
    outside_second: torch.Tensor
    """[n] float64: the same of the second."""
    kl_nats: torch.Tensor
    """[n] float64, never negative; infinite where the second excludes one of the ten."""


class Gold(NamedTuple):
    """One token a row, over the whole vocabulary."""

    p: torch.Tensor
    """[n] float64 probability."""
    rank: torch.Tensor
    """[n] int64, 1 for the highest logit; equal logits share the better rank."""


def compare(first: NextTokens, here: torch.Tensor, second: NextTokens, there: torch.Tensor) -> Comparison:
    """Prompts `here` [n] of the first against prompts `there` [n] of the second; one vocabulary."""
    ids = first.top[here]
    log_p, outside_first = _within(first, here, ids)
    log_q, outside_second = _within(second, there, ids)
    p = log_p.exp()
    terms = torch.where(p > 0, p * (log_p - log_q), 0.0)
    kl = terms.sum(dim=1).clamp(min=0)  # rounding can pass below 0
    return Comparison(ids, p, log_q.exp(), outside_first, outside_second, kl)


def gold(model: NextTokens, rows: torch.Tensor, tokens: torch.Tensor) -> Gold:
    """Probability and rank of one token [n] after each of the prompts `rows` [n]."""
    own = model.logits[rows, tokens]
    rank = (model.logits[rows] > own[:, None]).sum(dim=1) + 1
    return Gold((own.double() - model.log_total[rows]).exp(), rank)


def top_ids(logits: torch.Tensor, k: int = TOP_TOKENS) -> torch.Tensor:
    """[m, K] the tokens of the highest logits, highest first; of equal logits the smaller id.

    Logits of 16-bit models tie often, and topk alone breaks ties differently from machine to machine.
    """
    top = logits.topk(min(k, logits.shape[1]), dim=1)
    ids, last = top.indices.clone(), top.values[:, -1:]
    for row in ((logits >= last).sum(dim=1) > ids.shape[1]).nonzero()[:, 0].tolist():
        above = (logits[row] > last[row]).nonzero()[:, 0]
        level = (logits[row] == last[row]).nonzero()[:, 0]
        ids[row] = torch.cat([above, level])[: ids.shape[1]]
    ids = ids.sort(dim=1).values
    order = logits.gather(1, ids).sort(dim=1, descending=True, stable=True).indices
    return ids.gather(1, order)


def _within(model: NextTokens, rows: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-softmax over the chosen tokens [n, K], and the probability outside them [n]."""
    chosen = model.logits[rows[:, None], ids].double()
    inside = chosen.logsumexp(dim=1) - model.log_total[rows]
    return chosen.log_softmax(dim=1), -torch.expm1(inside.clamp(max=0))
