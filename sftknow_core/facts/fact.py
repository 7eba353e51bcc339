"""A fact and a set of facts: what the model is asked.

A fact is one (topic, subject, object) triple with the question that asks for the object. Its identity is a
hash of (topic, question), so the same fact keeps its id whatever file it was read from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

SPLITS = ("train", "dev", "test")
DOMAINS = ("in", "out")
DOMAIN_NAMES = {"in": "in-domain", "out": "out-of-domain"}


@dataclass(frozen=True)
class Fact:
    """One question with the answers that count as right."""

    topic: str
    """Wikidata property of the relation, e.g. "P19"; "" for own facts without a topic."""
    question: str
    """The question as asked."""
    objects: tuple[str, ...]
    """The answers, the main one first; any of them is right."""
    subject: str | None = None
    """What the question is about; None when it is not known (own facts)."""
    split: str = "test"
    """train, dev or test."""
    domain: str = "in"
    """in (topics one trains on) or out."""
    answer_in_question: bool = False
    """Whether the question's own text already contains one of the answers."""

    @cached_property
    def fact_id(self) -> str:
        """16 hex digits of sha256(topic, question)."""
        return hashlib.sha256(f"{self.topic}\0{self.question}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Dropped:
    """How many rows a reader left out, and why."""

    reason: str
    topic: str
    split: str
    n: int


@dataclass(frozen=True)
class FactSet:
    """Facts in a fixed order, with what was left out on the way."""

    facts: tuple[Fact, ...]
    source: str
    """Where they came from, for people: "demo" or a path."""
    dropped: tuple[Dropped, ...] = ()
    notes: dict[str, int] = field(default_factory=dict)
    """Counts worth telling, e.g. {"merged": 12}."""
    ref: Mapping[str, Any] | None = field(default=None, compare=False)
    """How to read them again (dataset.FactsRef as plain values); None: nobody said."""

    def select(self, split: str | None = None, domain: str | None = None) -> tuple[Fact, ...]:
        """The facts of one split and domain (None: any), in order."""
        return tuple(
            f
            for f in self.facts
            if (split is None or f.split == split) and (domain is None or f.domain == domain)
        )

    @cached_property
    def data_id(self) -> str:
        """16 hex digits: changes when any fact, answer, split or domain does; order does not matter."""
        digest = hashlib.sha256()
        for line in sorted(
            "\0".join((f.topic, f.question, *f.objects, f.split, f.domain, f.subject or ""))
            for f in self.facts
        ):
            digest.update(line.encode() + b"\n")
        return digest.hexdigest()[:16]


def question_set_id(fact_ids: Iterable[str]) -> str:
    """16 hex digits of the sorted fact ids: numbers over different sets are never compared."""
    return hashlib.sha256("\n".join(sorted(fact_ids)).encode()).hexdigest()[:16]
