"""Prompts -> next-token logits; prompts with continuations -> log-probabilities, teacher-forced.

Notation: n prompts, V vocabulary. Everything returned is float32, on the CPU or the model's device as stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from sftknow_core.errors import SpecError
from sftknow_core.model.generate.batching import (
    by_length,
    forward_logits,
    last_logits,
    pad_left,
    shrinking_batches,
    tokens_at_once,
)
from sftknow_core.model.generate.decode import Prompt, check_request
from sftknow_core.model.io.load import LanguageModel

CHUNK_BYTES = 2**28  # float32 logits yielded at once


def next_token_logits(
    lm: LanguageModel, prompts: Sequence[Prompt], *, batch_size: int | None = None
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield (slice of the prompts, their next-token logits [n, V] float32 on the model's device), in order.

    A slice is as long as its logits fit into 256 MiB, and at least one batch. Raises SpecError for an empty
    prompt, ModelError when one prompt alone does not fit into memory.
    """
    check_request(lm, prompts, 1, batch_size)
    n_vocab = lm.plain.get_input_embeddings().weight.shape[0]
    rows = max(batch_size or 1, CHUNK_BYTES // (4 * n_vocab))
    for start in range(0, len(prompts), rows):
        part = slice(start, min(start + rows, len(prompts)))
        yield part, _chunk_logits(lm, prompts[part], batch_size)


def _chunk_logits(lm: LanguageModel, prompts: Sequence[Prompt], batch_size: int | None) -> torch.Tensor:
    def run(batch: list[int]) -> torch.Tensor:
        padded = pad_left([prompts[i] for i in batch], lm.pad_id, lm.device)
        with torch.inference_mode():
            return last_logits(lm, padded.ids, padded.mask, padded.positions).float()

    def size_at(first: int) -> int:
        return batch_size or tokens_at_once(lm.device) // len(prompts[first])

    order: list[int] = []
    parts: list[torch.Tensor] = []
    for batch, logits in shrinking_batches(by_length(prompts), size_at, run):
        order += batch
        parts.append(logits)
    together = torch.cat(parts)
    return torch.empty_like(together).index_copy_(0, torch.tensor(order, device=lm.device), together)


def continuation_logprobs(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    continuations: Sequence[Prompt],
    temperature: float = 1.0,
    *,
    batch_size: int | None = None,
) -> list[float]:
    """log P(continuation | prompt) of each pair in nats, in order, under softmax(logits / temperature).

    The sum over the continuation's tokens, so never above 0. A sequence that begins another one is read with
    it, so the aliases of one answer after one prompt share most of their work. Raises SpecError for an empty
    prompt or continuation, unlike numbers of both, or a temperature of 0 or less.
    """
    if len(prompts) != len(continuations) or not all(len(c) for c in continuations):
        raise SpecError(
            f"got {len(prompts)} prompts and {len(continuations)} continuations; give one continuation "
            "of at least one token per prompt"
        )
    if not temperature > 0:
        raise SpecError(f"got temperature {temperature}; allowed: above 0")
    check_request(lm, prompts, 1, batch_size)
    hosts, host_of = _merge_prefixes([(*p, *c[:-1]) for p, c in zip(prompts, continuations, strict=True)])
    wanted: list[list[_Wanted]] = [[] for _ in hosts]
    for pair, (prompt, continuation) in enumerate(zip(prompts, continuations, strict=True)):
        wanted[host_of[pair]].append(_Wanted(pair, len(prompt) - 1, tuple(continuation)))

    def run(batch: list[int]) -> dict[int, float]:
        return _score(lm, [hosts[i] for i in batch], [wanted[i] for i in batch], temperature)

    def size_at(first: int) -> int:
        return batch_size or tokens_at_once(lm.device) // (2 * len(hosts[first]))

    totals: dict[int, float] = {}
    for _, scores in shrinking_batches(by_length(hosts), size_at, run):
        totals |= scores
    return [totals[pair] for pair in range(len(prompts))]


class _Wanted(NamedTuple):
    """One continuation to score on a sequence that contains its prompt and all its tokens but the last."""

    pair: int
    first: int
    """Position whose logits predict the first token."""
    tokens: tuple[int, ...]


def _merge_prefixes(sequences: list[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], list[int]]:
    """The sequences that begin no other one, and for each sequence the one that it begins (or is)."""
    hosts: list[tuple[int, ...]] = []
    place: dict[tuple[int, ...], int] = {}
    for sequence in sorted(set(sequences), reverse=True):  # a sequence comes right after its extensions
        if not hosts or hosts[-1][: len(sequence)] != sequence:
            hosts.append(sequence)
        place[sequence] = len(hosts) - 1
    return hosts, [place[s] for s in sequences]


def _score(
    lm: LanguageModel, sequences: list[tuple[int, ...]], wanted: list[list[_Wanted]], temperature: float
) -> dict[int, float]:
    padded = pad_left(sequences, lm.pad_id, lm.device)
    longest = padded.ids.shape[1]
    keep = max(len(s) - w.first for s, on_it in zip(sequences, wanted, strict=True) for w in on_it)
    with torch.inference_mode():
        logits = forward_logits(lm, padded.ids, padded.mask, padded.positions, keep=keep)
    offset = logits.shape[1] - longest  # logits may hold only the last positions
    places = [
        (row, longest - len(sequence) + w.first + j + offset, token, w.pair)
        for row, (sequence, on_it) in enumerate(zip(sequences, wanted, strict=True))
        for w in on_it
        for j, token in enumerate(w.tokens)
    ]
    rows, positions, tokens, pairs = torch.tensor(places, device=logits.device).T
    log_p = torch.log_softmax(logits[rows, positions].float() / temperature, dim=-1)
    picked = log_p.gather(1, tokens[:, None])[:, 0].double().cpu().tolist()
    totals: dict[int, float] = {}
    for pair, value in zip(pairs.tolist(), picked, strict=True):
        totals[pair] = totals.get(pair, 0.0) + value
    return totals
