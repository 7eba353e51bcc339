"""A fact -> the texts that ask a base model for its object by completion, 21 of them.

A topic's facts use its completion templates ("X was born in"). A fact of no such topic, or of unknown
subject, uses few-shot prompts instead: 21 seeded sets of four exemplars, other train facts of its topic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sftknow_core.errors import DataError
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.prompts import exemplar_pool, few_shot_completion, few_shot_sets, first_line
from sftknow_core.facts.topics import Topic


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
