"""Questions -> the token ids a model is given: by prompt, in the chat template, after five exemplars, or not as a
question at all but as the beginning of a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sftknow_core.errors import DataError
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.prompts import (
    Prompt,
    exemplar_pool,
    few_shot_completion,
    few_shot_sets,
    first_line,
    five_shot_exemplars,
    five_shot_qa,
)
from sftknow_core.facts.topics import Topic
from sftknow_core.model.generate import encode
from sftknow_core.model.generate.encode import encode_prompts

# Which completion template stands for a topic: the one with which the base model succeeds most.
#
# Success is measured on the development facts of level 4, so that the choice depends on the base model alone
# and never on a test question. Equal successes: the template with the smaller number. Counts come from table
# `mastery_templates`; where there are none, score_mastery of the development facts gives them.


@dataclass(frozen=True)
class TemplateChoice:
    """The template of one topic, frozen for a base model."""

    topic: str
    template: int
    """Its number, from 0."""
    n_correct: int
    n_samples: int
    """n_correct / n_samples: its success rate on the facts of `basis`."""
    n_facts: int
    basis: str
    """What it was measured on: "dev level 4"; "dev" where the topic has none; "none": template 0, untried."""


def choose_templates(
    topics: Iterable[str],
    facts: Iterable[Fact],
    levels: Mapping[str, int],
    template_rows: pd.DataFrame,
) -> dict[str, TemplateChoice]:
    """Topic -> its choice, for every topic asked for.

    facts: all there are, of which the dev split counts; levels: fact_id -> level under the base model;
    template_rows: table `mastery_templates` under it, rows of other facts are passed over.
    """
    dev = {fact.fact_id: fact.topic for fact in facts if fact.split == "dev"}
    rows = template_rows[template_rows["fact_id"].isin(dev.keys())]
    rows = rows.assign(topic=rows["fact_id"].map(dev), level=rows["fact_id"].map(dict(levels)))
    of_topic = dict(list(rows.groupby("topic")))
    return {topic: _choose(topic, of_topic.get(topic)) for topic in topics}


def _choose(topic: str, rows: pd.DataFrame | None) -> TemplateChoice:
    if rows is None:
        return TemplateChoice(topic, template=0, n_correct=0, n_samples=0, n_facts=0, basis="none")
    basis = "dev"
    best_known = rows[rows["level"] == 4]
    if len(best_known):
        rows, basis = best_known, "dev level 4"
    counts = rows.groupby("template", as_index=False)[["n_correct", "n_samples"]].sum()
    # the groups come by template number, and of equal successes argmax takes the first
    best = counts.iloc[int((counts["n_correct"] / counts["n_samples"]).argmax())]
    return TemplateChoice(
        topic=topic,
        template=int(best["template"]),
        n_correct=int(best["n_correct"]),
        n_samples=int(best["n_samples"]),
        n_facts=rows["fact_id"].nunique(),
        basis=basis,
    )


# A fact -> the texts that ask a base model for its object by completion, 21 of them.
#
# A topic's facts use its completion templates ("X was born in"). A fact of no such topic, or of unknown
# subject, uses few-shot prompts instead: 21 seeded sets of four exemplars, other train facts of its topic.


@dataclass(frozen=True)
class Probe:
    """The completion prompts of one fact."""

    texts: tuple[str, ...]
    """Template 0, 1, ...; empty when the fact cannot be asked."""
    few_shot: bool
    reason: str | None = None
    """Why there are no texts."""

    def answer(self, completion: str) -> str:
        """The part of a completion that answers: after a few-shot prompt its first line, else all of it."""
        return first_line(completion) if self.few_shot else completion


class Probes:
    """Makes the probes of facts; exemplars come from the train facts among `facts`."""

    def __init__(self, topics: Mapping[str, Topic], facts: Iterable[Fact], seed: int = 0) -> None:
        self._topics = topics
        self._pool = exemplar_pool(facts)
        self._seed = seed

    def of(self, fact: Fact) -> Probe:
        """The probe of one fact; without texts, and with the reason, when there is no way to ask it."""
        topic = self._topics.get(fact.topic)
        if topic is not None and fact.subject:
            subject = fact.subject
            return Probe(tuple(topic.completion(i, subject) for i in range(len(topic.completions))), False)
        try:
            sets = few_shot_sets(fact, self._pool, self._seed)
        except DataError as error:
            return Probe((), True, f"no completion templates, and {error}")
        return Probe(tuple(few_shot_completion(fact, exemplars) for exemplars in sets), True)


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
    return encode.encode_questions(tokenizer, [fact.question for fact in facts], ask)


def first_answer_tokens(tokenizer: Any, facts: Sequence[Fact], ask: Prompt) -> list[int | None]:
    """The first token of each fact's main answer after its question; None where the two run together."""
    prompts = encode_questions(tokenizer, facts, ask)
    whole = encode.encode_openings(tokenizer, [(fact.question, fact.objects[0]) for fact in facts], ask)
    return [
        ids[len(prompt)] if len(ids) > len(prompt) and ids[: len(prompt)] == prompt else None
        for prompt, ids in zip(prompts, whole, strict=True)
    ]


def answer_part(completion: str, fact: Fact, ask: Ask) -> str:
    """What of a completion is the answer: after exemplars its first line, else all of it."""
    if isinstance(ask, ToComplete):
        return ask.probe(fact).answer(completion)
    return first_line(completion) if isinstance(ask, FiveShot) else completion
