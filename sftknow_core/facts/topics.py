"""Topics: the relations that facts belong to, each with its question and 21 completion templates.

The 24 topics shipped in topics.json are the Wikidata relations of EntityQuestions (Sciavolino et al. 2021),
its question templates word for word. The completion templates are ours: each ends right before the object,
so that what a language model writes next is its answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sftknow_core.errors import DataError
from sftknow_core.facts.fact import DOMAINS

N_COMPLETIONS = 21
"""Completion templates a topic; mastery is defined over this many (N_map of Ye et al. 2025)."""
_SUBJECT = "{subject}"
_TOPICS_FILE = Path(__file__).with_name("topics.json")


@dataclass(frozen=True)
class Topic:
    """One relation."""

    id: str
    """Wikidata property, e.g. "P19"."""
    name: str
    """For people, e.g. "place of birth"."""
    domain: str
    """in (one trains on it) or out (only tested)."""
    question: str
    """Question template with one {subject}."""
    completions: tuple[str, ...]
    """21 templates with one {subject}, each ending right before the object, without a trailing space."""

    def subject_of(self, question: str) -> str | None:
        """What remains of a question when the template is taken away; None when it does not fit."""
        before, after = self.question.split(_SUBJECT)
        fits = question.startswith(before) and question.endswith(after)
        subject = question[len(before) : len(question) - len(after)] if fits else ""
        return subject.strip() or None

    def completion(self, i: int, subject: str) -> str:
        """The i-th completion prompt (0..20) about a subject."""
        return self.completions[i].replace(_SUBJECT, subject)


def load_topics(path: Path | None = None) -> dict[str, Topic]:
    """Topic id -> topic, in the file's order; without a path the 24 topics that come with sftknow.

    Raises:
        DataError: the file cannot be read, or a topic in it is incomplete.
    """
    file = path or _TOPICS_FILE
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise DataError(
            f"cannot read the topics file {file}: {e.strerror or e}; give an existing file"
        ) from e
    except ValueError as e:
        raise DataError(f"the topics file {file} is not JSON ({e}); correct it or leave it out") from e
    if not isinstance(entries, list) or not entries:
        raise DataError(
            f"the topics file {file} must hold a list of topics; see topics.json in sftknow_core/facts"
        )
    topics: dict[str, Topic] = {}
    for number, entry in enumerate(entries, start=1):
        topic = _topic(entry, f"{file}, topic {number}")
        if topic.id in topics:
            raise DataError(f"{file}: topic {topic.id} stands there twice; remove one")
        topics[topic.id] = topic
    return topics


def _topic(entry: Any, where: str) -> Topic:
    if not isinstance(entry, dict):
        raise DataError(
            f"{where}: got {type(entry).__name__}; a topic is an object with id, name, domain, ..."
        )
    for key in ("id", "name", "domain", "question"):
        if not isinstance(entry.get(key), str) or not entry[key].strip():
            raise DataError(f"{where}: `{key}` is missing or not text; add it")
    completions = entry.get("completions")
    if not isinstance(completions, list) or not all(isinstance(c, str) for c in completions):
        raise DataError(f"{where} ({entry['id']}): `completions` must be a list of texts")
    if entry["domain"] not in DOMAINS:
        raise DataError(
            f"{where} ({entry['id']}): domain is {entry['domain']!r}; allowed: {', '.join(DOMAINS)}"
        )
    if len(set(completions)) != N_COMPLETIONS or len(completions) != N_COMPLETIONS:
        raise DataError(
            f"{where} ({entry['id']}): {len(set(completions))} different completion templates; "
            f"mastery needs exactly {N_COMPLETIONS}"
        )
    for template in (entry["question"], *completions):
        if template.count(_SUBJECT) != 1 or template != template.strip():
            raise DataError(
                f"{where} ({entry['id']}): the template {template!r} must hold {_SUBJECT} exactly once "
                "and neither begin nor end with a space"
            )
    return Topic(entry["id"], entry["name"], entry["domain"], entry["question"], tuple(completions))


def topics_id(topics: Mapping[str, Topic]) -> str:
    """16 hex digits: changes when any template or domain does."""
    text = json.dumps({key: asdict(topic) for key, topic in sorted(topics.items())}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
