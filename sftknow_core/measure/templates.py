"""Which completion template stands for a topic: the one with which the base model succeeds most.

Success is measured on the development facts of level 4, so that the choice depends on the base model alone
and never on a test question. Equal successes: the template with the smaller number. Counts come from table
`mastery_templates`; where there are none, score_mastery of the development facts gives them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

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
