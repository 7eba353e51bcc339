"""Which facts a command is about: a source and the options that change what is read from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import DEMO, load_facts
from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.sample import sample_facts
from sftknow_core.facts.topics import Topic, load_topics


@dataclass(frozen=True)
class FactsRef:
    """The facts a user names, by the options of the command line."""

    data: str = DEMO
    """demo, the EntityQuestions zip or folder, a .csv or .jsonl file."""
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
            raise SpecError(f"facts: unknown field {unknown[0]!r}; allowed: {', '.join(sorted(known))}")
        return cls(**plain)
