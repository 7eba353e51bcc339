"""Expected mastery: the probability that a completion starts with an answer, without sampling.

Teacher forcing gives the probability, at the sampling temperature, of the tokens of " <answer>" right after
a prompt. Of answers whose tokens begin the tokens of another one only the shorter counts, so the events
exclude each other and their probabilities add up. The sum is a lower bound of the chance that a completion
contains an answer: it leaves out answers that come later and other ways to cut an answer into tokens.
(Against whole words it is not strictly one: " Oslo" also begins " Osloer".)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Any

from sftknow_core.model.generate.encode import encode_prompts
from sftknow_core.model.generate.logits import continuation_logprobs
from sftknow_core.model.io.load import LanguageModel

Tokens = tuple[int, ...]


def answer_tokens(
    tokenizer: Any, texts: Sequence[str], answers: Sequence[tuple[str, ...]]
) -> list[tuple[Tokens, ...]]:
    """For each prompt text, the token sequences of " <answer>" after it, none the beginning of another.

    An answer whose tokens run together with the text's last one is left out.
    """
    prompts = encode_prompts(tokenizer, texts)
    pairs = [(text, answer) for text, those in zip(texts, answers, strict=True) for answer in those]
    encoded = iter(encode_prompts(tokenizer, [f"{text} {answer.strip()}" for text, answer in pairs]))
    found = []
    for prompt, those in zip(prompts, answers, strict=True):
        whole = [next(encoded) for _ in those]
        found.append(
            without_extensions([tuple(w[len(prompt) :]) for w in whole if w[: len(prompt)] == prompt])
        )
    return found


def without_extensions(sequences: Sequence[Tokens]) -> tuple[Tokens, ...]:
    """The sequences that do not begin with another one, each once, in order; empty ones fall out."""
    distinct = [s for s in dict.fromkeys(sequences) if s]
    return tuple(s for s in distinct if not any(o != s and s[: len(o)] == o for o in distinct))


def start_probabilities(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    alternatives: Sequence[tuple[Tokens, ...]],
    temperature: float,
    *,
    batch_size: int | None = None,
) -> list[float | None]:
    """P(the completion starts with one of the alternatives), prompt by prompt; None without alternatives.

    The alternatives of a prompt must not begin each other (`without_extensions`).
    """
    pairs = [(i, tokens) for i, those in enumerate(alternatives) for tokens in those]
    log_p = continuation_logprobs(
        lm,
        [prompts[i] for i, _ in pairs],
        [tokens for _, tokens in pairs],
        temperature,
        batch_size=batch_size,
    )
    sums: list[float | None] = [0.0 if those else None for those in alternatives]
    for (i, _), value in zip(pairs, log_p, strict=True):
        sums[i] = min(1.0, (sums[i] or 0.0) + exp(value))  # rounding can pass 1
    return sums
