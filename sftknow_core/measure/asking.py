"""Questions -> the token ids a model is given: by prompt, in the chat template, or after five exemplars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sftknow_core.errors import ModelError
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.prompts import (
    Prompt,
    exemplar_pool,
    first_line,
    five_shot_exemplars,
    five_shot_qa,
)
from sftknow_core.model.encode import encode_prompts


@dataclass(frozen=True)
class FiveShot:
    """Ask after five exemplars: what a base model knows once it understands the task."""

    facts: tuple[Fact, ...]
    """Their train facts are the exemplars, topic by topic."""
    seed: int = 0

    name = "five-shot"


def encode_questions(tokenizer: Any, facts: Sequence[Fact], ask: Prompt | FiveShot) -> list[list[int]]:
    """Ids of each question's prompt, ending where the answer begins.

    Raises ModelError for a chat prompt when the tokenizer has no chat template, DataError when a topic has
    fewer than five other train facts to show.
    """
    if isinstance(ask, FiveShot):
        pool = exemplar_pool(ask.facts)
        return encode_prompts(
            tokenizer, [five_shot_qa(fact, five_shot_exemplars(fact, pool, ask.seed)) for fact in facts]
        )
    if ask.is_chat:
        return _encode(tokenizer, _chat_texts(tokenizer, facts, ask))
    return encode_prompts(tokenizer, [ask.prompt(fact.question) for fact in facts])


def first_answer_tokens(tokenizer: Any, facts: Sequence[Fact], ask: Prompt) -> list[int | None]:
    """The first token of each fact's main answer after its question; None where the two run together."""
    prompts = encode_questions(tokenizer, facts, ask)
    answers = [fact.objects[0].strip() for fact in facts]
    if ask.is_chat:
        texts = _chat_texts(tokenizer, facts, ask)
        whole = _encode(tokenizer, [text + answer for text, answer in zip(texts, answers, strict=True)])
    else:
        whole = encode_prompts(
            tokenizer, [f"{ask.prompt(f.question)} {a}" for f, a in zip(facts, answers, strict=True)]
        )
    return [
        ids[len(prompt)] if len(ids) > len(prompt) and ids[: len(prompt)] == prompt else None
        for prompt, ids in zip(prompts, whole, strict=True)
    ]


def answer_part(completion: str, ask: Prompt | FiveShot) -> str:
    """What of a completion is the answer: after exemplars its first line, else all of it."""
    return first_line(completion) if isinstance(ask, FiveShot) else completion


def _chat_texts(tokenizer: Any, facts: Sequence[Fact], ask: Prompt) -> list[str]:
    """The chat template's text up to where the assistant's answer begins, special tokens written out."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError("this tokenizer has no chat template; use the prompt `paper` or a file")
    how = {"add_generation_prompt": True, "tokenize": False}
    return [tokenizer.apply_chat_template(ask.messages(fact.question), **how) for fact in facts]


def _encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return encoded
