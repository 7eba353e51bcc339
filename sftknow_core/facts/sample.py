"""A smaller set of facts: at most so many of each topic and split, the same ones every time."""

from __future__ import annotations

import hashlib
from collections import defaultdict

from sftknow_core.errors import SpecError
from sftknow_core.facts.fact import Fact, FactSet


def sample_facts(facts: FactSet, per_topic_and_split: int, seed: int = 0) -> FactSet:
    """At most that many facts of each (topic, split), in their old order; a larger sample holds the smaller.

    Raises SpecError unless the number is at least 1.
    """
    if per_topic_and_split < 1:
        raise SpecError(f"sample: got {per_topic_and_split}; allowed: at least 1 fact a topic and split")
    groups: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    for fact in facts.facts:
        groups[fact.topic, fact.split].append(fact)
    kept = {
        fact
        for group in groups.values()
        for fact in sorted(group, key=lambda f: _rank(f, seed))[:per_topic_and_split]
    }
    chosen = tuple(fact for fact in facts.facts if fact in kept)
    notes = facts.notes | {"left out by sampling": len(facts.facts) - len(chosen)}
    source = f"{facts.source}, at most {per_topic_and_split} facts a topic and split"
    return FactSet(chosen, source, facts.dropped, notes)


def _rank(fact: Fact, seed: int) -> bytes:
    return hashlib.blake2b(f"sample:{seed}:{fact.fact_id}".encode(), digest_size=16).digest()
