"""Many samples of each prompt, with every distinct prefix computed once.

The samples of a prompt that so far drew the same tokens share one row of the KV cache. After each step the
streams are grouped by (row, token), and the cache rows are selected so that each group keeps one. The tokens
are those of `generate` with the expanded sampler; a model that knows the answer draws the same one most
times, and a prompt is read once instead of once per sample.

Notation: R rows (distinct prefixes under way), B prompts, S samples of each, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from sftknow_core.errors import SpecError
from sftknow_core.model.generate.batching import (
    by_length,
    last_logits,
    pad_left,
    shrinking_batches,
    tokens_at_once,
)
from sftknow_core.model.generate.decode import (
    Completion,
    Progress,
    Prompt,
    can_share,
    check_request,
    generate,
    to_completions,
)
from sftknow_core.model.generate.sampling import SeededSampler, pick_tokens
from sftknow_core.model.io.load import LanguageModel

Ints = NDArray[np.int64]


def sample_shared(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    n_samples: int,
    max_new_tokens: int,
    sampler: SeededSampler,
    *,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> list[list[Completion]]:
    """n_samples completions of each prompt, in order: [B][S], equal to generate with
    sampler.expand(n_samples).

    sampler: one key per prompt. batch_size: prompts at once. Models whose cache cannot select rows
    (state-space layers, say) go through generate. Raises as generate.
    """
    check_request(lm, prompts, max_new_tokens, batch_size)
    if len(sampler.keys) != len(prompts) or n_samples < 1:
        raise SpecError(
            f"got {len(sampler.keys)} sampling keys for {len(prompts)} prompts and n_samples {n_samples}; "
            "give one key per prompt and n_samples of 1 or more"
        )
    if not can_share(lm):
        return _sample_apart(lm, prompts, n_samples, max_new_tokens, sampler, batch_size, progress)

    def run(batch: list[int]) -> list[list[Completion]]:
        return _sample_batch(lm, [prompts[i] for i in batch], n_samples, max_new_tokens, sampler.take(batch))

    def size_at(first: int) -> int:
        return batch_size or 2 * tokens_at_once(lm.device) // (
            n_samples * (len(prompts[first]) + max_new_tokens)
        )

    done: dict[int, list[Completion]] = {}
    for batch, completions in shrinking_batches(by_length(prompts), size_at, run):
        done.update(zip(batch, completions, strict=True))
        if progress:
            progress(len(done), len(prompts))
    return [done[i] for i in range(len(prompts))]


def _sample_apart(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    n_samples: int,
    max_new_tokens: int,
    sampler: SeededSampler,
    batch_size: int | None,
    progress: Progress | None,
) -> list[list[Completion]]:
    flat = generate(
        lm,
        [prompt for prompt in prompts for _ in range(n_samples)],
        max_new_tokens=max_new_tokens,
        sampler=sampler.expand(n_samples),
        batch_size=batch_size and batch_size * n_samples,
        progress=progress and (lambda done, total: progress(done // n_samples, total // n_samples)),
    )
    return [flat[i : i + n_samples] for i in range(0, len(flat), n_samples)]


@dataclass
class _Rows:
    """The distinct prefixes under way in the model's cache."""

    cache: Any
    mask: torch.Tensor
    """[R, tokens so far] 1 where there is a token."""
    positions: torch.Tensor
    """[R, 1] place of the last token in its own text."""
    logits: torch.Tensor
    """[R, V] of the next token."""

    def grow(self, lm: LanguageModel, parents: Ints, tokens: Ints) -> None:
        """Replace the rows by their children: row i continues parents[i] with tokens[i]."""
        if not np.array_equal(parents, np.arange(len(self.mask))):
            chosen = torch.from_numpy(parents).to(lm.device)
            self.cache.batch_select_indices(chosen)
            self.mask, self.positions = self.mask[chosen], self.positions[chosen]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(parents), 1)], dim=1)
        self.positions = self.positions + 1
        ids = torch.from_numpy(tokens).to(lm.device)[:, None]
        self.logits = last_logits(lm, ids, self.mask, self.positions, self.cache)


def _sample_batch(
    lm: LanguageModel, prompts: list[Prompt], n_samples: int, max_new_tokens: int, sampler: SeededSampler
) -> list[list[Completion]]:
    n_streams = len(prompts) * n_samples
    drawn = np.full((n_streams, max_new_tokens), lm.eos_ids[0] if lm.eos_ids else lm.pad_id, dtype=np.int64)
    row_of = np.repeat(np.arange(len(prompts)), n_samples)
    live = np.arange(n_streams)
    streams = sampler.expand(n_samples)
    with torch.inference_mode():
        rows = _read_prompts(lm, prompts)
        for step in range(max_new_tokens):
            tokens = _draw(rows.logits, row_of, streams.uniform(step)[live], sampler.temperature)
            drawn[live, step] = tokens
            going_on = ~np.isin(tokens, lm.eos_ids)
            live, row_of, tokens = live[going_on], row_of[going_on], tokens[going_on]
            if step + 1 == max_new_tokens or len(live) == 0:
                break
            parents, inputs, row_of = _group(row_of, tokens, rows.logits.shape[1])
            rows.grow(lm, parents, inputs)
            by_row = np.argsort(row_of, kind="stable")
            live, row_of = live[by_row], row_of[by_row]
    flat = to_completions(lm, drawn.tolist())
    return [flat[i : i + n_samples] for i in range(0, n_streams, n_samples)]


def _read_prompts(lm: LanguageModel, prompts: list[Prompt]) -> _Rows:
    batch = pad_left(prompts, lm.pad_id, lm.device)
    cache = DynamicCache(config=lm.plain.config)
    logits = last_logits(lm, batch.ids, batch.mask, batch.positions, cache)
    return _Rows(cache, batch.mask, batch.positions[:, -1:], logits)


def _draw(logits: torch.Tensor, row_of: Ints, u: NDArray[np.float64], temperature: float) -> Ints:
    """The token of each stream, from its row's logits; row_of ascends, so a row's streams lie together."""
    starts = np.searchsorted(row_of, np.arange(len(logits)))
    place = np.arange(len(row_of)) - starts[row_of]
    numbers = np.zeros((len(logits), int(place.max()) + 1))
    numbers[row_of, place] = u
    picked = pick_tokens(logits, torch.from_numpy(numbers).to(logits.device), temperature)
    return np.asarray(picked.cpu().numpy()[row_of, place])


def _group(row_of: Ints, tokens: Ints, vocab: int) -> tuple[Ints, Ints, Ints]:
    """Distinct (row, token) pairs: their rows, their tokens, and each stream's place among them."""
    pairs, place = np.unique(row_of * vocab + tokens, return_inverse=True)
    return pairs // vocab, pairs % vocab, place
