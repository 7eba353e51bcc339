"""A set of facts in numbers: one row a topic and split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sftknow_core.facts.fact import SPLITS, Fact, FactSet
from sftknow_core.facts.matcher import FactMatcher
from sftknow_core.facts.synonyms import Synonyms

# The floor: how often the topic's most frequent answer would be right.
#
# A model that learned nothing but "the country is mostly Koro" reaches it, so accuracy is read against it.


@dataclass(frozen=True)
class Floor:
    """The majority answer of one topic, tried on some facts."""

    topic: str
    answer: str | None
    """The most frequent main object among the train facts; None: the topic has none there."""
    n: int
    """Facts tried."""
    n_right: int | None
    """Of them, those for which the answer is right; None without an answer."""

    @property
    def accuracy(self) -> float | None:
        """n_right / n; None when there is nothing to divide."""
        return None if self.n_right is None or not self.n else self.n_right / self.n


def majority_answers(train: Iterable[Fact]) -> dict[str, str]:
    """Topic -> the most frequent main object; among equals the first in alphabetical order."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for fact in train:
        counts[fact.topic][fact.objects[0]] += 1
    return {topic: min(c, key=lambda obj: (-c[obj], obj)) for topic, c in counts.items()}


def majority_floor(
    train: Iterable[Fact], facts: Iterable[Fact], synonyms: Synonyms, matcher: str = "words"
) -> list[Floor]:
    """One row a topic of `facts`, in order of appearance: train's majority answer given to every question."""
    return floor_of(majority_answers(train), facts, synonyms, matcher)


def floor_of(
    answers: Mapping[str, str], facts: Iterable[Fact], synonyms: Synonyms, matcher: str = "words"
) -> list[Floor]:
    """The same for given answers by topic."""
    by_topic: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        by_topic[fact.topic].append(fact)
    return [_floor(topic, answers.get(topic), same, synonyms, matcher) for topic, same in by_topic.items()]


def _floor(topic: str, answer: str | None, facts: list[Fact], synonyms: Synonyms, matcher: str) -> Floor:
    if answer is None:
        return Floor(topic, None, len(facts), None)
    n_right = sum(FactMatcher(fact, synonyms).is_correct(answer, matcher) for fact in facts)
    return Floor(topic, answer, len(facts), n_right)


@dataclass(frozen=True)
class SummaryRow:
    """What a set holds of one topic and split."""

    topic: str
    domain: str | None
    """in or out; None when every row of the topic was left out."""
    split: str
    n: int
    """Facts."""
    n_flagged: int
    """Of them, those whose question contains an answer."""
    dropped: Mapping[str, int]
    """Reason -> rows left out, reasons in alphabetical order."""

    @property
    def n_dropped(self) -> int:
        """Rows left out, for whatever reason."""
        return sum(self.dropped.values())


def summarise(facts: FactSet) -> list[SummaryRow]:
    """One row a (topic, split) that has or had facts: topics as they appear, then train, dev, test."""
    n: Counter[tuple[str, str]] = Counter()
    n_flagged: Counter[tuple[str, str]] = Counter()
    domains: dict[str, str] = {}
    for fact in facts.facts:
        n[fact.topic, fact.split] += 1
        n_flagged[fact.topic, fact.split] += fact.answer_in_question
        domains.setdefault(fact.topic, fact.domain)
    dropped: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for drop in facts.dropped:
        dropped[drop.topic, drop.split][drop.reason] += drop.n
    topics = dict.fromkeys((*domains, *(topic for topic, _ in dropped)))
    return [
        SummaryRow(
            topic=topic,
            domain=domains.get(topic),
            split=split,
            n=n[topic, split],
            n_flagged=n_flagged[topic, split],
            dropped=MappingProxyType(dict(sorted(dropped[topic, split].items()))),
        )
        for topic in topics
        for split in SPLITS
        if n[topic, split] or dropped[topic, split]
    ]
