"""Questions -> the token ids a model is given: by prompt, in the chat template, after five exemplars, or not as a
question at all but as the beginning of a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from sftknow_core.errors import DataError
from sftknow_core.facts.fact import Fact, FactSet
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
from sftknow_core.registry import Entry, Registry, plugin_of

if TYPE_CHECKING:  # the command line lists probes without loading pandas
    import pandas as pd

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


# Ways of asking that are more than a prompt around a question, by the name that a user types.


class KnownFacts(Protocol):
    """What a probe may be made from: the facts and topics that a base model is asked about."""

    @property
    def facts(self) -> FactSet:
        """All facts there are."""

    @property
    def probes(self) -> Probes:
        """The completion prompts of facts."""

    @property
    def templates(self) -> Mapping[str, TemplateChoice]:
        """Topic -> its completion template."""


class ProbeMethod(Protocol):
    """Another way of asking than a prompt around the question; its first tokens are not compared."""

    @classmethod
    def of(cls, known: KnownFacts) -> Self:
        """Ready to ask."""

    def check(self, fact: Fact) -> None:
        """Raise DataError for a fact that cannot be asked so, where that can be known before any work."""

    def texts(self, facts: Sequence[Fact]) -> list[str]:
        """What the model reads, ending where the answer begins. Raises DataError."""

    def answer(self, completion: str, fact: Fact) -> str:
        """What of a completion is the answer."""


P = TypeVar("P", bound=ProbeMethod)


@dataclass(frozen=True, kw_only=True)
class RegisteredProbe(Entry):
    """A way of asking, by name."""

    made_by: type[ProbeMethod]


PROBES: Registry[RegisteredProbe] = Registry("probe")


def probe(name: str, *, title: str, source: str = "") -> Callable[[type[P]], type[P]]:
    """Register the decorated class as a way of asking. Raises PluginError for a name that is taken."""

    def register(cls: type[P]) -> type[P]:
        PROBES.add(RegisteredProbe(name=name, title=title, source=source, plugin=plugin_of(cls), made_by=cls))
        return cls

    return register


@probe("five-shot", title="after five exemplars of the topic", source="Ye et al. 2025")
@dataclass(frozen=True)
class FiveShot:
    """Ask after five exemplars, which depend on the fact alone: any state is asked with the same ones."""

    facts: tuple[Fact, ...]
    """Their train facts are the exemplars, topic by topic."""
    seed: int = 0

    @classmethod
    def of(cls, known: KnownFacts) -> FiveShot:
        """With the train facts there are as exemplars."""
        return cls(known.facts.select("train"))

    @cached_property
    def pool(self) -> Mapping[str, tuple[Fact, ...]]:
        """Topic -> the facts that its exemplars are drawn from."""
        return exemplar_pool(self.facts)

    def check(self, fact: Fact) -> None:
        """Raise DataError when the topic has fewer than five other train facts."""
        five_shot_exemplars(fact, self.pool, self.seed)

    def texts(self, facts: Sequence[Fact]) -> list[str]:
        """Five exemplars and the question. Raises DataError when a topic has fewer than five other train facts."""
        return [five_shot_qa(fact, five_shot_exemplars(fact, self.pool, self.seed)) for fact in facts]

    def answer(self, completion: str, fact: Fact) -> str:
        """The first line."""
        return first_line(completion)


@probe("completion", title="the beginning of a sentence to complete", source="the prompts of mastery")
@dataclass(frozen=True)
class ToComplete:
    """Ask with the completion prompt of each fact's topic ("X was born in"): no format of questions is needed."""

    probes: Probes
    templates: Mapping[str, TemplateChoice]
    """Topic -> its completion template; 0 where it has none."""

    @classmethod
    def of(cls, known: KnownFacts) -> ToComplete:
        """With the templates frozen for the base model."""
        return cls(known.probes, known.templates)

    def check(self, fact: Fact) -> None:
        """Raise DataError when there are no completion prompts."""
        self.probe(fact)

    def texts(self, facts: Sequence[Fact]) -> list[str]:
        """The prompt that stands for each fact's topic. Raises DataError when there is none."""
        return [self.text(fact) for fact in facts]

    def answer(self, completion: str, fact: Fact) -> str:
        """After a few-shot prompt the first line, else all of it."""
        return self.probe(fact).answer(completion)

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


Ask = Prompt | ProbeMethod
"""A way of asking."""


def encode_questions(tokenizer: Any, facts: Sequence[Fact], ask: Ask) -> list[list[int]]:
    """Ids of each question's prompt, ending where the answer begins.

    Raises ModelError for a chat prompt when the tokenizer has no chat template, DataError when a topic has
    fewer than five other train facts to show, or a fact cannot be asked by completion.
    """
    if not isinstance(ask, Prompt):
        return encode_prompts(tokenizer, ask.texts(facts))
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
    return completion if isinstance(ask, Prompt) else ask.answer(completion, fact)
