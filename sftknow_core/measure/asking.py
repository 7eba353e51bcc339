"""Questions -> the token ids a model is given: by prompt, in the chat template, after five exemplars, or not as a
question at all but as the beginning of a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sftknow_core.errors import DataError, ModelError
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.prompts import Prompt, exemplar_pool, first_line, five_shot_exemplars, five_shot_qa
from sftknow_core.measure.probes import Probe, Probes
from sftknow_core.measure.templates import TemplateChoice
from sftknow_core.model.generate.encode import encode_prompts


@dataclass(frozen=True)
class FiveShot:
    """Ask after five exemplars: what a base model knows once it understands the task."""

    facts: tuple[Fact, ...]
    """Their train facts are the exemplars, topic by topic."""
    seed: int = 0

    name = "five-shot"


@dataclass(frozen=True)
class ToComplete:
    """Ask with the completion prompt of each fact's topic ("X was born in"): no format of questions is needed."""

    probes: Probes
    templates: Mapping[str, TemplateChoice]
    """Topic -> its completion template; 0 where it has none."""

    name = "completion"

    def probe(self, fact: Fact) -> Probe:
        """The fact's completion prompts. Raises DataError when there are none."""
        probe = self.probes.of(fact)
        if not probe.texts:
            raise DataError(f"{fact.topic}: {fact.question!r} cannot be asked by completion: {probe.reason}")
        return probe

    def text(self, fact: Fact) -> str:
        """The one that stands for the topic. Raises DataError when there is none."""
        chosen = self.templates.get(fact.topic)
        return self.probe(fact).texts[chosen.template if chosen else 0]


Ask = Prompt | FiveShot | ToComplete
"""A way of asking."""


def encode_questions(tokenizer: Any, facts: Sequence[Fact], ask: Ask) -> list[list[int]]:
    """Ids of each question's prompt, ending where the answer begins.

    Raises ModelError for a chat prompt when the tokenizer has no chat template, DataError when a topic has
    fewer than five other train facts to show, or a fact cannot be asked by completion.
    """
    if isinstance(ask, ToComplete):
        return encode_prompts(tokenizer, [ask.text(fact) for fact in facts])
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


def answer_part(completion: str, fact: Fact, ask: Ask) -> str:
    """What of a completion is the answer: after exemplars its first line, else all of it."""
    if isinstance(ask, ToComplete):
        return ask.probe(fact).answer(completion)
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
