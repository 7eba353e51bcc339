"""A set of facts in numbers: one row a topic and split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sftknow_core.facts.fact import SPLITS, Fact, FactSet


def majority_answers(train: Iterable[Fact]) -> dict[str, str]:
    """Topic -> the most frequent main object; among equals the first in alphabetical order."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for fact in train:
        counts[fact.topic][fact.objects[0]] += 1
    return {topic: min(c, key=lambda obj: (-c[obj], obj)) for topic, c in counts.items()}


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
