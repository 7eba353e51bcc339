"""Which completion template stands for a topic: the one with which the base model succeeds most.

Success is measured on the development facts of level 4, so that the choice depends on the base model alone
and never on a test question. Equal successes: the template with the smaller number. Counts come from table
`mastery_templates`; where there are none, score_mastery of the development facts gives them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sftknow_core.facts.fact import Fact


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
    template_rows: Iterable[Mapping[str, Any]],
) -> dict[str, TemplateChoice]:
    """Topic -> its choice, for every topic asked for.

    facts: all there are, of which the dev split counts; levels: fact_id -> level under the base model;
    template_rows: rows of table `mastery_templates` under it, those of other facts are passed over.
    """
    dev = {fact.fact_id: fact.topic for fact in facts if fact.split == "dev"}
    counted: dict[str, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in template_rows:
        if (topic := dev.get(row["fact_id"])) is not None:
            counted["dev"][topic].append(row)
            if levels.get(row["fact_id"]) == 4:
                counted["dev level 4"][topic].append(row)
    choices = {}
    for topic in topics:
        basis = next((b for b in ("dev level 4", "dev") if counted[b][topic]), "none")
        choices[topic] = _choose(topic, counted[basis][topic], basis)
    return choices


def _choose(topic: str, rows: list[Mapping[str, Any]], basis: str) -> TemplateChoice:
    n_correct: dict[int, int] = defaultdict(int)
    n_samples: dict[int, int] = defaultdict(int)
    for row in rows:
        n_correct[row["template"]] += row["n_correct"]
        n_samples[row["template"]] += row["n_samples"]
    best = min(n_samples, key=lambda t: (-n_correct[t] / n_samples[t], t), default=0)
    return TemplateChoice(
        topic=topic,
        template=best,
        n_correct=n_correct[best],
        n_samples=n_samples[best],
        n_facts=len({row["fact_id"] for row in rows}),
        basis=basis,
    )
