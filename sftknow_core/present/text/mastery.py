"""Texts and number cards of the page "Facts and mastery": one run, one fact, and its prompts.

Prompts are not stored. They are rebuilt where the run used the topics that are shipped, from the template's number
and the subject of the question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd

from sftknow_core.analysis.published import CITATION, SET_NAMES, mastery_distribution, sets_of
from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.facts.synonyms import load_synonyms, with_synonyms
from sftknow_core.facts.topics import Topic, load_topics, topics_id
from sftknow_core.present import glossary
from sftknow_core.present.text.story import KeyNumber, Part
from sftknow_core.present.text.tokens import plain, topic_name
from sftknow_core.results.mastery import N_BINS, Numbers, Sampling

DEFINITIONS = glossary.bullets(
    "R",
    "mastery level",
    "interval of R",
    "borderline",
    "expected mastery",
    "possible false level 0",
    "rank correlation",
    "domain",
)
NO_COMPLETIONS = (
    "Mastery runs store counts, not texts. Sampling is seeded, so the same completions can be sampled again."
)
_HOW = {
    "completion": "completion template {n}",
    "question": "zero-shot",
    "five-shot": "5-shot",
}


def how_measured(model: str, sampling: Sampling, n_chains: int) -> str:
    """The run's settings in one line. model: its name; n_chains: the finished ones that took their levels from it."""
    rule = {"words": "as whole words", "substring": "as part of the text"}.get(sampling.matcher, "exactly")
    used = f"{n_chains:,} finished run{'' if n_chains == 1 else 's'}"
    return (
        f"{plain(model)}: {sampling.n_samples} completions of each template at temperature "
        f"{sampling.temperature:g}, at most {sampling.max_new_tokens} tokens, seed {sampling.seed}; correct: the gold "
        f"answer occurs {rule}. Used by {used}."
    )


def cards(numbers: Numbers, split_half: Sequence[Sequence[int]]) -> tuple[KeyNumber, ...]:
    """The numbers on top of the page. split_half: Mastery.split_half."""
    n, n_scored, agreement = numbers.n, numbers.n_scored, numbers.agreement
    half, n_half = _same(split_half)
    unscored = "all have a level" if n == n_scored else f"{n - n_scored:,} have no level"
    difference = agreement.mean_abs_difference
    rank = "–" if agreement.spearman is None else f"{agreement.spearman:.3f}"
    away = (
        "Expected mastery was not computed."
        if difference is None
        else f"Mean absolute difference {100 * difference:.1f} pp; same level for {_share(numbers.same_level)} of "
        "the facts."
    )
    return (
        KeyNumber("Facts", (Part("in all", f"{n:,}", unscored),), "Selected split and domain."),
        KeyNumber(
            "Mean R",
            (Part("over facts", _share(numbers.mean_r), f"n = {n_scored:,} facts"),),
            "Share of correct completions, mean over facts.",
        ),
        KeyNumber(
            "Borderline",
            (
                Part(
                    "of the facts",
                    _share(_ratio(numbers.n_borderline, numbers.n_with_interval)),
                    f"{numbers.n_borderline:,} of {numbers.n_with_interval:,} facts",
                ),
            ),
            "95% CI of R crosses 25, 50 or 75%: another level is possible.",
        ),
        KeyNumber(
            "Possible false level 0",
            (
                Part(
                    "of level 0",
                    _share(_ratio(numbers.n_marked, numbers.n_level0)),
                    f"{numbers.n_marked:,} of {numbers.n_level0:,} facts",
                ),
            ),
            "0 correct samples, but expected > 1.",
        ),
        KeyNumber(
            "R vs. expected mastery",
            (Part("rank correlation", rank, f"n = {agreement.n:,} facts"),),
            away,
        ),
        KeyNumber(
            "Split-half agreement",
            (Part("of the facts", _share(half), f"n = {n_half:,} facts of the whole run"),),
            "Same level from even and from odd templates.",
        ),
    )


def not_scored(reasons: Mapping[str, int]) -> str:
    """Why some facts have no level; "" where all have one."""
    why = "; ".join(f"{n:,}: {plain(reason)}" for reason, n in reasons.items())
    return f"Excluded (no level): {why}." if why else ""


def beside_paper(split: str | None, domain: str | None, models: list[str]) -> tuple[pd.DataFrame, str]:
    """The paper's shares by level for some of its models, and their caption."""
    sets = sets_of(split, domain)
    if not sets:
        return mastery_distribution("none"), (
            f"No such numbers in the paper ({CITATION}): it has no dev set, and no train facts out-of-domain."
        )
    found = mastery_distribution(split, domain)
    said = (
        f"Symbols: the paper's models ({CITATION}) on its own facts of EntityQuestions, "
        f"{'; '.join(SET_NAMES[name] for name in sets)}; "
        f"n = {int(found[found['model'] == found['model'].iloc[0]]['n_facts'].sum()):,} facts. "
        "Other facts and other models: compare shapes, not values."
    )
    return found[found["model"].isin(models)].reset_index(drop=True), said


def both(levels: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """model, level, n_facts, share: this model's rows, then the paper's. levels: Mastery.by_level."""
    return pd.concat([levels.assign(model="this model")[list(paper.columns)], paper], ignore_index=True)


def agreement(numbers: Numbers) -> str:
    """Caption of the figure of R vs. expected mastery."""
    found = numbers.agreement
    if found.mean_abs_difference is None:
        return "Expected mastery was not computed for these facts."
    rank = "undefined" if found.spearman is None else f"{found.spearman:.3f}"
    return (
        f"R is from samples, expected mastery from the model's probabilities. n = {found.n:,} facts: Spearman {rank}, "
        f"mean absolute difference {100 * found.mean_abs_difference:.1f} pp, same level "
        f"{_share(numbers.same_level)}. Dashed: equal; dotted: level borders. Cells are 5 pp wide; those at 0 are "
        "R = 0, and at most one expected correct completion."
    )


def topic_names(topics: pd.DataFrame) -> dict[str, str]:
    """Topic -> its name. topics: a table with a column "topic"."""
    return {topic: topic_name(topic) for topic in topics["topic"].unique()}


def cell_table(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of the heat map by their upper edges, 0 to 1. cells: Mastery.against_expected."""
    edges = {"r_bin_to": cells["r_bin"] / N_BINS, "expected_bin_to": cells["expected_bin"] / N_BINS}
    return pd.DataFrame({**edges, "n_facts": cells["n_facts"]})


def confusion_table(confusion: tuple[tuple[int, ...], ...]) -> pd.DataFrame:
    """Facts by level from R (rows) and level from expected mastery (columns)."""
    columns = [f"expected_{level}" for level in range(5)]
    table = pd.DataFrame([list(row) for row in confusion], columns=columns)
    return table.assign(level=list(range(5)))[["level", *columns]]


def about(fact: Mapping[str, Any], place: int | None, n: int) -> str:
    """One line under the fact's question."""
    where = f"{place:,} of {n:,} in the list" if place else "not in the list"
    domain = DOMAIN_NAMES.get(fact["domain"], fact["domain"])
    return f"{topic_name(fact['topic'])} · {domain} · {fact['split']} · {where}"


def verdict(fact: Mapping[str, Any]) -> str:
    """Level, R with its interval, borderline or not, expected mastery, as a Markdown list."""
    gold = str(fact["gold"])
    others = [name for name in with_synonyms((gold,), _synonyms()) if name != gold]
    known = f", also {', '.join(f'“{plain(name)}”' for name in others)}" if others else ""
    lines = [f"- Gold answer: **{plain(gold)}**{known}"]
    if fact["level"] is None:
        return "\n".join(
            [*lines, f"- No mastery level: {plain(str(fact['reason'] or 'no reason recorded'))}"]
        )
    interval = (
        "no interval: a single template"
        if fact["r_low"] is None
        else f"95% CI {fact['r_low']:.1%} to {fact['r_high']:.1%}, over {fact['n_templates']} templates"
    )
    lines.append(
        f"- **R = {fact['r']:.1%}**: {fact['n_correct']:,} of {fact['n_samples']:,} completions correct; {interval}"
    )
    lines.append(f"- **Mastery level {fact['level']}**; {_borderline(fact)}")
    if fact["expected_mastery"] is not None:
        marked = (
            "; possible false level 0: 0 correct samples, but expected > 1"
            if fact["expected_level0_marked"]
            else ""
        )
        lines.append(f"- Expected mastery: {fact['expected_mastery']:.1%}{marked}")
    return "\n".join(lines)


def prompts_of(fact: Mapping[str, Any], run_topics: str | None) -> tuple[list[str] | None, str]:
    """The fact's 21 prompts, and what they are; None where they are unknown.

    run_topics: the id of the topics that the run used (its input "topics").
    """
    if run_topics is not None and run_topics != topics_id(_topics()):
        return None, "Prompts unknown: the run used other topics than the shipped ones."
    topic = _topics().get(str(fact["topic"]))
    subject = topic.subject_of(str(fact["question"])) if topic else None
    if topic is None or subject is None:
        return None, (
            "Prompts unknown: this fact has no completion templates, and the few-shot examples are not stored."
        )
    return [topic.completion(i, subject) for i in range(len(topic.completions))], (
        "The base model completed each of these prompts."
    )


def sample_table(prompts: Sequence[str], completions: Sequence[Sequence[str]]) -> pd.DataFrame:
    """template (from 1), prompt, samples ("Kurfu ×7 · Ruvas ×3", the most frequent first)."""
    rows = []
    for number, (prompt, samples) in enumerate(zip(prompts, completions, strict=True), start=1):
        counts = Counter(text.strip().split("\n")[0] or "(empty)" for text in samples).most_common()
        said = " · ".join(text if n == 1 else f"{text} ×{n}" for text, n in counts)
        rows.append({"template": number, "prompt": prompt, "samples": said})
    return pd.DataFrame(rows, columns=["template", "prompt", "samples"])


def template_table(templates: pd.DataFrame, prompts: list[str] | None) -> pd.DataFrame:
    """template (from 1), prompt, right ("7 of 10"), share, expected. templates: Mastery.templates."""
    right = [
        f"{n} of {total}" for n, total in zip(templates["n_correct"], templates["n_samples"], strict=True)
    ]
    texts = [prompts[i] if prompts and i < len(prompts) else "unknown" for i in templates["template"]]
    table = templates.assign(template=templates["template"] + 1, prompt=texts, right=right)
    return table[["template", "prompt", "right", "share", "expected"]]


def said(answers: pd.DataFrame) -> str:
    """The base's greedy answers, as a Markdown list. answers: Mastery.said_by_base.

    A completion is correct when it begins with the gold answer.
    """
    lines = []
    for row in answers.itertuples(index=False):
        number = "" if row.how != "completion" else str(int(str(row.template)) + 1)
        mark = "✓" if row.is_right else "✗"
        text = plain(str(row.text).strip().replace("\n", " ")) or "(empty)"
        lines.append(f"- Base ({_HOW[str(row.how)].format(n=number)}): **{text}** {mark}")
    return "\n".join(lines)


def _borderline(fact: Mapping[str, Any]) -> str:
    if fact["borderline"] is None:
        return "borderline: unknown"
    if not fact["borderline"]:
        return "not borderline: 95% CI crosses none of 25, 50 and 75%"
    crossed = [f"{b:.0%}" for b in (0.25, 0.5, 0.75) if fact["r_low"] <= b < fact["r_high"]]
    return f"⚠ **borderline**: 95% CI crosses {' and '.join(crossed)}, so another level is possible"


def _same(confusion: Sequence[Sequence[int]]) -> tuple[float | None, int]:
    """Share on the diagonal, and how many there are."""
    n = sum(sum(row) for row in confusion)
    return _ratio(sum(row[i] for i, row in enumerate(confusion)), n), n


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


@cache
def _topics() -> dict[str, Topic]:
    return load_topics()


@cache
def _synonyms() -> dict[str, tuple[str, ...]]:
    return load_synonyms()
