"""The facts a user names: the demo world, EntityQuestions, or a file of their own."""

from __future__ import annotations

import hashlib
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sftknow_core.errors import DataError, SpecError, unknown_field
from sftknow_core.facts.entity_questions import read_entity_questions
from sftknow_core.facts.fact import Fact, FactSet
from sftknow_core.facts.own import is_own_facts, read_own_facts
from sftknow_core.facts.records import SUFFIXES
from sftknow_core.facts.topics import Topic, load_topics

# A smaller set of facts: at most so many of each topic and split, the same ones every time.


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


DEMO = "demo"


def load_facts(
    source: str,
    *,
    topics_path: Path | None = None,
    filter: str = "paper",
    keep_leaks: bool = False,
) -> FactSet:
    """The facts of "demo", of the EntityQuestions zip or folder, or of a file of your own (see own.py).

    `topics_path`, `filter` and `keep_leaks` concern EntityQuestions only; the others have each question once.

    Raises:
        DataError: there is nothing at that path, or it cannot be read as any of these.
        SpecError: an unknown filter, or keep_leaks with filter "all".
    """
    if source == DEMO:
        from sftknow_core.facts.demo_world import demo_facts  # building the world takes a moment

        return demo_facts()
    path = Path(source).expanduser()
    if is_own_facts(path):
        return read_own_facts(path)
    if path.is_file() and path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        raise DataError(
            f'{path}: cannot tell what this is; give "{DEMO}", the EntityQuestions zip or folder, '
            f"or a file of your own ({', '.join(SUFFIXES)})"
        )
    topics = load_topics(topics_path)
    return read_entity_questions(path, topics, filter=filter, keep_leaks=keep_leaks)


# Which facts a command is about: a source and the options that change what is read from it.


@dataclass(frozen=True)
class FactsRef:
    """The facts a user names, by the options of the command line."""

    data: str = DEMO
    """demo, the EntityQuestions zip or folder, a .csv, .tsv, .json, .jsonl or .parquet file."""
    topics: str | None = None
    """Another topics file."""
    filter: str = "paper"
    keep_leaks: bool = False
    sample: int | None = None
    """At most so many facts of each topic and split."""

    def load(self) -> tuple[FactSet, dict[str, Topic]]:
        """The facts, which remember this reference, and the topics. Raises DataError and SpecError as load_facts."""
        topics = Path(self.topics) if self.topics else None
        facts = load_facts(self.data, topics_path=topics, filter=self.filter, keep_leaks=self.keep_leaks)
        if self.sample is not None:
            facts = sample_facts(facts, self.sample)
        return replace(facts, ref=self.absolute().to_json()), load_topics(topics)

    def absolute(self) -> FactsRef:
        """The same from whatever working directory."""
        data = self.data if self.data == DEMO else str(Path(self.data).expanduser().absolute())
        topics = str(Path(self.topics).expanduser().absolute()) if self.topics else None
        return replace(self, data=data, topics=topics)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> FactsRef:
        """The inverse of `to_json`. Raises SpecError for unknown fields."""
        known = {one.name for one in fields(cls)}
        if unknown := sorted(set(plain) - known):
            raise unknown_field("facts: ", unknown[0], sorted(known))
        return cls(**plain)
