"""Prompts -> completions, greedy or sampled, through transformers' own generate().

The model's generation config is set aside, so that a shipped temperature, top-p or repetition penalty never
changes what is measured. Batches hold prompts of like length, padded on the left; the results do not depend
on them (up to float rounding between two nearly equal logits). What all prompts of a batch begin with is read once.
Answers are short and few are long: after some tokens a greedy batch goes on with those rows that have not ended.

Notation: B prompts of a batch, L the longest of them, n prompts in all, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import NamedTuple

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessor
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from sftknow_core.errors import DataError, SpecError
from sftknow_core.model.generate.batching import (
    by_length,
    last_logits,
    pad_left,
    shrinking_batches,
    tokens_at_once,
)
from sftknow_core.model.generate.sampling import SeededSampler, pick_tokens
from sftknow_core.model.io.load import LanguageModel

FIRST_ROUND = 6
"""New tokens after which rows that have ended leave the batch: few answers are longer."""

_WORTH_SHARING, _WORTH_READING_ONCE = 8, 3
"""Fewer prompts, or fewer tokens that they all begin with, are not worth a pass of their own."""

Prompt = Sequence[int]
Progress = Callable[[int, int], None]
"""Called with (prompts done, prompts in all)."""


class Completion(NamedTuple):
    """What a model wrote after one prompt."""

    ids: tuple[int, ...]
    """The new tokens, without EOS."""
    text: str
    """They, decoded without special tokens."""
    stopped: bool
    """Whether EOS came; otherwise the length limit cut it."""


def generate(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    sampler: SeededSampler | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> list[Completion]:
    """The completion of each prompt, in the order of the prompts; greedy without a sampler.

    batch_size: at most so many prompts at once; None: by a token budget of the device. Halved when memory
    runs out. Raises SpecError for empty prompts or a sampler with another number of keys, ModelError when
    nothing fits.
    """
    check_request(lm, prompts, max_new_tokens, batch_size)
    if sampler is not None and len(sampler.keys) != len(prompts):
        raise SpecError(
            f"got {len(sampler.keys)} sampling keys for {len(prompts)} prompts; give one key per prompt"
        )

    def run(batch: list[int]) -> list[Completion]:
        part = sampler.take(batch) if sampler else None
        return _complete(lm, [prompts[i] for i in batch], max_new_tokens, part)

    return _in_batches(lm, prompts, max_new_tokens, batch_size, progress, run)


def generate_and_keep(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> tuple[list[Completion], torch.Tensor]:
    """As `generate`, greedily, and the logits of each prompt's first new token, [n, V] float32 on the CPU.

    They are there once a prompt is read; asking for them afterwards (logits.py) reads it once more.
    """
    check_request(lm, prompts, max_new_tokens, batch_size)
    kept: dict[int, torch.Tensor] = {}

    def run(batch: list[int]) -> list[Completion]:
        first = _KeepFirst()
        completions = _complete(lm, [prompts[i] for i in batch], max_new_tokens, None, first)
        assert first.logits is not None
        kept.update(zip(batch, first.logits, strict=True))
        return completions

    completions = _in_batches(lm, prompts, max_new_tokens, batch_size, progress, run)
    n_vocab = lm.plain.get_input_embeddings().weight.shape[0]
    return completions, torch.stack([kept[i] for i in range(len(prompts))]) if kept else torch.empty(
        0, n_vocab
    )


def _in_batches(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    batch_size: int | None,
    progress: Progress | None,
    run: Callable[[list[int]], list[Completion]],
) -> list[Completion]:
    def size_at(first: int) -> int:
        return batch_size or tokens_at_once(lm.device) // (len(prompts[first]) + max_new_tokens)

    done: dict[int, Completion] = {}
    for batch, completions in shrinking_batches(by_length(prompts), size_at, run):
        done.update(zip(batch, completions, strict=True))
        if progress:
            progress(len(done), len(prompts))
    return [done[i] for i in range(len(prompts))]


def check_request(
    lm: LanguageModel, prompts: Sequence[Prompt], max_new_tokens: int, batch_size: int | None
) -> None:
    """Raise SpecError unless prompts have tokens and limits are positive, DataError for a prompt that is too long."""
    if max_new_tokens < 1:
        raise SpecError(f"got max_new_tokens {max_new_tokens}; allowed: 1 or more")
    if batch_size is not None and batch_size < 1:
        raise SpecError(f"got batch_size {batch_size}; allowed: 1 or more, or None")
    if empty := [i for i, prompt in enumerate(prompts) if len(prompt) == 0]:
        raise SpecError(
            f"prompt {empty[0]} has no tokens; a completion needs at least one (the BOS or a word)"
        )
    longest = max(prompts, key=len, default=())
    if lm.context is not None and len(longest) + max_new_tokens > lm.context:
        text = lm.tokenizer.decode(longest[:24])
        raise DataError(
            f"a prompt of {len(longest):,} tokens and {max_new_tokens} new ones do not fit into the model's context of "
            f"{lm.context:,} tokens: {text!r}...; shorten or remove that question"
        )


def to_completions(lm: LanguageModel, rows: Sequence[Sequence[int]]) -> list[Completion]:
    """Completions from rows of new tokens, each cut at its first EOS; equal ones are made once."""
    ends = set(lm.eos_ids)
    cut: list[tuple[tuple[int, ...], bool]] = []
    for row in rows:
        stop = next((j for j, token in enumerate(row) if token in ends), None)
        cut.append((tuple(row[:stop]), stop is not None))
    unique = list(dict.fromkeys(cut))
    # The tokenizer's own decode of the list, without the wrapper's 20 microseconds a text.
    texts = lm.tokenizer.backend_tokenizer.decode_batch([ids for ids, _ in unique], skip_special_tokens=True)
    made = {key: Completion(key[0], text, key[1]) for key, text in zip(unique, texts, strict=True)}
    return [made[key] for key in cut]


def can_share(lm: LanguageModel) -> bool:
    """Whether every layer's cache is one whose rows can be selected."""
    return _layers_are(lm, DynamicLayer, DynamicSlidingWindowLayer)


def _keeps_all(lm: LanguageModel) -> bool:
    """Whether no layer forgets a token."""
    return _layers_are(lm, DynamicLayer)


def _layers_are(lm: LanguageModel, *kinds: type) -> bool:
    layers = DynamicCache(config=lm.plain.config).layers
    return bool(layers) and all(type(layer) in kinds for layer in layers)


def _complete(
    lm: LanguageModel,
    prompts: list[Prompt],
    max_new_tokens: int,
    sampler: SeededSampler | None,
    first: _KeepFirst | None = None,
) -> list[Completion]:
    rows, read = list(range(len(prompts))), _read(lm, prompts)
    ids, mask, cache = read.ids, read.mask, read.cache
    processors: list[LogitsProcessor] = [_PickOne(sampler, ids.shape[1])] if sampler else []
    processors += [first] if first else []
    if sampler is None and lm.eos_ids and max_new_tokens > FIRST_ROUND and can_share(lm):
        rounds = [FIRST_ROUND, max_new_tokens - FIRST_ROUND]
    else:
        rounds = [max_new_tokens]
    new: list[list[int]] = [[] for _ in prompts]
    for number, n_new in enumerate(rounds, start=1):
        with torch.inference_mode(), _plain_decoding(lm, n_new) as config:
            out = lm.plain.generate(
                input_ids=ids,
                attention_mask=mask,
                past_key_values=cache,
                generation_config=config,
                logits_processor=processors,
            )
        written = out.sequences[:, ids.shape[1] :]
        for row, tokens in zip(rows, written.tolist(), strict=True):
            new[row] += tokens
        if number == len(rounds):
            break
        ended = torch.isin(written, torch.tensor(lm.eos_ids, device=written.device)).any(dim=1)
        places = (~ended).nonzero()[:, 0]
        if not len(places):
            break
        rows, ids, cache = [rows[i] for i in places.tolist()], out.sequences[places], out.past_key_values
        cache.batch_select_indices(places)
        mask = torch.cat([mask[places], mask.new_ones(len(places), written.shape[1])], dim=1)
    return to_completions(lm, new)


class _Read(NamedTuple):
    """Prompts that are about to be continued."""

    ids: torch.Tensor
    """[B, L] int64."""
    mask: torch.Tensor
    """[B, L] int64: 1 where there is a token."""
    cache: DynamicCache | None
    """What was read of all of them already: their first tokens."""


def _read(lm: LanguageModel, prompts: list[Prompt]) -> _Read:
    """The prompts as a rectangle; what they all begin with stands left of the padding and is in the cache.

    Positions follow from the mask, so a gap in it changes nothing; but a sliding window would count it.
    """
    lowest, highest = min(map(tuple, prompts)), max(map(tuple, prompts))
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(lowest, highest, strict=False))
    shared = min(len(list(alike)), min(map(len, prompts)) - 1)  # every row has a token left to read
    if len(prompts) < _WORTH_SHARING or shared < _WORTH_READING_ONCE or not _keeps_all(lm):
        batch = pad_left(prompts, lm.pad_id, lm.device)
        return _Read(batch.ids, batch.mask, None)
    beginning = torch.tensor([list(prompts[0][:shared])], device=lm.device)
    cache = DynamicCache(config=lm.plain.config)
    with torch.inference_mode():
        everywhere = torch.ones_like(beginning)
        last_logits(lm, beginning, everywhere, everywhere.cumsum(dim=1) - 1, cache)
        cache.batch_repeat_interleave(len(prompts))
    rest = pad_left([prompt[shared:] for prompt in prompts], lm.pad_id, lm.device)
    before = beginning.expand(len(prompts), -1)
    ids, mask = torch.cat([before, rest.ids], dim=1), torch.cat([torch.ones_like(before), rest.mask], dim=1)
    return _Read(ids, mask, cache)


class _KeepFirst(LogitsProcessor):
    """Changes nothing, and keeps the first logits that it sees."""

    logits: torch.Tensor | None = None
    """[B, V] float32 on the CPU."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.logits is None:
            self.logits = scores.float().cpu()
        return scores


class _PickOne(LogitsProcessor):
    """Leaves one token finite in each row, the sampled one, so that greedy decoding takes it."""

    def __init__(self, sampler: SeededSampler, n_prompt: int) -> None:
        self.sampler = sampler
        self.n_prompt = n_prompt

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        u = torch.from_numpy(self.sampler.uniform(input_ids.shape[1] - self.n_prompt)).to(scores.device)
        picked = pick_tokens(scores, u[:, None], self.sampler.temperature)
        return torch.full_like(scores, float("-inf")).scatter_(1, picked, 0.0)


@contextmanager
def _plain_decoding(lm: LanguageModel, max_new_tokens: int) -> Iterator[GenerationConfig]:
    """Greedy decoding with EOS and pad as the only settings, and the cache kept; generate() would merge the
    model's own ones in."""
    shipped = lm.plain.generation_config
    plain = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(lm.eos_ids) or None,
        pad_token_id=lm.pad_id,
        return_dict_in_generate=True,
    )
    lm.plain.generation_config = plain
    try:
        yield plain
    finally:
        lm.plain.generation_config = shipped
