"""What the page of token shifts says about one question, and the prompts it was asked with, as far as they are known.

Prompts are not stored. The question prompt is rebuilt where the named prompt still has the id that the run recorded;
a completion prompt where the run used the shipped topics, from the template's number and the subject of the question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd

from sftknow_core.errors import SpecError
from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.facts.prompts import PROMPT_VERSION, load_prompt
from sftknow_core.facts.topics import Topic, load_topics, topics_id
from sftknow_core.present import columns, glossary
from sftknow_core.present.charts.tokens import GOLD, spelled
from sftknow_core.results.chain import Chain
from sftknow_core.results.question_detail import FirstToken
from sftknow_core.results.questions import FIVE_SHOT
from sftknow_core.store.run_spec import RunSpec

DEFINITIONS = glossary.bullets(
    "KL", "gold answer", "correct", "base prompt", "models", "k", "k = 100%", "mastery level"
)
_TOKENS = columns.of(
    "p_base", "p_tuned", "p_restored", "rank_base", "rank_tuned", "rank_restored", "share_base", "share_tuned"
)
_UNKNOWN_PROMPT = "not known: the prompt “{name}” is no longer the one that this chain used"


@dataclass(frozen=True)
class SentPrompt:
    """One prompt."""

    to: str
    """Which models, e.g. "base"."""
    text: str | None
    """As it was sent, apart from the tokenizer's BOS; None: not known."""
    note: str
    """What it is, or why it is not known."""


def sent_prompts(details: Chain, asked: RunSpec, question: Mapping[str, Any]) -> tuple[SentPrompt, ...]:
    """The question prompt and the base's completion prompt of one question.

    asked: Questions.sent_as; question: a row of questions.QuestionTable.
    """
    return (_question_prompt(details, asked, str(question["question"])), _completion_prompt(asked, question))


def topic_name(topic: str) -> str:
    """ "place of birth (P19)"; the id alone for topics that are not shipped."""
    known = _topics().get(topic)
    return f"{known.name} ({topic})" if known else topic or "no topic"


def plain(text: str) -> str:
    """Text in which Markdown sees nothing to format."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$:-])", r"\\\1", text)


def counted(n: int, n_all: int, k_percent: float) -> str:
    """How many questions pass the filters."""
    return f"{n:,} of {n_all:,} questions pass the filters (restored: k = {k_percent:g}%)."


def about_spread(spread: pd.DataFrame) -> str:
    """What the histogram's last bin is, where there is one beyond the axis."""
    beyond = spread[spread["beyond"]]
    if beyond.empty:
        return ""
    row = beyond.iloc[0]
    return (
        f" The hatched bar at the end holds all beyond {row['low']:.1f} nats: {row['n_tuned']:,} tuned, and (circle) "
        f"{row['n_restored']:,} restored."
    )


def about_kl_over_n(rows: pd.DataFrame) -> str:
    """What the mean KL is of, and what its dashed line means. rows: results.accuracy.shifts."""
    n = rows.groupby("domain")[["n_scored", "n"]].max()
    counted = "; ".join(
        f"{DOMAIN_NAMES.get(str(domain), str(domain))} {row['n_scored']:,} of {row['n']:,} scored"
        for domain, row in n.iterrows()
    )
    return (
        f"Aligned KL in nats, tuned against base ({counted}: base has to begin its completion with the answer, so the "
        "questions are the same for every chain). Dashed: base itself, its question prompt against its completion "
        "prompt, so that much comes from the change of prompt and not of weights; a tuned model can lie below."
    )


def answers(question: Mapping[str, Any], course: pd.DataFrame, k_percent: float, base: str) -> str:
    """Gold, and what base, tuned and restored say, each with its mark, as a Markdown list."""
    before = "five" if base == FIVE_SHOT else "base"
    at_k = course[course["k_percent"] == k_percent].iloc[0]
    said = (
        (f"base, {base}", question[f"{before}_answer"], question[f"{before}_right"]),
        ("tuned", question["tuned_answer"], question["tuned_right"]),
        (f"restored {k_percent:g}%", at_k["answer"], at_k["is_right"]),
    )
    marks = {True: "✓ right", False: "✗ wrong"}
    lines = [f"- gold: **{plain(question['gold'])}**"]
    for who, answer, right in said:
        shown = (
            "not asked" if answer is None else f"**{plain(str(answer)) or '(nothing)'}** {marks[bool(right)]}"
        )
        lines.append(f"- {who}: {shown}")
    if question["base_completion"]:
        starts = "begins with the answer" if question["kept"] else "does not begin with the answer"
        said_on = plain(str(question["base_completion"]).strip())
        lines.insert(1, f"- base, completing a sentence: **{said_on}**, {starts}")
    return "\n".join(lines)


def token_table(tokens: pd.DataFrame) -> pd.DataFrame:
    """FirstToken.tokens for people: tokens with white space made visible, shares in percent with two places."""
    shares = [name for name in _TOKENS if not name.startswith("rank")]
    written = tokens[shares].map(lambda p: "–" if pd.isna(p) else f"{p:.2%}")
    ranks = tokens[["rank_base", "rank_tuned", "rank_restored"]]
    stars = tokens["is_gold"].map({True: f"{GOLD} ", False: ""}) + tokens["token"].map(spelled)
    table = pd.concat([stars.rename("token"), written, ranks], axis=1)
    return table[["token", *_TOKENS]].rename(
        columns={name: column.header for name, column in _TOKENS.items()}
    )


def about(question: Mapping[str, Any], place: int | None, n: int) -> str:
    """One line under the question."""
    level = "no mastery level" if pd.isna(question["level"]) else f"mastery level {question['level']:g}"
    where = f"{place:,} of {n:,} in the list" if place else "not among the questions listed now"
    domain = DOMAIN_NAMES.get(question["domain"], question["domain"])
    return f"{topic_name(question['topic'])} · {domain} · {question['split']} · {level} · {where}"


def comes_back(question: Mapping[str, Any]) -> str:
    """At which k the right answer is there again."""
    if question["tuned_right"]:
        return "The tuned model answers rightly: nothing has to come back."
    if pd.isna(question["back_at_k"]):
        return "At no measured k does the right answer come back."
    whole = " (the hybrid: all of the region put back)" if question["back_at_k"] == 100 else ""
    return f"The right answer comes back at k = {question['back_at_k']:g}%{whole}."


def outside(found: FirstToken, k_percent: float) -> str:
    """The mass that the bars do not show, and their KL."""
    mass = {state: f"{found.outside[state]:.1%}" for state in found.outside}
    said = f"Outside tuned's ten tokens: tuned {mass['tuned']}"
    if "base" in mass:
        said += f", base {mass['base']}"
    said += (
        f"; outside its own ten: restored {k_percent:g}% {mass['restored']}." if "restored" in mass else "."
    )
    if found.kl_nats is not None:
        said += f" KL over tuned's ten, tuned against base: {found.kl_nats:.2f} nats"
        kl = found.kl_restored_nats
        said += "." if kl is None else f"; restored against base, over its own ten: {kl:.2f} nats."
    if found.reason:
        said += f" Not compared with base: {found.reason}."
    if "restored" in found.bounds:
        said += f" A missing teal bar: below {100 * found.bounds['restored']:.2g}%, outside its own ten."
    return said


def ranked(n_less: int, n: int, kl_nats: float | None) -> str:
    """Where this question stands among the scored ones."""
    if kl_nats is None:
        return f"{n:,} scored questions of this split and domain. The opened question was not scored."
    return f"The opened question moved further than {n_less:,} of the {n:,} scored ones of this split and domain."


def _question_prompt(details: Chain, asked: RunSpec, question: str) -> SentPrompt:
    who = "tuned and restored"
    name = str((details.spec.params.get("evaluate") or {}).get("prompt", "paper"))
    try:
        prompt = load_prompt(name)
    except SpecError:
        return SentPrompt(who, None, _UNKNOWN_PROMPT.format(name=name))
    recorded, version = asked.params.get("prompt"), asked.versions.get("prompt")
    if recorded is None:
        return SentPrompt(
            who, prompt.prompt(question), f"prompt “{name}”; the run recorded no id to check it by"
        )
    if recorded != prompt.prompt_id or version != PROMPT_VERSION:
        return SentPrompt(who, None, _UNKNOWN_PROMPT.format(name=name))
    inside = (
        "; the user's message in the tokenizer's chat template, which is not stored" if prompt.is_chat else ""
    )
    return SentPrompt(who, prompt.prompt(question), f"prompt “{name}”{inside}")


def _completion_prompt(asked: RunSpec, question: Mapping[str, Any]) -> SentPrompt:
    number = question["template"]
    if pd.isna(number):
        return SentPrompt(
            "base", None, f"none was sent: {question['reason'] or 'first tokens were not measured'}"
        )
    said = f"completion template {int(number) + 1} of its topic"
    topic = _topics().get(str(question["topic"]))
    if asked.inputs.get("topics") not in (None, topics_id(_topics())):
        return SentPrompt("base", None, f"{said}; not known: the chain used other topics than those shipped")
    subject = topic.subject_of(str(question["question"])) if topic else None
    if topic is None or subject is None:
        return SentPrompt(
            "base",
            None,
            f"{said}; not known: few-shot examples drawn from train facts, which are not stored here",
        )
    return SentPrompt("base", topic.completion(int(number), subject), f"{said}, the one base does best with")


@cache
def _topics() -> dict[str, Topic]:
    return load_topics()
