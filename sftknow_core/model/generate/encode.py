"""Prompt texts -> token ids, with the tokenizer's own BOS and EOS and no new vocabulary.

A training example is one string, BOS + prompt + " " + answer + " " + EOS, tokenised once as a whole; its
special tokens come from their strings inside the text, so none is added again. Where a tokenizer has no BOS
or no EOS, that part is missing. A chat prompt's text is what the tokenizer's chat template makes of its
messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sftknow_core.errors import DataError, ModelError
from sftknow_core.facts.prompts import PROMPTS, Prompt

PAPER_PROMPT = PROMPTS["paper"]


class EncodedAnswer(NamedTuple):
    """A prompt with its answer, as token ids."""

    ids: list[int]
    """BOS, prompt, answer, trailing space, EOS; or the whole chat."""
    n_prompt: int
    """How many of the ids are the prompt (BOS included); the loss is on the others."""


def encode_prompts(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """BOS + text of each as ids, in order, by one call of the tokenizer.

    Raises ModelError for a slow tokenizer, DataError for an empty result.
    """
    bos = tokenizer.bos_token or ""
    return _encode(tokenizer, [bos + text for text in texts])


def encode_questions(
    tokenizer: Any, questions: Sequence[str], prompt: Prompt = PAPER_PROMPT
) -> list[list[int]]:
    """What the model reads before it answers each question, in order. Raises as encode_prompts."""
    return _encode(tokenizer, [_question_text(tokenizer, question, prompt) for question in questions])


def encode_qa(tokenizer: Any, question: str, answer: str, prompt: Prompt = PAPER_PROMPT) -> EncodedAnswer:
    """A question and its answer as one training example.

    Raises DataError when a token spans the end of the prompt, or when the prompt tokenised alone is no prefix
    of the whole: then training and testing would see different prompts. Raises ModelError for a slow
    tokenizer.
    """
    before = _question_text(tokenizer, question, prompt)
    whole = _qa_text(tokenizer, question, answer, prompt)
    [alone] = _encode(tokenizer, [before])
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = encoded["input_ids"]
    offsets: list[tuple[int, int]] = encoded["offset_mapping"]
    n_prompt = sum(1 for _, end in offsets if end <= len(before))
    crossing = any(start < len(before) < end for start, end in offsets)
    if crossing or ids[:n_prompt] != alone or not whole.startswith(before):
        raise DataError(
            f"the prompt of {whole!r} is tokenised differently with and without its answer "
            f"(last tokens {ids[:n_prompt][-3:]} and {alone[-3:]}); this tokenizer does not fit this prompt"
        )
    return EncodedAnswer(ids, n_prompt)


def _question_text(tokenizer: Any, question: str, prompt: Prompt) -> str:
    if prompt.is_chat:
        return _chat_text(tokenizer, prompt.messages(question), to_answer=True)
    return (tokenizer.bos_token or "") + prompt.prompt(question)


def _qa_text(tokenizer: Any, question: str, answer: str, prompt: Prompt) -> str:
    if prompt.is_chat:
        return _chat_text(tokenizer, prompt.messages(question, answer), to_answer=False)
    return (tokenizer.bos_token or "") + prompt.text(question, answer) + (tokenizer.eos_token or "")


def _chat_text(tokenizer: Any, messages: list[dict[str, str]], *, to_answer: bool) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError("this tokenizer has no chat template; use the prompt `paper`, or a chat model")
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=to_answer))


def _encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} has no character offsets; use a fast tokenizer "
            "(save it as tokenizer.json)"
        )
    if not texts:
        return []
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    for text, ids in zip(texts, encoded, strict=True):
        if not ids:
            raise DataError(f"the prompt {text!r} has no tokens; give a text that is not empty")
    return encoded
