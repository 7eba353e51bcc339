"""What the token shift needs of the base model alone, computed once for all states compared with it.

For each fact: the completion prompt of its topic's template, the base's greedy completion of it, whether
that starts with an answer, and the base's next-token logits after the question, after the completion prompt,
and where the answer itself begins. The set of questions that count thus depends on the base alone and is the
same for every state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sftknow_core.errors import SpecError
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.matcher import FactMatcher
from sftknow_core.facts.names import KnownNames
from sftknow_core.facts.prompts import PROMPTS, Prompt
from sftknow_core.facts.synonyms import Synonyms
from sftknow_core.facts.words import normalise, word_text
from sftknow_core.measure.asking import Probes, TemplateChoice, encode_questions, first_answer_tokens
from sftknow_core.measure.kl import NextTokens
from sftknow_core.model.generate.decode import Completion, generate
from sftknow_core.model.generate.encode import encode_prompts
from sftknow_core.model.generate.logits import next_token_logits
from sftknow_core.model.io.load import LanguageModel

DUMMY_WORDS = frozenset({"the", "a", "an"})
"""Words before an answer that say nothing; the aligned variant steps over them."""
WITHIN_TOKENS = 3
BUDGET_BYTES = 2**30
"""Base logits kept in memory; beyond it they are computed again for every state."""
GREEDY_TOKENS = 16

Ids = tuple[int, ...]


@dataclass(frozen=True)
class BaseAnswer:
    """One fact as the base model answers it."""

    fact: Fact
    level: int | None
    question_prompt: Ids
    gold_token: int | None
    """First token of the main answer after the question."""
    template: int | None = None
    """Number of the completion template; None when the fact cannot be asked by completion."""
    completion_prompt: Ids | None = None
    completion: str | None = None
    """What the base writes after it, greedily."""
    kept: bool = False
    """Whether an answer stands at the very start of it."""
    kept_within3: bool = False
    """Whether an answer begins in one of its first three tokens."""
    forced: Ids | None = None
    """The tokens before the answer, only dummy words and punctuation; () for none; None: there are others."""
    reason: str | None = None
    """Why there is no completion prompt."""


@dataclass(frozen=True)
class PromptLogits:
    """What one model predicts at the places that a shift compares."""

    after: NextTokens
    """After each distinct prompt; on the CPU."""
    question: list[int]
    """For each fact, its row after the question."""
    completion: list[int | None]
    """Its row after the completion prompt; None: there is none."""
    aligned: list[int | None]
    """Its row where the answer itself begins; None: not aligned."""

    def take(self, which: Sequence[int]) -> PromptLogits:
        """The same for some of the facts, in this order."""
        return PromptLogits(
            self.after,
            [self.question[i] for i in which],
            [self.completion[i] for i in which],
            [self.aligned[i] for i in which],
        )


class BaseReference:
    """The base model's side of a token shift, for a fixed list of facts."""

    def __init__(
        self,
        lm: LanguageModel,
        facts: Sequence[Fact],
        levels: Mapping[str, int],
        templates: Mapping[str, TemplateChoice],
        probes: Probes,
        synonyms: Synonyms,
        *,
        names: KnownNames | None = None,
        prompt: Prompt = PROMPTS["paper"],
        budget_bytes: int = BUDGET_BYTES,
        batch_size: int | None = None,
    ) -> None:
        """templates: topic -> chosen completion template, 0 where it has none; levels: fact_id -> level.

        budget_bytes: most memory for logits held; when they need more, `lm` is kept and asked for every
        state.
        """
        self._batch_size = batch_size
        self._tokenizer = lm.tokenizer
        self.answers = _answers(lm, facts, levels, templates, probes, synonyms, names, prompt, batch_size)
        self._place = {answer.fact.fact_id: i for i, answer in enumerate(self.answers)}
        self._texts: dict[int, str] = {}
        n_vocab = lm.plain.get_input_embeddings().weight.shape[0]
        n_prompts = sum(1 + (a.completion_prompt is not None) + bool(a.forced) for a in self.answers)
        fits = 4 * n_vocab * n_prompts <= budget_bytes
        self._held = _base_logits(lm, self.answers, batch_size) if fits else None
        self._lm = None if fits else lm

    def places(self, facts: Sequence[Fact]) -> list[int]:
        """Where these facts stand in `answers`. Raises SpecError for a fact that is not there."""
        unknown = next((fact for fact in facts if fact.fact_id not in self._place), None)
        if unknown is not None:
            raise SpecError(f"the base reference does not hold the question {unknown.question!r}")
        return [self._place[fact.fact_id] for fact in facts]

    def logits(self, places: Sequence[int]) -> PromptLogits:
        """The base's logits for the answers at these places."""
        if self._lm is not None:
            return _base_logits(self._lm, [self.answers[i] for i in places], self._batch_size)
        assert self._held is not None
        return self._held.take(places)

    def text_of(self, token: int) -> str:
        """One token as text."""
        if token not in self._texts:
            self._texts[token] = self._tokenizer.decode([token])
        return self._texts[token]


def prompt_logits(
    lm: LanguageModel,
    answers: Sequence[BaseAnswer],
    aligned_after: Sequence[Ids | None],
    *,
    after_question: torch.Tensor | None = None,
    batch_size: int | None = None,
) -> PromptLogits:
    """A model's logits at the places of these answers, every distinct prompt read once.

    aligned_after: the prompt of each answer that its forced tokens are put after. after_question: the logits after
    the questions [answers, V], where they are known.
    """
    rows: dict[Ids, int] = {}

    def row_of(prompt: Ids | None) -> int | None:
        return None if prompt is None else rows.setdefault(prompt, len(rows))

    question = [rows.setdefault(answer.question_prompt, len(rows)) for answer in answers]
    completion = [row_of(answer.completion_prompt) for answer in answers]
    aligned = [
        row_of(None if answer.forced is None or prompt is None else (*prompt, *answer.forced))
        for answer, prompt in zip(answers, aligned_after, strict=True)
    ]
    known: list[torch.Tensor] = []
    if after_question is not None:
        firsts = dict(zip(question, range(len(question)), strict=True))  # questions come first among the rows
        known = [after_question[[firsts[row] for row in sorted(firsts)]]]
    unread = list(rows)[sum(map(len, known)) :]
    parts = known + [part.cpu() for _, part in next_token_logits(lm, unread, batch_size=batch_size)]
    n_vocab = lm.plain.get_input_embeddings().weight.shape[0]
    logits = torch.cat(parts) if parts else torch.empty(0, n_vocab)
    return PromptLogits(NextTokens.of(logits), question, completion, aligned)


def _base_logits(lm: LanguageModel, answers: Sequence[BaseAnswer], batch_size: int | None) -> PromptLogits:
    after = [answer.completion_prompt for answer in answers]
    return prompt_logits(lm, answers, after, batch_size=batch_size)


def _answers(
    lm: LanguageModel,
    facts: Sequence[Fact],
    levels: Mapping[str, int],
    templates: Mapping[str, TemplateChoice],
    probes: Probes,
    synonyms: Synonyms,
    names: KnownNames | None,
    prompt: Prompt,
    batch_size: int | None,
) -> tuple[BaseAnswer, ...]:
    questions = encode_questions(lm.tokenizer, facts, prompt)
    gold = first_answer_tokens(lm.tokenizer, facts, prompt)
    asked = [probes.of(fact) for fact in facts]
    chosen = [templates[fact.topic].template if fact.topic in templates else 0 for fact in facts]
    texts = [probe.texts[t] for probe, t in zip(asked, chosen, strict=True) if probe.texts]
    prompts = encode_prompts(lm.tokenizer, texts)
    written = generate(lm, prompts, max_new_tokens=GREEDY_TOKENS, batch_size=batch_size)
    completed = iter(zip(prompts, written, strict=True))
    answers = []
    for i, fact in enumerate(facts):
        known: dict[str, Any] = {"reason": asked[i].reason}
        if asked[i].texts:
            ids, completion = next(completed)
            answer = asked[i].answer(completion.text)
            known = {"template": chosen[i], "completion_prompt": tuple(ids), "completion": answer}
            known |= _start(FactMatcher(fact, synonyms, names), answer, completion, lm.tokenizer)
        answers.append(BaseAnswer(fact, levels.get(fact.fact_id), tuple(questions[i]), gold[i], **known))
    return tuple(answers)


def _start(matcher: FactMatcher, answer: str, completion: Completion, tokenizer: Any) -> dict[str, Any]:
    """kept, kept_within3 and forced of a greedy completion."""
    position = matcher.scores(answer).position
    if position is None:
        return {"kept": False, "kept_within3": False, "forced": None}
    position += completion.text.index(answer)  # a few-shot answer can begin after an empty line
    before = completion.text[:position]
    kept = not before.strip()
    first_three = tokenizer.decode(completion.ids[:WITHIN_TOKENS], skip_special_tokens=True)
    only_dummies = set(word_text(normalise(before)).split()) <= DUMMY_WORDS
    return {
        "kept": kept,
        "kept_within3": kept or len(first_three) > position,
        "forced": () if kept else _tokens_of(before, completion.ids, tokenizer) if only_dummies else None,
    }


def _tokens_of(before: str, ids: Ids, tokenizer: Any) -> Ids | None:
    """The leading tokens that spell `before`; None when a token reaches into what follows."""
    for n in range(1, len(ids)):
        if tokenizer.decode(ids[:n], skip_special_tokens=True).strip() == before.strip():
            return ids[:n]
    return None
